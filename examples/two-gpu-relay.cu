// Values go round between two GPUs through one pinned buffer: device to host in a stream of the one, an event,
// host to device in a stream of the other. With a single GPU, its own two streams take both parts.
//
// A remote GPU could get wrong here: the copy to the second GPU must read the pinned buffer after the copy from
// the first has written it, although the host never waits in between; and an event of one GPU must hold a stream
// of another.
#include "expect.h"

constexpr int count = 10000;
constexpr int rounds = 20;

__global__ void add(int *values, int n, int what) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) values[i] += what;
}

struct Side {
    int device;
    cudaStream_t stream;
    cudaEvent_t left; // the values have left this GPU for the buffer
    cudaEvent_t read; // this GPU has read the buffer
    int *values;
};

static void make(Side &side, int device) {
    side.device = device;
    CHECK(cudaSetDevice(device));
    CHECK(cudaStreamCreateWithFlags(&side.stream, cudaStreamNonBlocking));
    CHECK(cudaEventCreateWithFlags(&side.left, cudaEventDisableTiming));
    CHECK(cudaEventCreateWithFlags(&side.read, cudaEventDisableTiming));
    CHECK(cudaMalloc(&side.values, count * sizeof(int)));
}

static void release(Side &side) {
    CHECK(cudaSetDevice(side.device));
    CHECK(cudaStreamDestroy(side.stream));
    CHECK(cudaEventDestroy(side.left));
    CHECK(cudaEventDestroy(side.read));
    CHECK(cudaFree(side.values));
}

static void pass(Side &from, Side &to, int *buffer, int what) {
    const size_t bytes = count * sizeof(int);
    CHECK(cudaSetDevice(from.device));
    CHECK(cudaStreamWaitEvent(from.stream, to.read, 0)); // the buffer is free again
    add<<<(count + 255) / 256, 256, 0, from.stream>>>(from.values, count, what);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpyAsync(buffer, from.values, bytes, cudaMemcpyDeviceToHost, from.stream));
    CHECK(cudaEventRecord(from.left, from.stream));
    CHECK(cudaSetDevice(to.device));
    CHECK(cudaStreamWaitEvent(to.stream, from.left, 0));
    CHECK(cudaMemcpyAsync(to.values, buffer, bytes, cudaMemcpyHostToDevice, to.stream));
    CHECK(cudaEventRecord(to.read, to.stream));
}

int main() {
    int devices = 0;
    CHECK(cudaGetDeviceCount(&devices));
    Side first, second;
    make(first, 0);
    make(second, devices > 1 ? 1 : 0);
    int *buffer;
    const size_t bytes = count * sizeof(int);
    CHECK(cudaHostAlloc(&buffer, bytes, cudaHostAllocPortable));
    for (int i = 0; i < count; i++) buffer[i] = i;
    CHECK(cudaSetDevice(first.device));
    CHECK(cudaMemcpyAsync(first.values, buffer, bytes, cudaMemcpyHostToDevice, first.stream));
    CHECK(cudaStreamSynchronize(first.stream));

    for (int round = 0; round < rounds; round++) {
        pass(first, second, buffer, 1);
        pass(second, first, buffer, 100);
    }
    CHECK(cudaSetDevice(first.device));
    CHECK(cudaStreamSynchronize(first.stream));
    for (int i = 0; i < count; i++) EXPECT(buffer[i] == i + rounds * 101);
    std::printf("%d rounds between %d GPU%s\n", rounds, devices > 1 ? 2 : 1, devices > 1 ? "s" : "");

    // The same without the buffer: GPU to GPU.
    int *result = new int[count]();
    CHECK(cudaMemcpyPeerAsync(second.values, second.device, first.values, first.device, bytes, first.stream));
    CHECK(cudaEventRecord(first.left, first.stream));
    CHECK(cudaSetDevice(second.device));
    CHECK(cudaStreamWaitEvent(second.stream, first.left, 0));
    add<<<(count + 255) / 256, 256, 0, second.stream>>>(second.values, count, 7);
    CHECK(cudaGetLastError());
    CHECK(cudaStreamSynchronize(second.stream));
    CHECK(cudaMemcpy(result, second.values, bytes, cudaMemcpyDeviceToHost));
    for (int i = 0; i < count; i++) EXPECT(result[i] == i + rounds * 101 + 7);
    std::printf("peer copy\n");
    delete[] result;

    release(first);
    release(second);
    CHECK(cudaFreeHost(buffer));
    std::printf("PASSED\n");
    return 0;
}
