// An assertion that fails on the device: the error comes late, and it stays.
//
// A remote GPU could get wrong here: the launch itself succeeds; the first call that waits for it answers the
// error, and so does every later one; results from before it are safe; the message goes to standard error.
#include "expect.h"

#include <cassert>

__global__ void mustBeSmall(const int *values) { assert(values[threadIdx.x] < 100); }

int main() {
    int values[32], *device;
    CHECK(cudaMalloc(&device, sizeof values));
    for (int i = 0; i < 32; i++) values[i] = i;
    CHECK(cudaMemcpy(device, values, sizeof values, cudaMemcpyHostToDevice));
    mustBeSmall<<<1, 32>>>(device);
    CHECK(cudaGetLastError());
    CHECK(cudaDeviceSynchronize());
    std::printf("no assertion fails\n");

    values[7] = 100;
    CHECK(cudaMemcpy(device, values, sizeof values, cudaMemcpyHostToDevice));
    mustBeSmall<<<1, 32>>>(device);
    CHECK(cudaPeekAtLastError());
    std::printf("synchronize: %s\n", cudaGetErrorName(cudaDeviceSynchronize()));
    std::printf("last error: %s\n", cudaGetErrorName(cudaGetLastError()));
    void *more = nullptr;
    std::printf("malloc: %s\n", cudaGetErrorName(cudaMalloc(&more, 16)));
    std::printf("copy: %s\n", cudaGetErrorName(cudaMemcpy(values, device, sizeof values, cudaMemcpyDeviceToHost)));
    std::printf("free: %s\n", cudaGetErrorName(cudaFree(device)));
    EXPECT(cudaDeviceSynchronize() == cudaErrorAssert);
    std::printf("PASSED\n");
    return 0;
}
