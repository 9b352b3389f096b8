// Allocates in steps until it is refused or told to stop, and says what it got.
// usage: allocate STEP_MIB MAX_STEPS [HOLD_SECONDS]
#include "../../examples/check.h"

#include <unistd.h>

int main(int count, char **arguments) {
    const size_t step = static_cast<size_t>(count > 1 ? std::atoi(arguments[1]) : 64) << 20;
    const int most = count > 2 ? std::atoi(arguments[2]) : 1 << 20;
    const int hold = count > 3 ? std::atoi(arguments[3]) : 0;

    cudaDeviceProp properties;
    CHECK(cudaGetDeviceProperties(&properties, 0));
    size_t free = 0, total = 0;
    CHECK(cudaMemGetInfo(&free, &total));
    std::printf("totalMem %zu\nmemGetInfo total %zu\n", properties.totalGlobalMem, total);

    size_t allocated = 0;
    cudaError_t result = cudaSuccess;
    for (int i = 0; i < most; i++) {
        void *memory = nullptr;
        result = cudaMalloc(&memory, step);
        if (result != cudaSuccess) break;
        allocated += step;
    }
    size_t freeAfter = 0;
    CHECK(cudaMemGetInfo(&freeAfter, &total));
    std::printf("allocated %zu\nended by %s\nfree before %zu\nfree after %zu\n", allocated, cudaGetErrorName(result),
                free, freeAfter);
    std::printf("holding\n");
    std::fflush(stdout);
    if (hold > 0) sleep(hold);
    return 0;
}
