// Contexts come and go with memory that nobody freed, by reset, by destruction, and after an error; each time the memory is
// there again, and what other contexts have stays as it is.
#include "../../examples/expect.h"

#include <cuda.h>
#include <dlfcn.h>

#include <vector>

// A function of the driver, without linking against it.
#define DRIVER(call, symbol) reinterpret_cast<decltype(&::call)>(dlsym(driver, symbol))

__global__ void mark(unsigned *first, unsigned *last, unsigned value) {
    *first = value;
    *last = value;
}

static const size_t sizes[] = {100, 60000, 1 << 20, (3 << 20) + 512, 64 << 20, 500 << 20};

static void leave() {
    for (size_t bytes : sizes) {
        unsigned *block = nullptr;
        CHECK(cudaMalloc(&block, bytes));
        mark<<<1, 1>>>(block, block + bytes / sizeof(unsigned) - 1, 7);
        CHECK(cudaGetLastError());
    }
    unsigned *freed = nullptr;
    CHECK(cudaMalloc(&freed, 20 << 20));
    CHECK(cudaFree(freed));
}

static void reset(bool afterAnError) {
    if (afterAnError) {
        EXPECT(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
        EXPECT(cudaGetLastError() == cudaErrorIllegalAddress);
    }
    // Some drivers tell of the error once more.
    (void)cudaDeviceReset();
    (void)cudaGetLastError();
}

static size_t freeBytes() {
    size_t free = 0, total = 0;
    CHECK(cudaMemGetInfo(&free, &total));
    return free;
}

int main() {
    mark<<<1, 1>>>(nullptr, nullptr, 0);
    reset(true);
    size_t before = freeBytes();
    for (int round = 0; round < 4; round++) {
        leave();
        EXPECT(freeBytes() + (564 << 20) <= before);
        const bool afterAnError = round % 2 == 1;
        if (afterAnError) mark<<<1, 1>>>(nullptr, nullptr, 0);
        reset(afterAnError);
        EXPECT(freeBytes() == before);
    }
    std::printf("after resets: all is free again\n");

    unsigned *own = nullptr;
    const size_t words = 100 << 18;
    CHECK(cudaMalloc(&own, words * sizeof(unsigned)));
    mark<<<1, 1>>>(own, own + words - 1, 9);
    before = freeBytes();
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    const auto create = DRIVER(cuCtxCreate_v4, "cuCtxCreate_v4");
    const auto destroy = DRIVER(cuCtxDestroy, "cuCtxDestroy_v2");
    const auto allocate = DRIVER(cuMemAlloc, "cuMemAlloc_v2");
    const auto fill = DRIVER(cuMemsetD32, "cuMemsetD32_v2");
    for (int round = 0; round < 4; round++) {
        CUcontext context;
        EXPECT(create(&context, nullptr, 0, 0) == CUDA_SUCCESS);
        std::vector<CUdeviceptr> blocks(20);
        for (CUdeviceptr &block : blocks) {
            EXPECT(allocate(&block, 10 << 20) == CUDA_SUCCESS);
            EXPECT(fill(block, 5, 1024) == CUDA_SUCCESS);
        }
        EXPECT(destroy(context) == CUDA_SUCCESS);
        EXPECT(freeBytes() == before);
    }
    unsigned last = 0;
    CHECK(cudaMemcpy(&last, own + words - 1, sizeof last, cudaMemcpyDeviceToHost));
    EXPECT(last == 9);
    std::printf("after destructions: all of the others is free again\n");
    std::printf("PASSED\n");
    return 0;
}
