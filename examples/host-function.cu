// A host function fills the pinned buffer that the next asynchronous copy in its stream reads.
//
// A remote GPU could get wrong here: the bytes of the copy must be those that the host function left, not those
// that were there when the copy was called; the stream must wait until the function has returned; and a second
// function must see what the copy before it brought back.
#include "expect.h"

#include <atomic>
#include <chrono>
#include <thread>

constexpr int count = 4096;
constexpr int rounds = 25;

__global__ void addOne(const int *in, int *out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = in[i] + 1;
}

struct Round {
    int number;
    int *source;          // pinned, shared by all rounds
    const int *result;    // pinned, shared by all rounds
    std::atomic<int> *done;
    int wrong;
};

static void fill(void *argument) {
    Round *round = static_cast<Round *>(argument);
    // Long enough for whoever does not wait to be caught.
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    for (int i = 0; i < count; i++) round->source[i] = round->number * count + i;
}

static void verify(void *argument) {
    Round *round = static_cast<Round *>(argument);
    for (int i = 0; i < count; i++)
        if (round->result[i] != round->number * count + i + 1) round->wrong++;
    round->done->fetch_add(1);
}

static void callback(cudaStream_t, cudaError_t status, void *argument) {
    if (status == cudaSuccess) static_cast<std::atomic<int> *>(argument)->fetch_add(1);
}

int main() {
    int *source, *result, *deviceIn, *deviceOut;
    const size_t bytes = count * sizeof(int);
    CHECK(cudaMallocHost(&source, bytes));
    CHECK(cudaMallocHost(&result, bytes));
    CHECK(cudaMalloc(&deviceIn, bytes));
    CHECK(cudaMalloc(&deviceOut, bytes));
    for (int i = 0; i < count; i++) source[i] = -1000000;
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));

    // Everything is queued at once: the same two buffers serve all rounds, one after the other.
    std::atomic<int> done{0};
    Round all[rounds];
    for (int number = 0; number < rounds; number++) {
        Round &round = all[number];
        round = {number, source, result, &done, 0};
        CHECK(cudaLaunchHostFunc(stream, fill, &round));
        CHECK(cudaMemcpyAsync(deviceIn, source, bytes, cudaMemcpyHostToDevice, stream));
        addOne<<<count / 256, 256, 0, stream>>>(deviceIn, deviceOut);
        CHECK(cudaGetLastError());
        CHECK(cudaMemcpyAsync(result, deviceOut, bytes, cudaMemcpyDeviceToHost, stream));
        CHECK(cudaLaunchHostFunc(stream, verify, &round));
    }
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(done == rounds);
    for (const Round &round : all) EXPECT(round.wrong == 0);
    std::printf("%d rounds through one buffer\n", rounds);

    // A callback runs before the work after it, too, and synchronising waits for it.
    std::atomic<int> called{0};
    for (int i = 0; i < 10; i++) CHECK(cudaStreamAddCallback(stream, callback, &called, 0));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(called == 10);
    std::printf("%d callbacks\n", called.load());

    // An event after a host function is not complete before the function has returned.
    cudaEvent_t event;
    CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    std::atomic<int> open{0};
    CHECK(cudaLaunchHostFunc(
        stream,
        [](void *argument) {
            while (*static_cast<std::atomic<int> *>(argument) == 0) std::this_thread::yield();
        },
        &open));
    CHECK(cudaEventRecord(event, stream));
    EXPECT(cudaEventQuery(event) == cudaErrorNotReady);
    EXPECT(cudaStreamQuery(stream) == cudaErrorNotReady);
    open = 1;
    CHECK(cudaEventSynchronize(event));
    EXPECT(cudaEventQuery(event) == cudaSuccess);
    std::printf("the event waits for the function\n");

    CHECK(cudaEventDestroy(event));
    CHECK(cudaStreamDestroy(stream));
    CHECK(cudaFree(deviceIn));
    CHECK(cudaFree(deviceOut));
    CHECK(cudaFreeHost(source));
    CHECK(cudaFreeHost(result));
    std::printf("PASSED\n");
    return 0;
}
