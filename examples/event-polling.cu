// Polls on an event, then reads the pinned buffer without any other wait.
//
// A remote GPU could get wrong here: the event must not look complete before the copied bytes are in the
// buffer, and a loop of queries must end by itself.
#include "expect.h"

constexpr int count = 50000;
constexpr int rounds = 40;

__global__ void fill(int *values, int n, int start) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) values[i] = start + i;
}

int main() {
    int *device, *pinned;
    const size_t bytes = count * sizeof(int);
    CHECK(cudaMalloc(&device, bytes));
    CHECK(cudaMallocHost(&pinned, bytes));
    for (int i = 0; i < count; i++) pinned[i] = -1;
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    cudaEvent_t event;
    CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    EXPECT(cudaEventQuery(event) == cudaSuccess); // never recorded

    const volatile int *seen = pinned;
    for (int round = 0; round < rounds; round++) {
        fill<<<(count + 255) / 256, 256, 0, stream>>>(device, count, round * 7);
        CHECK(cudaGetLastError());
        CHECK(cudaMemcpyAsync(pinned, device, bytes, cudaMemcpyDeviceToHost, stream));
        // Odd rounds ask the stream instead of an event.
        cudaError_t answer;
        if (round % 2 == 0) CHECK(cudaEventRecord(event, stream));
        do {
            answer = round % 2 == 0 ? cudaEventQuery(event) : cudaStreamQuery(stream);
        } while (answer == cudaErrorNotReady);
        CHECK(answer);
        // From the end: what arrives last is looked at first.
        for (int i = count - 1; i >= 0; i--) EXPECT(seen[i] == round * 7 + i);
    }
    (void)cudaGetLastError(); // "not ready" is kept as the last error by some releases
    std::printf("%d rounds of %d values\n", rounds, count);

    CHECK(cudaEventDestroy(event));
    CHECK(cudaStreamDestroy(stream));
    CHECK(cudaFree(device));
    CHECK(cudaFreeHost(pinned));
    std::printf("PASSED\n");
    return 0;
}
