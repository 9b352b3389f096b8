// Keeps a GPU busy: launches, waits, checks and prints a line, until it has done ROUNDS rounds.
// usage: busy ROUNDS [HOLD_MIB] [PAUSE_MS]
#include "../../examples/check.h"

#include <unistd.h>

__global__ void count(unsigned *counters) { counters[blockIdx.x * blockDim.x + threadIdx.x] += 1; }

int main(int argumentCount, char **arguments) {
    const unsigned rounds = argumentCount > 1 ? std::atoi(arguments[1]) : 100;
    const size_t held = static_cast<size_t>(argumentCount > 2 ? std::atoi(arguments[2]) : 16) << 20;
    const unsigned pauseMs = argumentCount > 3 ? std::atoi(arguments[3]) : 20;
    constexpr int threads = 256;
    unsigned results[threads];

    unsigned *counters = nullptr;
    CHECK(cudaMalloc(&counters, held));
    CHECK(cudaMemset(counters, 0, threads * sizeof *counters));
    for (unsigned round = 1; round <= rounds; round++) {
        count<<<4, threads / 4>>>(counters);
        CHECK(cudaGetLastError());
        CHECK(cudaMemcpy(results, counters, sizeof results, cudaMemcpyDeviceToHost));
        for (unsigned value : results) {
            if (value == round) continue;
            std::printf("round %u: a counter is %u\nFAILED\n", round, value);
            return 1;
        }
        std::printf("round %u\n", round);
        std::fflush(stdout);
        usleep(pauseMs * 1000);
    }
    CHECK(cudaFree(counters));
    std::printf("PASSED\n");
    return 0;
}
