// One thread waits for an event which another one records again meanwhile: it waits for what was before the first record only.
//
// A remote GPU could get wrong here: the wait takes place elsewhere and later, when the event stands for more.
#include "guest.h"

#include <atomic>
#include <chrono>
#include <thread>

struct Gate {
    std::atomic<bool> isOpen{false};
};

void CUDART_CB pass(void *gate) {
    for (int waited = 0; !static_cast<Gate *>(gate)->isOpen; waited++) {
        if (waited > 20000) {
            std::printf("a thread waits for what came later\nFAILED\n");
            std::fflush(stdout);
            std::_Exit(1);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

int main() {
    cudaStream_t first, second;
    CHECK(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    for (int pause : {0, 0, 1, 20, 200}) {
        Gate gates[2];
        cudaEvent_t event, others;
        CHECK(cudaEventCreate(&event));
        CHECK(cudaEventCreate(&others));
        CHECK(cudaLaunchHostFunc(first, pass, &gates[0]));
        CHECK(cudaEventRecord(event, first));
        CHECK(cudaEventRecord(others, first));
        std::atomic<int> waiting{0};
        std::vector<std::thread> threads;
        for (int index = 0; index < 3; index++) {
            threads.emplace_back([&, index] {
                waiting++;
                CHECK(cudaEventSynchronize(index < 2 ? event : others));
            });
        }
        while (waiting < 3) std::this_thread::yield();
        // Long enough that all of them wait.
        std::this_thread::sleep_for(std::chrono::milliseconds(50 + pause));
        CHECK(cudaLaunchHostFunc(second, pass, &gates[1]));
        CHECK(cudaEventRecord(event, second));
        gates[0].isOpen = true;
        for (auto &thread : threads) thread.join();
        EXPECT(cudaEventQuery(event) == cudaErrorNotReady);
        gates[1].isOpen = true;
        CHECK(cudaEventSynchronize(event));
        CHECK(cudaEventDestroy(event));
        CHECK(cudaEventDestroy(others));
    }
    std::printf("PASSED\n");
    return 0;
}
