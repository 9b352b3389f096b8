// What CUDA says about pointers, kernels and how many blocks fit.
//
// A remote GPU could get wrong here: host memory is the client's and device memory the server's, and every
// pointer must be told apart; a kernel's attributes come from the server's compiler; occupancy is asked thousands
// of times by libraries and must be right.
#include "expect.h"

#include <cstring>

constexpr int tile = 1000;

__global__ void __launch_bounds__(128) bounded(float *values) { values[threadIdx.x] *= 2.0f; }

__global__ void withShared(float *values) {
    __shared__ float local[tile];
    for (int i = threadIdx.x; i < tile; i += blockDim.x) local[i] = values[i];
    __syncthreads();
    values[threadIdx.x] = local[tile - 1 - threadIdx.x];
}

__device__ int variable;

static const char *kindOf(const void *pointer) {
    cudaPointerAttributes attributes;
    CHECK(cudaPointerGetAttributes(&attributes, pointer));
    switch (attributes.type) {
    case cudaMemoryTypeUnregistered:
        EXPECT(attributes.devicePointer == nullptr);
        return "unregistered";
    case cudaMemoryTypeHost:
        EXPECT(attributes.hostPointer == pointer);
        return "host";
    case cudaMemoryTypeDevice:
        EXPECT(attributes.devicePointer == pointer && attributes.hostPointer == nullptr && attributes.device == 0);
        return "device";
    case cudaMemoryTypeManaged: return "managed";
    default: return "unknown";
    }
}

static void pointers() {
    const size_t bytes = 1 << 20;
    char *device, *pinned, *plain = new char[bytes];
    static char registered[1 << 16] __attribute__((aligned(4096)));
    CHECK(cudaMalloc(&device, bytes));
    CHECK(cudaMallocHost(&pinned, bytes));
    CHECK(cudaHostRegister(registered, sizeof registered, cudaHostRegisterDefault));
    void *symbol = nullptr;
    CHECK(cudaGetSymbolAddress(&symbol, variable));
    std::printf("cudaMalloc: %s, inside %s\n", kindOf(device), kindOf(device + bytes - 1));
    std::printf("cudaMallocHost: %s, inside %s\n", kindOf(pinned), kindOf(pinned + bytes - 1));
    std::printf("cudaHostRegister: %s, inside %s\n", kindOf(registered), kindOf(registered + 5000));
    std::printf("variable: %s\n", kindOf(symbol));
    std::printf("new: %s\n", kindOf(plain));
    int local = 0;
    std::printf("stack: %s\n", kindOf(&local));
    unsigned flags = 99;
    CHECK(cudaHostGetFlags(&flags, pinned));
    std::printf("flags of pinned memory: %u\n", flags);

    // cudaMemcpyDefault decides by the pointers alone.
    std::memset(pinned, 7, bytes);
    CHECK(cudaMemcpy(device, pinned, bytes, cudaMemcpyDefault));
    CHECK(cudaMemcpy(plain, device, bytes, cudaMemcpyDefault));
    EXPECT(std::memcmp(plain, pinned, bytes) == 0);
    CHECK(cudaMemcpy(registered, plain, sizeof registered, cudaMemcpyDefault));
    EXPECT(registered[5000] == 7);

    CHECK(cudaHostUnregister(registered));
    CHECK(cudaFree(device));
    CHECK(cudaFreeHost(pinned));
    std::printf("afterwards: %s\n", kindOf(registered));
    delete[] plain;
}

template <typename Kernel> static void kernel(const char *name, Kernel *function) {
    cudaFuncAttributes attributes;
    CHECK(cudaFuncGetAttributes(&attributes, function));
    EXPECT(attributes.numRegs > 0 && attributes.ptxVersion > 0 && attributes.binaryVersion > 0);
    std::printf("%s: %zu bytes of shared memory, %zu constant, at most %d threads\n", name, attributes.sharedSizeBytes,
                attributes.constSizeBytes, attributes.maxThreadsPerBlock);
    for (int threads : {32, 128}) {
        int blocks = 0;
        CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, threads, 0));
        std::printf("  %d threads: %d blocks per multiprocessor\n", threads, blocks);
        EXPECT(blocks > 0);
    }
    int blocks = 0, grid = 0, block = 0;
    CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, 64, 40000));
    std::printf("  64 threads and 40000 bytes: %d blocks per multiprocessor\n", blocks);
    CHECK(cudaOccupancyMaxPotentialBlockSize(&grid, &block, function, 0, 0));
    std::printf("  best: %d blocks of %d threads\n", grid, block);
    size_t dynamic = 0;
    CHECK(cudaOccupancyAvailableDynamicSMemPerBlock(&dynamic, function, 2, 128));
    std::printf("  2 blocks of 128 threads leave %zu bytes\n", dynamic);
}

int main() {
    pointers();
    kernel("bounded", bounded);
    kernel("withShared", withShared);

    float *values;
    CHECK(cudaMalloc(&values, tile * sizeof(float)));
    CHECK(cudaMemset(values, 0, tile * sizeof(float)));
    bounded<<<1, 129>>>(values);
    const cudaError_t answer = cudaGetLastError();
    std::printf("129 threads of 128: %s\n", cudaGetErrorName(answer));
    EXPECT(answer == cudaErrorInvalidValue || answer == cudaErrorLaunchOutOfResources);
    bounded<<<1, 128>>>(values);
    CHECK(cudaGetLastError());
    CHECK(cudaFree(values));
    std::printf("PASSED\n");
    return 0;
}
