// A copy to pinned memory, and behind it in the same stream a graph with a copy to the same memory: the graph's is later.
//
// A remote GPU could get wrong here: the bytes of both travel by different ways and land in the wrong order.
#include "../../examples/expect.h"

#include <cstring>

__global__ void takeTime(int *place, int turns) {
    volatile int sum = 0;
    for (int i = 0; i < turns; i++) sum += i;
    *place = turns;
}

int main() {
    constexpr size_t most = 4 << 20;
    constexpr size_t sizes[] = {4096, 100 << 10, 1 << 20, most};
    unsigned char *first, *second, *host;
    int *place;
    CHECK(cudaMalloc(&first, most));
    CHECK(cudaMalloc(&second, most));
    CHECK(cudaMalloc(&place, sizeof(int)));
    CHECK(cudaMallocHost(&host, most));
    CHECK(cudaMemset(first, 0xaa, most));
    CHECK(cudaMemset(second, 0xbb, most));
    CHECK(cudaDeviceSynchronize());
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    for (size_t size : sizes) {
        cudaGraph_t graph;
        cudaGraphExec_t executable;
        CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
        CHECK(cudaMemcpyAsync(host, second, size, cudaMemcpyDeviceToHost, stream));
        CHECK(cudaStreamEndCapture(stream, &graph));
        CHECK(cudaGraphInstantiate(&executable, graph, 0));
        for (int round = 0; round < 50; round++) {
            std::memset(host, 0, size);
            takeTime<<<1, 1, 0, stream>>>(place, 2000 * (round % 5));
            CHECK(cudaMemcpyAsync(host, first, size, cudaMemcpyDeviceToHost, stream));
            CHECK(cudaGraphLaunch(executable, stream));
            CHECK(cudaStreamSynchronize(stream));
            EXPECT(host[0] == 0xbb && host[size - 1] == 0xbb);
        }
        CHECK(cudaGraphExecDestroy(executable));
        CHECK(cudaGraphDestroy(graph));
    }
    std::printf("the graph's bytes are there\nPASSED\n");
    return 0;
}
