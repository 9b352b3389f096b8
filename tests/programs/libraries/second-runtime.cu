// A library with a CUDA runtime of its own, as plugins bring one.
#include "../guest.h"

#include <thread>

__device__ int counter;

__global__ void count() { atomicAdd(&counter, 1); }

extern "C" int countInSecond(int *device, int rounds) {
    work();
    addOne<<<1, 1>>>(device, 1); // memory of the other runtime's, in the same primary context
    for (int round = 0; round < rounds; round++) count<<<1, 32>>>();
    int total = -1;
    CHECK(cudaMemcpyFromSymbol(&total, counter, sizeof total));
    std::thread([] { work(); }).join();
    return total;
}

extern "C" const void *runtimeOfSecond() { return reinterpret_cast<const void *>(&cudaGetErrorName); }
