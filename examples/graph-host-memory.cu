// Graphs that meet the host in every way: sources that the graph itself writes before it reads them, pageable
// destinations, rectangles, sources too large to be sent along, an update to another source, switched-off nodes, a
// graph inside a graph, and memory that the graph allocates.
//
// A remote GPU could get wrong here: a source must be read when the graph gets to it if a host function or a copy of
// the same graph writes it; results must be there when the launch is complete; queued launches must not mix them up.
#include <cstring>
#include <vector>

#include "expect.h"

constexpr int count = 4096;
constexpr size_t bytes = count * sizeof(int);

__global__ void addOne(int *values, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) values[i] += 1;
}

struct Buffers {
    int *from, *to;
    int calls;
};

// Ten times what came out of the GPU goes in again.
static void tenTimes(void *argument) {
    Buffers *buffers = static_cast<Buffers *>(argument);
    for (int i = 0; i < count; i++) buffers->to[i] = buffers->from[i] * 10;
    buffers->calls++;
}

static void launchAndWait(cudaGraphExec_t executable, cudaStream_t stream) {
    CHECK(cudaGraphLaunch(executable, stream));
    CHECK(cudaStreamSynchronize(stream));
}

// Copy in, add, copy out, host function, copy in again, add, copy out to pageable memory; launches queue.
static void roundTripInside(cudaStream_t stream, int *device) {
    int *first, *middle, *again;
    CHECK(cudaMallocHost(&first, bytes));
    CHECK(cudaMallocHost(&middle, bytes));
    CHECK(cudaMallocHost(&again, bytes));
    std::vector<int> result(count, -1);
    Buffers buffers = {middle, again, 0};
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    CHECK(cudaMemcpyAsync(device, first, bytes, cudaMemcpyHostToDevice, stream));
    addOne<<<count / 256, 256, 0, stream>>>(device, count);
    CHECK(cudaMemcpyAsync(middle, device, bytes, cudaMemcpyDeviceToHost, stream));
    CHECK(cudaLaunchHostFunc(stream, tenTimes, &buffers));
    CHECK(cudaMemcpyAsync(device, again, bytes, cudaMemcpyHostToDevice, stream));
    addOne<<<count / 256, 256, 0, stream>>>(device, count);
    CHECK(cudaMemcpyAsync(result.data(), device, bytes, cudaMemcpyDeviceToHost, stream));
    // The end of the graph is the beginning of the next launch.
    CHECK(cudaMemcpyAsync(first, device, bytes, cudaMemcpyDeviceToHost, stream));
    cudaGraph_t graph;
    CHECK(cudaStreamEndCapture(stream, &graph));
    cudaGraphExec_t executable;
    CHECK(cudaGraphInstantiate(&executable, graph, 0));
    for (int i = 0; i < count; i++) first[i] = i % 7;
    for (int launch = 0; launch < 3; launch++) CHECK(cudaGraphLaunch(executable, stream));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(buffers.calls == 3);
    for (int i = 0; i < count; i++) {
        int expected = i % 7;
        for (int launch = 0; launch < 3; launch++) expected = (expected + 1) * 10 + 1;
        EXPECT(result[i] == expected && first[i] == expected);
    }
    std::printf("three queued launches, each through the host and from what the last one wrote\n");
    CHECK(cudaGraphExecDestroy(executable));
    CHECK(cudaGraphDestroy(graph));
    for (int *memory : {first, middle, again}) CHECK(cudaFreeHost(memory));
}

// A rectangle of a wider host matrix in and out.
static void rectangle(cudaStream_t stream, int *device) {
    constexpr int width = 24, height = 16, hostWidth = 40;
    int source[height][hostWidth], target[height][hostWidth];
    cudaGraph_t graph;
    CHECK(cudaGraphCreate(&graph, 0));
    cudaMemcpy3DParms in = {};
    in.srcPtr = make_cudaPitchedPtr(source, sizeof source[0], hostWidth, height);
    in.dstPtr = make_cudaPitchedPtr(device, width * sizeof(int), width, height);
    in.extent = make_cudaExtent(width * sizeof(int), height, 1);
    in.kind = cudaMemcpyHostToDevice;
    cudaMemcpy3DParms out = {};
    out.srcPtr = in.dstPtr;
    out.dstPtr = make_cudaPitchedPtr(target, sizeof target[0], hostWidth, height);
    out.extent = in.extent;
    out.kind = cudaMemcpyDeviceToHost;
    cudaGraphNode_t copyIn, copyOut;
    CHECK(cudaGraphAddMemcpyNode(&copyIn, graph, nullptr, 0, &in));
    CHECK(cudaGraphAddMemcpyNode(&copyOut, graph, &copyIn, 1, &out));
    cudaGraphExec_t executable;
    CHECK(cudaGraphInstantiate(&executable, graph, 0));
    for (int launch = 0; launch < 2; launch++) {
        for (int y = 0; y < height; y++)
            for (int x = 0; x < hostWidth; x++) source[y][x] = launch * 1000 + y * hostWidth + x, target[y][x] = -1;
        launchAndWait(executable, stream);
        for (int y = 0; y < height; y++)
            for (int x = 0; x < hostWidth; x++) EXPECT(target[y][x] == (x < width ? source[y][x] : -1));
    }
    std::printf("a rectangle\n");
    CHECK(cudaGraphExecDestroy(executable));
    CHECK(cudaGraphDestroy(graph));
}

