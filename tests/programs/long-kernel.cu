// A kernel that runs for so many milliseconds while its program makes no call but the one that waits for it.
// usage: long-kernel MILLISECONDS
#include "../../examples/check.h"

__global__ void spin(unsigned long long nanoseconds, unsigned *done) {
    unsigned long long start, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
    do {
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    } while (now - start < nanoseconds);
    *done = 1;
}

int main(int argumentCount, char **arguments) {
    const unsigned long long milliseconds = argumentCount > 1 ? std::atoi(arguments[1]) : 1000;
    unsigned *done = nullptr, result = 0;
    CHECK(cudaMalloc(&done, sizeof *done));
    CHECK(cudaMemset(done, 0, sizeof *done));
    spin<<<1, 1>>>(milliseconds * 1000000, done);
    CHECK(cudaGetLastError());
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaMemcpy(&result, done, sizeof result, cudaMemcpyDeviceToHost));
    CHECK(cudaFree(done));
    std::printf("%s\n", result == 1 ? "PASSED" : "FAILED");
    return result == 1 ? 0 : 1;
}
