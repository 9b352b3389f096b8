// A call that may fail after it has returned, in each of three contexts: the next call of the same context that waits tells.
//
// A remote GPU could get wrong here: the answer brings the error of another context, and that of its own a call later.
#include "../../examples/expect.h"

#include <cuda.h>
#include <dlfcn.h>

#define DRIVER(call, symbol) reinterpret_cast<decltype(&::call)>(dlsym(driver, symbol))

int main() {
    CHECK(cudaFree(nullptr));
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    const auto create = DRIVER(cuCtxCreate_v4, "cuCtxCreate_v4");
    const auto setCurrent = DRIVER(cuCtxSetCurrent, "cuCtxSetCurrent");
    const auto setLimit = DRIVER(cuCtxSetLimit, "cuCtxSetLimit");
    const auto memory = DRIVER(cuMemGetInfo, "cuMemGetInfo_v2");
    CUcontext contexts[3];
    for (CUcontext &context : contexts) EXPECT(create(&context, nullptr, 0, 0) == CUDA_SUCCESS);
    for (int order = 0; order < 3; order++) {
        int errors[3]{};
        // Not every GPU knows this limit.
        for (int index = 0; index < 3; index++) {
            EXPECT(setCurrent(contexts[index]) == CUDA_SUCCESS);
            errors[index] += setLimit(CU_LIMIT_SHMEM_SIZE, 0) != CUDA_SUCCESS;
        }
        for (int step = 0; step < 3; step++) {
            const int index = (order + 2 * step) % 3;
            size_t free, total;
            EXPECT(setCurrent(contexts[index]) == CUDA_SUCCESS);
            errors[index] += memory(&free, &total) != CUDA_SUCCESS;
            EXPECT(memory(&free, &total) == CUDA_SUCCESS);
        }
        EXPECT(errors[0] == errors[1] && errors[1] == errors[2]);
    }
    std::printf("each call told the error of its own context\nPASSED\n");
    return 0;
}