// Twelve MiB in, then the executable graph takes another source, then a node is switched off.
static void largeSourceAndUpdate(cudaStream_t stream) {
    constexpr size_t large = 12 << 20;
    std::vector<unsigned char> one(large, 1), two(large, 2), result(large);
    unsigned char *device;
    CHECK(cudaMalloc(&device, large));
    cudaGraph_t graphs[2];
    cudaGraphNode_t in[2], out[2];
    for (int which = 0; which < 2; which++) {
        CHECK(cudaGraphCreate(&graphs[which], 0));
        const void *source = which == 0 ? one.data() : two.data();
        CHECK(cudaGraphAddMemcpyNode1D(&in[which], graphs[which], nullptr, 0, device, source, large, cudaMemcpyHostToDevice));
        CHECK(cudaGraphAddMemcpyNode1D(&out[which], graphs[which], &in[which], 1, result.data(), device, large,
                                       cudaMemcpyDeviceToHost));
    }
    cudaGraphExec_t executable;
    CHECK(cudaGraphInstantiate(&executable, graphs[0], 0));
    launchAndWait(executable, stream);
    EXPECT(result == one);
    cudaGraphExecUpdateResultInfo info;
    CHECK(cudaGraphExecUpdate(executable, graphs[1], &info));
    EXPECT(info.result == cudaGraphExecUpdateSuccess);
    launchAndWait(executable, stream);
    EXPECT(result == two);
    CHECK(cudaGraphNodeSetEnabled(executable, in[0], 0));
    CHECK(cudaMemsetAsync(device, 3, large, stream));
    std::memset(two.data(), 4, large);
    launchAndWait(executable, stream);
    for (size_t i = 0; i < large; i++) EXPECT(result[i] == 3);
    CHECK(cudaGraphNodeSetEnabled(executable, in[0], 1));
    launchAndWait(executable, stream);
    EXPECT(result == two);
    std::printf("a large source, another one, none\n");
    CHECK(cudaGraphExecDestroy(executable));
    for (cudaGraph_t graph : graphs) CHECK(cudaGraphDestroy(graph));
    CHECK(cudaFree(device));
}

// A graph with memory of its own, in another graph's node between two copies.
static void insideAnother(cudaStream_t stream, int *device) {
    std::vector<int> source(count, 5), result(count, -1);
    cudaGraph_t graph, inner, clone;
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    addOne<<<count / 256, 256, 0, stream>>>(device, count);
    addOne<<<count / 256, 256, 0, stream>>>(device, count);
    CHECK(cudaStreamEndCapture(stream, &inner));
    CHECK(cudaGraphCreate(&graph, 0));
    cudaGraphNode_t in, child, out;
    CHECK(cudaGraphAddMemcpyNode1D(&in, graph, nullptr, 0, device, source.data(), bytes, cudaMemcpyHostToDevice));
    CHECK(cudaGraphAddChildGraphNode(&child, graph, &in, 1, inner));
    CHECK(cudaGraphAddMemcpyNode1D(&out, graph, &child, 1, result.data(), device, bytes, cudaMemcpyDeviceToHost));
    CHECK(cudaGraphClone(&clone, graph));
    CHECK(cudaGraphDestroy(graph));
    CHECK(cudaGraphDestroy(inner));
    cudaGraphExec_t executable;
    CHECK(cudaGraphInstantiate(&executable, clone, 0));
    CHECK(cudaGraphDestroy(clone));
    launchAndWait(executable, stream);
    for (int i = 0; i < count; i++) EXPECT(result[i] == 7);
    CHECK(cudaGraphExecDestroy(executable));

    int *own;
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    CHECK(cudaMallocAsync(&own, bytes, stream));
    CHECK(cudaMemsetAsync(own, 0, bytes, stream));
    addOne<<<count / 256, 256, 0, stream>>>(own, count);
    CHECK(cudaMemcpyAsync(result.data(), own, bytes, cudaMemcpyDeviceToHost, stream));
    CHECK(cudaFreeAsync(own, stream));
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaGraphInstantiate(&executable, graph, 0));
    for (int launch = 0; launch < 2; launch++) {
        std::fill(result.begin(), result.end(), -1);
        launchAndWait(executable, stream);
        for (int i = 0; i < count; i++) EXPECT(result[i] == 1);
    }
    CHECK(cudaGraphExecDestroy(executable));
    CHECK(cudaGraphDestroy(graph));
    std::printf("a graph inside a clone, and one with memory of its own\n");
}

int main() {
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    int *device;
    CHECK(cudaMalloc(&device, bytes));
    roundTripInside(stream, device);
    rectangle(stream, device);
    largeSourceAndUpdate(stream);
    insideAnother(stream, device);
    CHECK(cudaFree(device));
    CHECK(cudaStreamDestroy(stream));
    std::printf("PASSED\n");
    return 0;
}
