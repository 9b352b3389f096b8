// One thread puts much more work on a stream than a driver takes at once; what ends the wait comes from elsewhere.
//
// A remote GPU could get wrong here: whoever queues so much must be held back, and nobody else, least of all the call or
// the answer for which all of it waits.
// usage: full-queue kernels|memsets|copies|callback|destroyed|failed
#include "../../examples/expect.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

constexpr int pieces = 60000;

__global__ void waitFor(const volatile int *flag) {
    while (*flag == 0) {
    }
}

__global__ void increment(int *counter) { *counter += 1; }

static std::atomic<int> queued{0};

// Until the other thread is done, or stands still because the queue is full.
static void untilItStands() {
    for (int before = -1; queued != before || before == 0;) {
        before = queued;
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
}

static void CUDART_CB standStill(void *) { untilItStands(); }

int main(int argumentCount, char **arguments) {
    const char *mode = argumentCount > 1 ? arguments[1] : "kernels";
    int *flag, *counter, *one;
    CHECK(cudaMalloc(&flag, sizeof(int)));
    CHECK(cudaMalloc(&counter, sizeof(int)));
    CHECK(cudaMallocHost(&one, sizeof(int)));
    CHECK(cudaMemset(flag, 0, sizeof(int)));
    CHECK(cudaMemset(counter, 0, sizeof(int)));
    *one = 1;
    CHECK(cudaDeviceSynchronize());
    cudaStream_t queue, others;
    CHECK(cudaStreamCreateWithFlags(&queue, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithFlags(&others, cudaStreamNonBlocking));
    increment<<<1, 1, 0, others>>>(counter);
    CHECK(cudaMemsetAsync(counter, 0, sizeof(int), others));
    CHECK(cudaStreamSynchronize(others));

    if (!std::strcmp(mode, "failed")) {
        // A kernel that fails ends the context: whoever queues behind it is told so and not held back for ever.
        increment<<<1, 1, 0, queue>>>(reinterpret_cast<int *>(8));
        for (int i = 0; i < pieces && cudaPeekAtLastError() == cudaSuccess; i++) increment<<<1, 1, 0, queue>>>(counter);
        std::printf("behind a kernel that failed: %s\nPASSED\n", cudaGetErrorName(cudaDeviceSynchronize()));
        return 0;
    }
    const bool isCallback = !std::strcmp(mode, "callback");
    if (isCallback) {
        CHECK(cudaLaunchHostFunc(queue, standStill, nullptr));
    } else {
        waitFor<<<1, 1, 0, queue>>>(flag);
        CHECK(cudaGetLastError());
    }
    auto setFlag = [&] {
        CHECK(cudaMemcpyAsync(flag, one, sizeof(int), cudaMemcpyHostToDevice, others));
        CHECK(cudaStreamSynchronize(others));
    };
    cudaEvent_t end;
    CHECK(cudaEventCreate(&end));
    if (!std::strcmp(mode, "destroyed")) {
        // The work goes on, and its event tells when it is done.
        CHECK(cudaEventRecord(end, queue));
        CHECK(cudaStreamDestroy(queue));
        EXPECT(cudaEventQuery(end) == cudaErrorNotReady);
        setFlag();
        while (cudaEventQuery(end) == cudaErrorNotReady) {
        }
        CHECK(cudaEventQuery(end));
        CHECK(cudaEventSynchronize(end));
        std::printf("the event of a destroyed stream is reached\nPASSED\n");
        return 0;
    }
    std::thread queuing([&] {
        for (int i = 0; i < pieces; i++) {
            if (!std::strcmp(mode, "memsets")) {
                CHECK(cudaMemsetAsync(counter, i & 0xff, sizeof(int), queue));
            } else if (!std::strcmp(mode, "copies")) {
                CHECK(cudaMemcpyAsync(counter, one, sizeof(int), cudaMemcpyHostToDevice, queue));
            } else {
                increment<<<1, 1, 0, queue>>>(counter);
                CHECK(cudaGetLastError());
            }
            queued++;
        }
    });
    if (!isCallback) {
        untilItStands();
        EXPECT(cudaStreamQuery(queue) == cudaErrorNotReady);
        setFlag();
    }
    queuing.join();
    CHECK(cudaEventRecord(end, queue));
    CHECK(cudaEventSynchronize(end));
    int result = 0;
    CHECK(cudaMemcpy(&result, counter, sizeof result, cudaMemcpyDeviceToHost));
    const int last = (pieces - 1) & 0xff;
    const int expected = !std::strcmp(mode, "memsets") ? last * 0x01010101 : !std::strcmp(mode, "copies") ? 1 : pieces;
    EXPECT(result == expected);
    std::printf("%d pieces of work: %s\nPASSED\n", pieces, mode);
    return 0;
}
