// cudaDeviceReset under pending work of several streams and threads; afterwards everything begins anew.
#include "guest.h"

#include <atomic>
#include <thread>

static void leaveWork(int streams) {
    for (int i = 0; i < streams; i++) {
        cudaStream_t stream;
        CHECK(cudaStreamCreate(&stream));
        int *values;
        char *pinned;
        CHECK(cudaMalloc(&values, 1 << 20));
        CHECK(cudaMallocHost(&pinned, 1 << 20));
        for (int more = 0; more < 20; more++) {
            spin<<<1, 1, 0, stream>>>(100000);
            CHECK(cudaMemcpyAsync(values, pinned, 1 << 20, cudaMemcpyHostToDevice, stream));
            addOne<<<1024, 256, 0, stream>>>(values, 1 << 18);
            CHECK(cudaMemcpyAsync(pinned, values, 1 << 20, cudaMemcpyDeviceToHost, stream));
        }
        CHECK(cudaLaunchHostFunc(stream, [](void *) {}, nullptr));
        spin<<<1, 1, 0, cudaStreamPerThread>>>(100000);
        cudaEvent_t event;
        CHECK(cudaEventCreate(&event));
        CHECK(cudaEventRecord(event, stream));
    }
    CHECK(cudaGetLastError());
}

int main() {
    for (int round = 0; round < 5; round++) {
        std::vector<std::thread> threads;
        for (int i = 0; i < 3; i++) threads.emplace_back([] { leaveWork(2); });
        for (auto &thread : threads) thread.join();
        leaveWork(2);
        CHECK(cudaDeviceReset());
        work();
        std::thread([] { work(cudaStreamPerThread); }).join();
    }
    // Threads that wait while the device is reset under them: an answer, whichever, and no hang.
    std::atomic<int> waiting{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; i++) {
        threads.emplace_back([&] {
            cudaStream_t stream;
            CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
            for (int more = 0; more < 20; more++) spin<<<1, 1, 0, stream>>>(1000000);
            waiting++;
            (void)cudaStreamSynchronize(stream);
            (void)cudaGetLastError();
        });
    }
    while (waiting < 3) std::this_thread::yield();
    CHECK(cudaDeviceReset());
    for (auto &thread : threads) thread.join();
    work();
    std::printf("PASSED\n");
    return 0;
}
