// One thread queues 5,000 kernels behind a kernel that waits for a flag in device memory; another thread's copy
// sets the flag.
//
// A remote GPU could get wrong here: a driver makes the first thread wait when its queue is full, and whoever
// executes the calls of both threads must not wait with it, else the copy that would end the wait never comes.
#include "expect.h"

#include <atomic>
#include <chrono>
#include <thread>

constexpr int kernels = 5000;

__global__ void waitFor(const volatile int *flag) {
    while (*flag == 0) {
    }
}

__global__ void increment(int *counter) { *counter += 1; }

int main() {
    int *flag, *counter, *one;
    CHECK(cudaMalloc(&flag, sizeof(int)));
    CHECK(cudaMalloc(&counter, sizeof(int)));
    CHECK(cudaMallocHost(&one, sizeof(int)));
    CHECK(cudaMemset(flag, 0, sizeof(int)));
    CHECK(cudaMemset(counter, 0, sizeof(int)));
    *one = 1;
    // The streams below ignore the legacy stream, on which the counters are being set.
    CHECK(cudaDeviceSynchronize());
    cudaStream_t queue, copies;
    CHECK(cudaStreamCreateWithFlags(&queue, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking));
    // Kernels are loaded when they are first launched, and loading may wait for what runs: so before the flag.
    increment<<<1, 1, 0, copies>>>(counter);
    CHECK(cudaDeviceSynchronize());

    std::atomic<int> queued{0};
    std::thread first([&] {
        waitFor<<<1, 1, 0, queue>>>(flag);
        CHECK(cudaGetLastError());
        for (int i = 0; i < kernels; i++) {
            increment<<<1, 1, 0, queue>>>(counter);
            CHECK(cudaGetLastError());
            queued++;
        }
    });
    std::thread second([&] {
        // Until the first thread is done, or stands still because the queue is full.
        int before = -1;
        while (queued != before || before == 0) {
            before = queued;
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
        }
        EXPECT(cudaStreamQuery(queue) == cudaErrorNotReady);
        CHECK(cudaMemcpyAsync(flag, one, sizeof(int), cudaMemcpyHostToDevice, copies));
        CHECK(cudaStreamSynchronize(copies));
    });
    first.join();
    second.join();

    CHECK(cudaStreamSynchronize(queue));
    int result = 0;
    CHECK(cudaMemcpy(&result, counter, sizeof result, cudaMemcpyDeviceToHost));
    EXPECT(result == kernels + 1);
    std::printf("%d kernels ran after the flag was set\n", kernels);

    CHECK(cudaStreamDestroy(queue));
    CHECK(cudaStreamDestroy(copies));
    CHECK(cudaFree(flag));
    CHECK(cudaFree(counter));
    CHECK(cudaFreeHost(one));
    std::printf("PASSED\n");
    return 0;
}
