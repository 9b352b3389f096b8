// The driver API without linking against it: libcuda.so.1 is opened by name, as the CUDA runtime does it.
#pragma once

#include <cstdio>
#include <cstdlib>

#include <cuda.h>
#include <dlfcn.h>

struct Driver {
    decltype(&::cuInit) init;
    decltype(&::cuDeviceGet) deviceGet;
    decltype(&::cuDeviceGetName) deviceGetName;
    decltype(&::cuDevicePrimaryCtxRetain) primaryCtxRetain;
    decltype(&::cuDevicePrimaryCtxRelease) primaryCtxRelease;
    decltype(&::cuCtxSetCurrent) ctxSetCurrent;
    decltype(&::cuCtxSynchronize) ctxSynchronize;
    decltype(&::cuModuleLoadDataEx) moduleLoadDataEx;
    decltype(&::cuModuleUnload) moduleUnload;
    decltype(&::cuModuleGetFunction) moduleGetFunction;
    decltype(&::cuLaunchKernel) launchKernel;
    decltype(&::cuMemAlloc) memAlloc;
    decltype(&::cuMemFree) memFree;
    decltype(&::cuMemcpyHtoD) memcpyHtoD;
    decltype(&::cuMemcpyDtoH) memcpyDtoH;
    decltype(&::cuGetErrorName) getErrorName;
};

inline Driver openDriver() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        std::exit(1);
    }
    auto symbol = [&](const char *name) {
        void *address = dlsym(library, name);
        if (address == nullptr) {
            std::fprintf(stderr, "libcuda.so.1 lacks %s\n", name);
            std::exit(1);
        }
        return address;
    };
    Driver driver;
#define RESOLVE(field, name) driver.field = reinterpret_cast<decltype(driver.field)>(symbol(name))
    RESOLVE(init, "cuInit");
    RESOLVE(deviceGet, "cuDeviceGet");
    RESOLVE(deviceGetName, "cuDeviceGetName");
    RESOLVE(primaryCtxRetain, "cuDevicePrimaryCtxRetain");
    RESOLVE(primaryCtxRelease, "cuDevicePrimaryCtxRelease_v2");
    RESOLVE(ctxSetCurrent, "cuCtxSetCurrent");
    RESOLVE(ctxSynchronize, "cuCtxSynchronize");
    RESOLVE(moduleLoadDataEx, "cuModuleLoadDataEx");
    RESOLVE(moduleUnload, "cuModuleUnload");
    RESOLVE(moduleGetFunction, "cuModuleGetFunction");
    RESOLVE(launchKernel, "cuLaunchKernel");
    RESOLVE(memAlloc, "cuMemAlloc_v2");
    RESOLVE(memFree, "cuMemFree_v2");
    RESOLVE(memcpyHtoD, "cuMemcpyHtoD_v2");
    RESOLVE(memcpyDtoH, "cuMemcpyDtoH_v2");
    RESOLVE(getErrorName, "cuGetErrorName");
#undef RESOLVE
    return driver;
}

inline const char *errorName(const Driver &driver, CUresult result) {
    const char *name = nullptr;
    return driver.getErrorName(result, &name) == CUDA_SUCCESS && name != nullptr ? name : "unknown error";
}

inline void checkDriver(const Driver &driver, CUresult result, const char *call, int line) {
    if (result == CUDA_SUCCESS) return;
    std::fprintf(stderr, "line %d: %s: %s\n", line, call, errorName(driver, result));
    std::exit(1);
}

#define CHECK_DRIVER(call) checkDriver(driver, (call), #call, __LINE__)

// A module from PTX text, with what the just-in-time compiler said about it.
struct LoadedModule {
    CUresult result;
    CUmodule module;
    char info[4096];
    char error[4096];
};

inline void loadModule(const Driver &driver, const char *ptx, LoadedModule &loaded) {
    loaded = {};
    CUjit_option options[] = {CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, CU_JIT_ERROR_LOG_BUFFER,
                              CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_LOG_VERBOSE};
    void *values[] = {loaded.info, reinterpret_cast<void *>(sizeof loaded.info), loaded.error,
                      reinterpret_cast<void *>(sizeof loaded.error), reinterpret_cast<void *>(1)};
    loaded.result = driver.moduleLoadDataEx(&loaded.module, ptx, 5, options, values);
}
