// A captured stream: copy in, kernel, copy out. The pinned source changes between launches of the graph.
//
// A remote GPU could get wrong here: every launch must read the bytes that are in the source when the graph
// runs, not those at capture time; nothing may run while the stream captures; and a fork to a second stream and
// back must become part of the graph.
#include "expect.h"

constexpr int count = 5000;
constexpr int launches = 30;

__global__ void twice(const int *in, int *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = in[i] * 2;
}

__global__ void increment(int *counter) { *counter += 1; }

int main() {
    int *source, *result, *deviceIn, *deviceOut, *counter;
    const size_t bytes = count * sizeof(int);
    CHECK(cudaMallocHost(&source, bytes));
    CHECK(cudaMallocHost(&result, bytes));
    CHECK(cudaMalloc(&deviceIn, bytes));
    CHECK(cudaMalloc(&deviceOut, bytes));
    CHECK(cudaMalloc(&counter, sizeof(int)));
    CHECK(cudaMemset(counter, 0, sizeof(int)));
    cudaStream_t stream, side;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking));
    cudaEvent_t fork, join;
    CHECK(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
    CHECK(cudaEventCreateWithFlags(&join, cudaEventDisableTiming));
    CHECK(cudaDeviceSynchronize());

    for (int i = 0; i < count; i++) source[i] = result[i] = -1;
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    CHECK(cudaMemcpyAsync(deviceIn, source, bytes, cudaMemcpyHostToDevice, stream));
    CHECK(cudaEventRecord(fork, stream));
    CHECK(cudaStreamWaitEvent(side, fork, 0));
    increment<<<1, 1, 0, side>>>(counter);
    CHECK(cudaEventRecord(join, side));
    twice<<<(count + 255) / 256, 256, 0, stream>>>(deviceIn, deviceOut, count);
    CHECK(cudaMemcpyAsync(result, deviceOut, bytes, cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamWaitEvent(stream, join, 0));
    cudaStreamCaptureStatus status;
    CHECK(cudaStreamIsCapturing(stream, &status));
    EXPECT(status == cudaStreamCaptureStatusActive);
    CHECK(cudaStreamIsCapturing(side, &status));
    EXPECT(status == cudaStreamCaptureStatusActive);
    cudaGraph_t graph;
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaStreamIsCapturing(stream, &status));
    EXPECT(status == cudaStreamCaptureStatusNone);

    size_t nodes = 0;
    CHECK(cudaGraphGetNodes(graph, nullptr, &nodes));
    std::printf("captured %zu nodes\n", nodes);
    EXPECT(nodes == 4);
    for (int i = 0; i < count; i++) EXPECT(result[i] == -1); // capturing ran nothing

    cudaGraphExec_t executable;
    CHECK(cudaGraphInstantiate(&executable, graph, 0));
    CHECK(cudaGraphDestroy(graph)); // the executable graph does not need it
    for (int launch = 0; launch < launches; launch++) {
        for (int i = 0; i < count; i++) source[i] = launch * count + i;
        CHECK(cudaGraphLaunch(executable, stream));
        CHECK(cudaStreamSynchronize(stream));
        for (int i = 0; i < count; i++) EXPECT(result[i] == (launch * count + i) * 2);
    }
    std::printf("%d launches, each with another source\n", launches);

    // Launches queue one behind the other without a wait in between.
    for (int launch = 0; launch < launches; launch++) CHECK(cudaGraphLaunch(executable, stream));
    CHECK(cudaStreamSynchronize(stream));
    int counted = 0;
    CHECK(cudaMemcpy(&counted, counter, sizeof counted, cudaMemcpyDeviceToHost));
    EXPECT(counted == 2 * launches);
    std::printf("the forked stream ran %d times\n", counted);

    CHECK(cudaGraphExecDestroy(executable));
    CHECK(cudaEventDestroy(fork));
    CHECK(cudaEventDestroy(join));
    CHECK(cudaStreamDestroy(stream));
    CHECK(cudaStreamDestroy(side));
    for (void *memory : {deviceIn, deviceOut, counter}) CHECK(cudaFree(memory));
    for (void *memory : {source, result}) CHECK(cudaFreeHost(memory));
    std::printf("PASSED\n");
    return 0;
}
