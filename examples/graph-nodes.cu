// A graph built node by node: memset, copy in, kernel, copy out, host function; then a kernel node gets other
// parameters in the executable graph.
//
// A remote GPU could get wrong here: parameters of a kernel node are copied when the node is made, host memory is
// read when the graph runs; the host function runs on the client after the copy out; dependencies hold.
#include "expect.h"

constexpr int count = 3000;

__global__ void combine(const int *a, const int *b, int *out, int factor, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a[i] * factor + b[i];
}

struct Sum {
    const int *values;
    long long total;
    int calls;
};

static void sumUp(void *argument) {
    Sum *sum = static_cast<Sum *>(argument);
    sum->total = 0;
    for (int i = 0; i < count; i++) sum->total += sum->values[i];
    sum->calls++;
}

static long long expectedTotal(int start, int factor) {
    long long total = 0;
    for (int i = 0; i < count; i++) total += static_cast<long long>(start + i) * factor + 0x01010101;
    return total;
}

int main() {
    int *source, *result, *a, *b, *out;
    const size_t bytes = count * sizeof(int);
    CHECK(cudaMallocHost(&source, bytes));
    CHECK(cudaMallocHost(&result, bytes));
    CHECK(cudaMalloc(&a, bytes));
    CHECK(cudaMalloc(&b, bytes));
    CHECK(cudaMalloc(&out, bytes));

    cudaGraph_t graph;
    CHECK(cudaGraphCreate(&graph, 0));
    cudaGraphNode_t copyIn, set, kernel, copyOut, host;
    CHECK(cudaGraphAddMemcpyNode1D(&copyIn, graph, nullptr, 0, a, source, bytes, cudaMemcpyHostToDevice));
    cudaMemsetParams memset = {};
    memset.dst = b;
    memset.elementSize = 1;
    memset.value = 1;
    memset.width = bytes;
    memset.height = 1;
    CHECK(cudaGraphAddMemsetNode(&set, graph, nullptr, 0, &memset));

    int factor = 3, n = count;
    void *arguments[] = {&a, &b, &out, &factor, &n};
    cudaKernelNodeParams launch = {};
    launch.func = reinterpret_cast<void *>(combine);
    launch.gridDim = dim3((count + 127) / 128);
    launch.blockDim = dim3(128);
    launch.kernelParams = arguments;
    const cudaGraphNode_t inputs[] = {copyIn, set};
    CHECK(cudaGraphAddKernelNode(&kernel, graph, inputs, 2, &launch));
    CHECK(cudaGraphAddMemcpyNode1D(&copyOut, graph, &kernel, 1, result, out, bytes, cudaMemcpyDeviceToHost));
    Sum sum = {result, 0, 0};
    cudaHostNodeParams function = {sumUp, &sum};
    CHECK(cudaGraphAddHostNode(&host, graph, &copyOut, 1, &function));
    factor = 1000; // the node has its own copy

    size_t nodes = 0, roots = 0;
    CHECK(cudaGraphGetNodes(graph, nullptr, &nodes));
    CHECK(cudaGraphGetRootNodes(graph, nullptr, &roots));
    EXPECT(nodes == 5 && roots == 2);
    cudaGraphNodeType type;
    CHECK(cudaGraphNodeGetType(kernel, &type));
    EXPECT(type == cudaGraphNodeTypeKernel);

    cudaGraphExec_t executable;
    CHECK(cudaGraphInstantiate(&executable, graph, 0));
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    for (int start = 0; start < 5; start++) {
        for (int i = 0; i < count; i++) source[i] = start + i;
        CHECK(cudaGraphLaunch(executable, stream));
        CHECK(cudaStreamSynchronize(stream));
        EXPECT(sum.calls == start + 1);
        EXPECT(sum.total == expectedTotal(start, 3));
        std::printf("launch %d: total %lld\n", start, sum.total);
    }

    factor = 5;
    CHECK(cudaGraphExecKernelNodeSetParams(executable, kernel, &launch));
    CHECK(cudaGraphLaunch(executable, stream));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(sum.total == expectedTotal(4, 5));
    std::printf("with another factor: total %lld\n", sum.total);

    CHECK(cudaGraphExecDestroy(executable));
    CHECK(cudaGraphDestroy(graph));
    CHECK(cudaStreamDestroy(stream));
    for (void *memory : {a, b, out}) CHECK(cudaFree(memory));
    for (void *memory : {source, result}) CHECK(cudaFreeHost(memory));
    std::printf("PASSED\n");
    return 0;
}
