// What a launch says whose kernel fails.
#include "guest.h"

__global__ void fail(int *nowhere) { *nowhere = 1; }

int main() {
    work();
    fail<<<1, 1>>>(nullptr);
    std::printf("launch: %s\n", cudaGetErrorName(cudaGetLastError()));
    std::printf("synchronize: %s\n", cudaGetErrorName(cudaDeviceSynchronize()));
    return 0;
}
