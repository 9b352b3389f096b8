// Allocates in steps until it is refused or told to stop, and says what it got.
// usage: allocate STEP_MIB MAX_STEPS [HOLD_SECONDS [async]]
// With `async` in the order of a stream; afterwards it frees all without waiting and allocates as much again.
#include "../../examples/check.h"

#include <cstring>
#include <unistd.h>
#include <vector>

int main(int count, char **arguments) {
    const size_t step = static_cast<size_t>(count > 1 ? std::atoi(arguments[1]) : 64) << 20;
    const int most = count > 2 ? std::atoi(arguments[2]) : 1 << 20;
    const int hold = count > 3 ? std::atoi(arguments[3]) : 0;
    const bool async = count > 4 && std::strcmp(arguments[4], "async") == 0;

    cudaDeviceProp properties;
    CHECK(cudaGetDeviceProperties(&properties, 0));
    size_t free = 0, total = 0;
    CHECK(cudaMemGetInfo(&free, &total));
    std::printf("totalMem %zu\nmemGetInfo total %zu\n", properties.totalGlobalMem, total);

    std::vector<void *> blocks;
    cudaError_t result = cudaSuccess;
    for (int i = 0; i < most; i++) {
        void *memory = nullptr;
        result = async ? cudaMallocAsync(&memory, step, nullptr) : cudaMalloc(&memory, step);
        if (result != cudaSuccess) break;
        blocks.push_back(memory);
    }
    size_t freeAfter = 0;
    CHECK(cudaMemGetInfo(&freeAfter, &total));
    std::printf("allocated %zu\nended by %s\nfree before %zu\nfree after %zu\n", blocks.size() * step,
                cudaGetErrorName(result), free, freeAfter);
    if (async) {
        cudaGetLastError();
        for (void *block : blocks) CHECK(cudaFreeAsync(block, nullptr));
        for (void *&block : blocks) CHECK(cudaMallocAsync(&block, step, nullptr));
        CHECK(cudaDeviceSynchronize());
        std::printf("allocated again\n");
    }
    std::printf("holding\n");
    std::fflush(stdout);
    if (hold > 0) sleep(hold);
    return 0;
}
