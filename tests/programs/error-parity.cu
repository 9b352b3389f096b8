// Provokes every error that a program can reasonably provoke, and prints for each: what was done, the call that
// answered, its code, and what a harmless call answers afterwards. The same program on the same GPU must print the
// same lines whether it runs directly or through a pool.
// usage: error-parity [SCENARIO]; without one, every scenario, each in a process of its own, because some errors
// end a context for good. `error-parity --list` names them.
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <cuda.h>
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

static void *driverSymbol(const char *name) {
    static void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library == nullptr ? nullptr : dlsym(library, name);
    if (symbol == nullptr) {
        std::printf("libcuda.so.1 lacks %s\n", name);
        std::exit(1);
    }
    return symbol;
}

#define TEXT(name) #name
#define EXPANDED(name) TEXT(name)
// A driver call by the name that cuda.h gives it, in the variant that cuda.h means.
#define CU(name) (reinterpret_cast<decltype(&::name)>(driverSymbol(EXPANDED(name))))

static const char *nameOf(CUresult code) {
    const char *name = nullptr;
    return CU(cuGetErrorName)(code, &name) == CUDA_SUCCESS && name != nullptr ? name : "unknown";
}

static void line(const char *what, const char *call, const char *code, const char *after) {
    std::printf("%-46s %-36s %-36s then %s\n", what, call, code, after);
}

// A driver call; afterwards the context is synchronised, which tells whether the error sticks.
static CUresult driver(const char *what, const char *call, CUresult code) {
    line(what, call, nameOf(code), nameOf(CU(cuCtxSynchronize)()));
    return code;
}
#define D(what, name, ...) driver(what, EXPANDED(name), CU(name)(__VA_ARGS__))

// A runtime call; afterwards the last error is read twice, and the device synchronised.
static cudaError_t runtime(const char *what, const char *call, cudaError_t code) {
    const cudaError_t peeked = cudaPeekAtLastError(), last = cudaGetLastError(), after = cudaGetLastError();
    char all[200];
    std::snprintf(all, sizeof all, "%s, %s, %s; %s", cudaGetErrorName(peeked), cudaGetErrorName(last),
                  cudaGetErrorName(after), cudaGetErrorName(cudaDeviceSynchronize()));
    line(what, call, cudaGetErrorName(code), all);
    return code;
}
#define R(what, name, ...) runtime(what, #name, name(__VA_ARGS__))

static void must(CUresult code, const char *call) {
    if (code == CUDA_SUCCESS) return;
    std::printf("%s failed: %s\n", call, nameOf(code));
    std::exit(1);
}
#define MUST(name, ...) must(CU(name)(__VA_ARGS__), #name)

static const char *const ptx = ".version 7.0\n.target sm_52\n.address_size 64\n"
                               ".visible .global .align 4 .u32 variable;\n"
                               ".visible .entry nothing() { ret; }\n"
                               ".visible .entry store(.param .u64 to, .param .u32 value) {\n"
                               "  .reg .u64 %a; .reg .u32 %v;\n"
                               "  ld.param.u64 %a, [to]; ld.param.u32 %v, [value];\n"
                               "  st.global.u32 [%a], %v; ret;\n}\n"
                               ".visible .entry waitFor(.param .u64 flag) {\n"
                               "  .reg .u64 %a; .reg .u32 %v; .reg .pred %p;\n"
                               "  ld.param.u64 %a, [flag];\n"
                               "again:\n  ld.volatile.global.u32 %v, [%a]; setp.eq.u32 %p, %v, 0; @%p bra again;\n"
                               "  ret;\n}\n";

static CUcontext context;
static CUmodule module;
static CUfunction nothing, store, spin;

static void start() {
    MUST(cuInit, 0);
    MUST(cuCtxCreate, &context, nullptr, 0, 0);
}

static void startWithModule() {
    start();
    MUST(cuModuleLoadData, &module, ptx);
    MUST(cuModuleGetFunction, &nothing, module, "nothing");
    MUST(cuModuleGetFunction, &store, module, "store");
    MUST(cuModuleGetFunction, &spin, module, "waitFor");
}

// Addresses and handles that no call ever answered.
static const CUdeviceptr nowhere = 0x10;
static const CUdeviceptr farAway = 0x7000000000000;

static void beforeInit() {
    CUdevice device;
    CUcontext current;
    CUdeviceptr memory;
    int count, version;
    D("before cuInit", cuDeviceGetCount, &count);
    D("before cuInit", cuDeviceGet, &device, 0);
    D("before cuInit", cuCtxGetCurrent, &current);
    D("before cuInit", cuCtxCreate, &current, nullptr, 0, 0);
    D("before cuInit", cuDevicePrimaryCtxRetain, &current, 0);
    D("before cuInit", cuMemAlloc, &memory, 16);
    D("before cuInit", cuMemFree, nowhere);
    D("before cuInit", cuModuleLoadData, &module, ptx);
    D("before cuInit", cuStreamSynchronize, nullptr);
    D("before cuInit, allowed", cuDriverGetVersion, &version);
    D("no place for the version", cuDriverGetVersion, nullptr);
    D("flags", cuInit, 1);
    D("flags", cuInit, 0);
}

static void devices() {
    MUST(cuInit, 0);
    CUdevice device;
    CUcontext retained;
    CUuuid uuid;
    int value;
    size_t bytes;
    char name[64];
    unsigned flags;
    D("no place", cuDeviceGetCount, nullptr);
    D("no place", cuDeviceGet, nullptr, 0);
    D("device 99", cuDeviceGet, &device, 99);
    D("device -1", cuDeviceGet, &device, -1);
    D("device 99", cuDeviceGetName, name, sizeof name, 99);
    D("no place", cuDeviceGetName, nullptr, 64, 0);
    D("no room", cuDeviceGetName, name, 0, 0);
    D("device 99", cuDeviceTotalMem, &bytes, 99);
    D("no place", cuDeviceTotalMem, nullptr, 0);
    D("device 99", cuDeviceGetUuid, &uuid, 99);
    D("no place", cuDeviceGetUuid, nullptr, 0);
    D("device 99", cuDeviceGetAttribute, &value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 99);
    D("no place", cuDeviceGetAttribute, nullptr, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0);
    D("attribute 0", cuDeviceGetAttribute, &value, static_cast<CUdevice_attribute>(0), 0);
    D("attribute 9999", cuDeviceGetAttribute, &value, static_cast<CUdevice_attribute>(9999), 0);
    D("no room", cuDeviceGetPCIBusId, name, 0, 0);
    D("no place", cuDeviceGetPCIBusId, nullptr, 64, 0);
    D("device 99", cuDeviceGetPCIBusId, name, 64, 99);
    D("nonsense", cuDeviceGetByPCIBusId, &device, "nonsense");
    D("not there", cuDeviceGetByPCIBusId, &device, "7777:77:77.7");
    D("no text", cuDeviceGetByPCIBusId, &device, nullptr);
    D("device 99", cuDevicePrimaryCtxRetain, &retained, 99);
    D("no place", cuDevicePrimaryCtxRetain, nullptr, 0);
    D("never retained", cuDevicePrimaryCtxRelease, 0);
    D("device 99", cuDevicePrimaryCtxRelease, 99);
    D("device 99", cuDevicePrimaryCtxReset, 99);
    D("device 99", cuDevicePrimaryCtxGetState, 99, &flags, &value);
    D("flags", cuDevicePrimaryCtxSetFlags, 0, 0xffff);
    D("device 99", cuDevicePrimaryCtxSetFlags, 99, 0);
    D("device 99", cuDeviceCanAccessPeer, &value, 0, 99);
    D("no place", cuDeviceCanAccessPeer, nullptr, 0, 0);
    D("itself", cuDeviceCanAccessPeer, &value, 0, 0);
    const char *text;
    D("code 12345", cuGetErrorName, static_cast<CUresult>(12345), &text);
    D("no place", cuGetErrorName, CUDA_SUCCESS, nullptr);
    D("code 12345", cuGetErrorString, static_cast<CUresult>(12345), &text);
    void *function;
    CUdriverProcAddressQueryResult status;
    D("no such function", cuGetProcAddress, "cuNoSuchFunction", &function, 13000, 0, &status);
    D("no name", cuGetProcAddress, nullptr, &function, 13000, 0, &status);
    D("no place", cuGetProcAddress, "cuInit", nullptr, 13000, 0, &status);
}

static void noContext() {
    MUST(cuInit, 0);
    CUcontext current = nullptr;
    CUdevice device;
    CUdeviceptr memory;
    CUstream stream;
    CUevent event;
    void *host;
    int value = 0;
    size_t bytes;
    unsigned flags;
    CUlimit limit = CU_LIMIT_STACK_SIZE;
    D("no context, allowed", cuCtxGetCurrent, &current);
    D("no context", cuCtxGetDevice, &device);
    D("no context", cuCtxGetFlags, &flags);
    D("no context", cuCtxPopCurrent, &current);
    D("no context", cuCtxSynchronize, );
    D("no context", cuCtxGetLimit, &bytes, limit);
    D("no context", cuCtxSetLimit, limit, 2048);
    D("no context", cuMemAlloc, &memory, 16);
    D("no context", cuMemAlloc, nullptr, 16);
    D("no context", cuMemFree, nowhere);
    D("no context, null", cuMemFree, 0);
    D("no context", cuMemGetInfo, &bytes, &bytes);
    D("no context", cuMemAllocHost, &host, 16);
    D("no context", cuMemHostAlloc, &host, 16, 0);
    D("no context", cuMemFreeHost, &value);
    D("no context", cuMemHostRegister, &value, 4, 0);
    D("no context", cuMemHostUnregister, &value);
    D("no context", cuMemcpyHtoD, nowhere, &value, 4);
    D("no context", cuMemcpyDtoH, &value, nowhere, 4);
    D("no context, no bytes", cuMemcpyHtoD, nowhere, &value, 0);
    D("no context", cuMemcpyDtoD, nowhere, nowhere, 4);
    D("no context", cuMemcpy, nowhere, nowhere, 4);
    D("no context", cuMemsetD8, nowhere, 0, 4);
    D("no context", cuMemsetD32Async, nowhere, 0, 4, nullptr);
    D("no context", cuStreamCreate, &stream, 0);
    D("no context", cuStreamSynchronize, nullptr);
    D("no context", cuStreamQuery, nullptr);
    D("no context", cuStreamSynchronize, CU_STREAM_PER_THREAD);
    D("no context", cuEventCreate, &event, 0);
    D("no context", cuEventRecord, nullptr, nullptr);
    D("no context", cuModuleLoadData, &module, ptx);
    D("no context", cuModuleUnload, nullptr);
    D("no context", cuModuleGetFunction, &nothing, nullptr, "nothing");
    D("no context", cuLaunchKernel, nullptr, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
    D("no context", cuPointerGetAttribute, &value, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, nowhere);
    D("no context", cuCtxEnablePeerAccess, nullptr, 0);
    D("no context, a null context", cuCtxSetCurrent, nullptr);
    D("no context, a null context", cuCtxPushCurrent, nullptr);
    D("no context, a null context", cuCtxDestroy, nullptr);
    // A function exists, but the thread that launches it has no context.
    startWithModule();
    MUST(cuCtxPopCurrent, &current);
    D("context popped", cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
    D("context popped", cuFuncGetAttribute, &value, CU_FUNC_ATTRIBUTE_NUM_REGS, nothing);
    D("context popped", cuModuleGetFunction, &nothing, module, "nothing");
    D("context popped", cuModuleUnload, module);
}

static void memory() {
    start();
    CUdeviceptr block, other, base;
    size_t bytes, pitch;
    char host[256] = {};
    MUST(cuMemAlloc, &block, 4096);
    MUST(cuMemAlloc, &other, 4096);
    D("no place", cuMemAlloc, nullptr, 16);
    D("no bytes", cuMemAlloc, &base, 0);
    D("more than there is", cuMemAlloc, &base, size_t{1} << 50);
    D("all of a size_t", cuMemAlloc, &base, ~size_t{0});
    D("no width", cuMemAllocPitch, &base, &pitch, 0, 4, 4);
    D("no height", cuMemAllocPitch, &base, &pitch, 16, 0, 4);
    D("elements of 3", cuMemAllocPitch, &base, &pitch, 16, 4, 3);
    D("no place for the pitch", cuMemAllocPitch, &base, nullptr, 16, 4, 4);
    D("more than there is", cuMemAllocPitch, &base, &pitch, size_t{1} << 30, 1 << 20, 4);
    D("null", cuMemFree, 0);
    D("never allocated", cuMemFree, nowhere);
    D("inside", cuMemFree, block + 16);
    D("host memory", cuMemFree, reinterpret_cast<CUdeviceptr>(host));
    D("first", cuMemFree, other);
    D("twice", cuMemFree, other);
    D("freed", cuMemcpyDtoH, host, other, 16);
    D("freed", cuMemsetD8, other, 0, 16);
    D("freed", cuMemGetAddressRange, &base, &bytes, other);
    D("never allocated", cuMemGetAddressRange, &base, &bytes, nowhere);
    D("no places", cuMemGetAddressRange, nullptr, nullptr, block);
    D("no places", cuMemGetInfo, nullptr, nullptr);
    D("to nowhere", cuMemcpyHtoD, nowhere, host, 16);
    D("to null", cuMemcpyHtoD, 0, host, 16);
    D("from null", cuMemcpyHtoD, block, nullptr, 16);
    D("past the end", cuMemcpyHtoD, block + 4090, host, 16);
    D("no bytes", cuMemcpyHtoD, block, host, 0);
    D("no bytes to nowhere", cuMemcpyHtoD, nowhere, host, 0);
    D("no bytes from null", cuMemcpyHtoD, block, nullptr, 0);
    D("from nowhere", cuMemcpyDtoH, host, nowhere, 16);
    D("to null", cuMemcpyDtoH, nullptr, block, 16);
    D("past the end", cuMemcpyDtoH, host, block + 4090, 16);
    D("no bytes from nowhere", cuMemcpyDtoH, host, nowhere, 0);
    D("far away", cuMemcpyDtoD, farAway, block, 16);
    D("past the end", cuMemcpyDtoD, block + 4090, block, 16);
    D("from nowhere", cuMemcpyDtoD, block, nowhere, 16);
    D("no bytes", cuMemcpyDtoD, block, block, 0);
    D("past the end", cuMemcpy, block + 4090, reinterpret_cast<CUdeviceptr>(host), 16);
    D("past the end", cuMemcpyHtoDAsync, block + 4090, host, 16, nullptr);
    D("past the end", cuMemcpyDtoHAsync, host, block + 4090, 16, nullptr);
    D("past the end", cuMemcpyDtoDAsync, block, block + 4090, 16, nullptr);
    D("nowhere", cuMemsetD8, nowhere, 0, 16);
    D("null", cuMemsetD8, 0, 0, 16);
    D("past the end", cuMemsetD8, block + 4090, 0, 16);
    D("no bytes", cuMemsetD8, block, 0, 0);
    D("misaligned", cuMemsetD16, block + 1, 0, 2);
    D("misaligned", cuMemsetD32, block + 2, 0, 2);
    D("past the end", cuMemsetD32, block, 0, 1025);
    D("past the end", cuMemsetD32Async, block, 0, 1025, nullptr);
    D("past the end", cuMemsetD2D8, block, 1024, 0, 1024, 5);
    D("pitch too small", cuMemsetD2D8, block, 16, 0, 32, 2);
    CUDA_MEMCPY2D copy = {};
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = host;
    copy.srcPitch = 16;
    copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.dstDevice = block;
    copy.dstPitch = 16;
    copy.WidthInBytes = 32;
    copy.Height = 2;
    D("pitch too small", cuMemcpy2D, &copy);
    copy.srcPitch = copy.dstPitch = 2048;
    copy.Height = 3;
    copy.srcHost = nullptr;
    D("no source", cuMemcpy2D, &copy);
    copy.srcHost = host;
    copy.srcPitch = 32;
    D("past the end", cuMemcpy2D, &copy);
    copy.dstMemoryType = static_cast<CUmemorytype>(77);
    D("kind of memory 77", cuMemcpy2D, &copy);
    D("no description", cuMemcpy2D, nullptr);
    D("no description", cuMemcpy3D, nullptr);
    MUST(cuMemFree, block);
}

static void hostMemory() {
    start();
    void *block, *other;
    unsigned flags;
    CUdeviceptr mapped;
    alignas(4096) static char own[8192];
    MUST(cuMemAllocHost, &block, 4096);
    D("no place", cuMemAllocHost, nullptr, 16);
    D("no bytes", cuMemAllocHost, &other, 0);
    D("flags", cuMemHostAlloc, &other, 16, 0x1000);
    D("no place", cuMemHostAlloc, nullptr, 16, 0);
    D("never allocated", cuMemFreeHost, own);
    D("null", cuMemFreeHost, nullptr);
    D("inside", cuMemFreeHost, static_cast<char *>(block) + 16);
    D("null", cuMemHostRegister, nullptr, 16, 0);
    D("no bytes", cuMemHostRegister, own, 0, 0);
    D("flags", cuMemHostRegister, own, 4096, 0x1000);
    D("first", cuMemHostRegister, own, 4096, 0);
    D("twice", cuMemHostRegister, own, 4096, 0);
    D("allocated pinned", cuMemHostRegister, block, 4096, 0);
    D("registered, not allocated", cuMemFreeHost, own);
    D("allocated, not registered", cuMemHostUnregister, block);
    D("never registered", cuMemHostUnregister, own + 4096);
    D("first", cuMemHostUnregister, own);
    D("twice", cuMemHostUnregister, own);
    D("null", cuMemHostUnregister, nullptr);
    D("not pinned", cuMemHostGetFlags, &flags, own);
    D("no place", cuMemHostGetFlags, nullptr, block);
    D("not pinned", cuMemHostGetDevicePointer, &mapped, own, 0);
    D("flags", cuMemHostGetDevicePointer, &mapped, block, 1);
    D("no place", cuMemHostGetDevicePointer, nullptr, block, 0);
    D("first", cuMemFreeHost, block);
    D("twice", cuMemFreeHost, block);
}

static void pointers() {
    start();
    CUdeviceptr block;
    void *pinned;
    MUST(cuMemAlloc, &block, 4096);
    MUST(cuMemAllocHost, &pinned, 4096);
    unsigned long long value[4];
    int local = 0;
    const CUpointer_attribute kind = CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
    D("device memory", cuPointerGetAttribute, value, kind, block);
    D("no place", cuPointerGetAttribute, nullptr, kind, block);
    D("null", cuPointerGetAttribute, value, kind, 0);
    D("nowhere", cuPointerGetAttribute, value, kind, nowhere);
    D("the stack", cuPointerGetAttribute, value, kind, reinterpret_cast<CUdeviceptr>(&local));
    D("past the end", cuPointerGetAttribute, value, kind, block + (1 << 30));
    D("attribute 0", cuPointerGetAttribute, value, static_cast<CUpointer_attribute>(0), block);
    D("attribute 999", cuPointerGetAttribute, value, static_cast<CUpointer_attribute>(999), block);
    D("host pointer of device memory", cuPointerGetAttribute, value, CU_POINTER_ATTRIBUTE_HOST_POINTER, block);
    D("pool of plain memory", cuPointerGetAttribute, value, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, block);
    CUpointer_attribute wanted[] = {kind, CU_POINTER_ATTRIBUTE_CONTEXT};
    void *places[] = {&value[0], &value[1]};
    D("nowhere", cuPointerGetAttributes, 2, wanted, places, nowhere);
    D("none", cuPointerGetAttributes, 0, wanted, places, block);
    D("no list", cuPointerGetAttributes, 2, nullptr, places, block);
    D("no places", cuPointerGetAttributes, 2, wanted, nullptr, block);
}

static void streamsAndEvents() {
    startWithModule();
    CUstream stream, other;
    CUevent event, second, never, untimed;
    CUdeviceptr flag;
    float ms;
    unsigned flags;
    int priority;
    MUST(cuMemAlloc, &flag, 4);
    MUST(cuMemsetD32, flag, 0, 1);
    MUST(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    MUST(cuEventCreate, &event, 0);
    MUST(cuEventCreate, &second, 0);
    MUST(cuEventCreate, &never, 0);
    MUST(cuEventCreate, &untimed, CU_EVENT_DISABLE_TIMING);
    D("no place", cuStreamCreate, nullptr, 0);
    D("flags", cuStreamCreate, &other, 0x100);
    D("flags", cuStreamCreateWithPriority, &other, 0x100, 0);
    D("priority out of range", cuStreamCreateWithPriority, &other, 0, 1000);
    D("no place", cuStreamGetFlags, stream, nullptr);
    D("no place", cuStreamGetPriority, stream, nullptr);
    D("null stream", cuStreamGetPriority, nullptr, &priority);
    D("null stream", cuStreamGetFlags, nullptr, &flags);
    D("no event", cuStreamWaitEvent, stream, nullptr, 0);
    D("flags", cuStreamWaitEvent, stream, event, 0x100);
    D("never recorded", cuStreamWaitEvent, stream, never, 0);
    D("null stream", cuStreamDestroy, nullptr);
    D("the legacy stream", cuStreamDestroy, CU_STREAM_LEGACY);
    D("no place", cuEventCreate, nullptr, 0);
    D("flags", cuEventCreate, &event, 0x100);
    D("between processes with timing", cuEventCreate, &event, CU_EVENT_INTERPROCESS);
    D("null event", cuEventRecord, nullptr, stream);
    D("null event", cuEventQuery, nullptr);
    D("null event", cuEventSynchronize, nullptr);
    D("null event", cuEventDestroy, nullptr);
    D("never recorded", cuEventQuery, never);
    D("never recorded", cuEventSynchronize, never);
    D("never recorded", cuEventElapsedTime, &ms, event, never);
    MUST(cuEventRecord, event, stream);
    MUST(cuEventRecord, second, stream);
    MUST(cuEventRecord, untimed, stream);
    MUST(cuStreamSynchronize, stream);
    D("without timing", cuEventElapsedTime, &ms, event, untimed);
    D("no place", cuEventElapsedTime, nullptr, event, second);
    D("null event", cuEventElapsedTime, &ms, nullptr, event);

    void *arguments[] = {&flag};
    MUST(cuLaunchKernel, spin, 1, 1, 1, 1, 1, 1, 0, stream, arguments, nullptr);
    MUST(cuEventRecord, never, stream);
    // No synchronisation here: the kernel waits for the flag.
    line("the stream is busy", "cuStreamQuery", nameOf(CU(cuStreamQuery)(stream)), "nothing");
    line("the stream is busy", "cuEventQuery", nameOf(CU(cuEventQuery)(never)), "nothing");
    line("the stream is busy", "cuEventElapsedTime", nameOf(CU(cuEventElapsedTime)(&ms, event, never)), "nothing");
    line("another stream is idle", "cuStreamQuery", nameOf(CU(cuStreamQuery)(CU_STREAM_PER_THREAD)), "nothing");
    MUST(cuStreamCreate, &other, CU_STREAM_NON_BLOCKING);
    MUST(cuMemsetD32Async, flag, 1, 1, other);
    MUST(cuStreamSynchronize, stream);
    D("the stream is idle again", cuStreamQuery, stream);
    D("the stream is idle again", cuEventQuery, never);
}

static void handles() {
    startWithModule();
    CUstream stream;
    CUevent event;
    CUfunction function;
    CUdeviceptr memory;
    size_t size;
    unsigned flags;
    int value;
    MUST(cuStreamCreate, &stream, 0);
    MUST(cuEventCreate, &event, 0);
    MUST(cuMemAlloc, &memory, 64);
    D("first", cuStreamDestroy, stream);
    D("twice", cuStreamDestroy, stream);
    D("destroyed", cuStreamSynchronize, stream);
    D("destroyed", cuStreamQuery, stream);
    D("destroyed", cuStreamGetFlags, stream, &flags);
    D("destroyed", cuStreamWaitEvent, stream, event, 0);
    D("destroyed stream", cuEventRecord, event, stream);
    D("destroyed stream", cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr);
    D("destroyed stream", cuMemcpyHtoDAsync, memory, &value, 4, stream);
    D("destroyed stream", cuMemcpyDtoHAsync, &value, memory, 4, stream);
    D("destroyed stream", cuMemsetD8Async, memory, 0, 4, stream);
    D("first", cuEventDestroy, event);
    D("twice", cuEventDestroy, event);
    D("destroyed", cuEventQuery, event);
    D("destroyed", cuEventSynchronize, event);
    D("destroyed", cuEventRecord, event, nullptr);
    D("destroyed event", cuStreamWaitEvent, nullptr, event, 0);
    D("first", cuModuleUnload, module);
    D("twice", cuModuleUnload, module);
    D("unloaded", cuModuleGetFunction, &function, module, "nothing");
    D("unloaded", cuModuleGetGlobal, &memory, &size, module, "variable");
    D("of an unloaded module", cuFuncGetAttribute, &value, CU_FUNC_ATTRIBUTE_NUM_REGS, nothing);
    D("of an unloaded module", cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
    D("an event as a stream", cuStreamSynchronize, reinterpret_cast<CUstream>(event));
}

static void launches() {
    startWithModule();
    CUdeviceptr block;
    MUST(cuMemAlloc, &block, 64);
    unsigned one = 1;
    void *arguments[] = {&block, &one};
    size_t size = 12;
    struct {
        CUdeviceptr to;
        unsigned value;
    } packed = {block, 1};
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &packed, CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_END};
    int regs;
    D("well", cuLaunchKernel, store, 1, 1, 1, 1, 1, 1, 0, nullptr, arguments, nullptr);
    D("no blocks", cuLaunchKernel, nothing, 0, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
    D("no blocks in z", cuLaunchKernel, nothing, 1, 1, 0, 1, 1, 1, 0, nullptr, nullptr, nullptr);
    D("no threads", cuLaunchKernel, nothing, 1, 1, 1, 0, 1, 1, 0, nullptr, nullptr, nullptr);
    D("1025 threads", cuLaunchKernel, nothing, 1, 1, 1, 1025, 1, 1, 0, nullptr, nullptr, nullptr);
    D("64 by 32 threads", cuLaunchKernel, nothing, 1, 1, 1, 64, 32, 1, 0, nullptr, nullptr, nullptr);
    D("65 threads in z", cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 65, 0, nullptr, nullptr, nullptr);
    D("65536 blocks in y", cuLaunchKernel, nothing, 1, 65536, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
    D("65536 blocks in z", cuLaunchKernel, nothing, 1, 1, 65536, 1, 1, 1, 0, nullptr, nullptr, nullptr);
    D("2^31 blocks", cuLaunchKernel, nothing, 1u << 31, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
    D("1 GiB of shared memory", cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 1, 1 << 30, nullptr, nullptr, nullptr);
    D("1 byte over 48 KiB of shared memory", cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 1, 49153, nullptr, nullptr, nullptr);
    D("no function", cuLaunchKernel, nullptr, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
    D("no parameters", cuLaunchKernel, store, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
    D("parameters twice", cuLaunchKernel, store, 1, 1, 1, 1, 1, 1, 0, nullptr, arguments, extra);
    D("parameters packed", cuLaunchKernel, store, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra);
    size = 8;
    D("too few packed", cuLaunchKernel, store, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra);
    size = 12;
    extra[0] = reinterpret_cast<void *>(7);
    D("unknown mark", cuLaunchKernel, store, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra);
    CUlaunchConfig config = {};
    config.gridDimX = config.gridDimY = config.gridDimZ = 1;
    config.blockDimX = 2000;
    config.blockDimY = config.blockDimZ = 1;
    D("2000 threads", cuLaunchKernelEx, &config, nothing, nullptr, nullptr);
    D("no description", cuLaunchKernelEx, nullptr, nothing, nullptr, nullptr);
    D("no function", cuLaunchHostFunc, nullptr, nullptr, nullptr);
    D("more blocks than fit", cuLaunchCooperativeKernel, nothing, 1 << 20, 1, 1, 1024, 1, 1, 0, nullptr, nullptr);
    D("no place", cuFuncGetAttribute, nullptr, CU_FUNC_ATTRIBUTE_NUM_REGS, nothing);
    D("attribute 999", cuFuncGetAttribute, &regs, static_cast<CUfunction_attribute>(999), nothing);
    D("no function", cuFuncGetAttribute, &regs, CU_FUNC_ATTRIBUTE_NUM_REGS, nullptr);
    const CUfunction_attribute shared = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    D("too much", cuFuncSetAttribute, nothing, shared, 1 << 30);
    D("negative", cuFuncSetAttribute, nothing, shared, -1);
    D("read-only", cuFuncSetAttribute, nothing, CU_FUNC_ATTRIBUTE_NUM_REGS, 8);
    D("carve-out of 200", cuFuncSetAttribute, nothing, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 200);
    D("attribute 999", cuFuncSetAttribute, nothing, static_cast<CUfunction_attribute>(999), 1);
    D("no function", cuFuncSetAttribute, nullptr, shared, 1024);
    D("well", cuFuncSetAttribute, nothing, shared, 50000);
    D("50000 bytes of shared memory", cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 1, 50000, nullptr, nullptr, nullptr);
    D("1 byte over", cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 1, 50001, nullptr, nullptr, nullptr);
    D("preference 99", cuFuncSetCacheConfig, nothing, static_cast<CUfunc_cache>(99));
    size_t offset, bytes;
    D("parameter 9", cuFuncGetParamInfo, store, 9, &offset, &bytes);
    D("no place", cuFuncGetParamInfo, store, 0, nullptr, &bytes);
    int blocks;
    D("no threads", cuOccupancyMaxActiveBlocksPerMultiprocessor, &blocks, nothing, 0, 0);
    D("no place", cuOccupancyMaxActiveBlocksPerMultiprocessor, nullptr, nothing, 32, 0);
    D("no function", cuOccupancyMaxActiveBlocksPerMultiprocessor, &blocks, nullptr, 32, 0);
    D("2000 threads", cuOccupancyMaxActiveBlocksPerMultiprocessor, &blocks, nothing, 2000, 0);
    D("no threads", cuOccupancyAvailableDynamicSMemPerBlock, &bytes, nothing, 1, 0);
}

static void modules() {
    startWithModule();
    CUmodule other;
    CUfunction function;
    CUdeviceptr address;
    CUlibrary library;
    CUkernel kernel;
    size_t bytes;
    const char *const wrong = ".version 7.0\n.target sm_52\n.address_size 64\n.visible .entry k() { nonsense; }\n";
    static const char elf[256] = "\x7f""ELF\2\1\1";
    static const char zeros[64] = {};
    D("no place", cuModuleLoadData, nullptr, ptx);
    D("no image", cuModuleLoadData, &other, nullptr);
    D("PTX that is wrong", cuModuleLoadData, &other, wrong);
    D("text that is no PTX", cuModuleLoadData, &other, "hello, this is not a program");
    D("an empty text", cuModuleLoadData, &other, "");
    D("an ELF header and nothing", cuModuleLoadData, &other, elf);
    D("zeros", cuModuleLoadData, &other, zeros);
    D("PTX that is wrong", cuModuleLoadDataEx, &other, wrong, 0, nullptr, nullptr);
    D("options without values", cuModuleLoadDataEx, &other, ptx, 1, nullptr, nullptr);
    D("PTX of the future", cuModuleLoadData, &other,
      ".version 99.0\n.target sm_52\n.address_size 64\n.visible .entry k() { ret; }\n");
    D("PTX for a later GPU", cuModuleLoadData, &other,
      ".version 7.0\n.target sm_999\n.address_size 64\n.visible .entry k() { ret; }\n");
    D("an unresolved function", cuModuleLoadData, &other,
      ".version 7.0\n.target sm_52\n.address_size 64\n.extern .func missing();\n"
      ".visible .entry k() { call missing; ret; }\n");
    D("no such file", cuModuleLoad, &other, "/nonexistent/module.ptx");
    D("no name", cuModuleLoad, &other, nullptr);
    D("a file that is no image", cuModuleLoad, &other, "/proc/self/exe");
    D("no such function", cuModuleGetFunction, &function, module, "missing");
    D("a variable's name", cuModuleGetFunction, &function, module, "variable");
    D("an empty name", cuModuleGetFunction, &function, module, "");
    D("no name", cuModuleGetFunction, &function, module, nullptr);
    D("no place", cuModuleGetFunction, nullptr, module, "nothing");
    D("no module", cuModuleGetFunction, &function, nullptr, "nothing");
    D("no such variable", cuModuleGetGlobal, &address, &bytes, module, "missing");
    D("a function's name", cuModuleGetGlobal, &address, &bytes, module, "nothing");
    D("no name", cuModuleGetGlobal, &address, &bytes, module, nullptr);
    D("no places", cuModuleGetGlobal, nullptr, nullptr, module, "variable");
    D("freeing a variable", cuModuleGetGlobal, &address, &bytes, module, "variable");
    D("freeing a variable", cuMemFree, address);
    D("no module", cuModuleUnload, nullptr);
    D("PTX that is wrong", cuLibraryLoadData, &library, wrong, nullptr, nullptr, 0, nullptr, nullptr, 0);
    D("no image", cuLibraryLoadData, &library, nullptr, nullptr, nullptr, 0, nullptr, nullptr, 0);
    D("no such file", cuLibraryLoadFromFile, &library, "/nonexistent", nullptr, nullptr, 0, nullptr, nullptr, 0);
    MUST(cuLibraryLoadData, &library, ptx, nullptr, nullptr, 0, nullptr, nullptr, 0);
    D("no such kernel", cuLibraryGetKernel, &kernel, library, "missing");
    D("no name", cuLibraryGetKernel, &kernel, library, nullptr);
    D("no place", cuLibraryGetKernel, nullptr, library, "nothing");
    D("no such variable", cuLibraryGetGlobal, &address, &bytes, library, "missing");
    D("no such variable", cuLibraryGetManaged, &address, &bytes, library, "missing");
    MUST(cuLibraryGetKernel, &kernel, library, "nothing");
    D("a kernel, launched", cuLaunchKernel, reinterpret_cast<CUfunction>(kernel), 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr,
      nullptr);
    D("no kernel", cuKernelGetFunction, &function, nullptr);
    D("first", cuLibraryUnload, library);
    D("twice", cuLibraryUnload, library);
    D("unloaded", cuLibraryGetKernel, &kernel, library, "nothing");
    D("null", cuLibraryUnload, nullptr);
}

static void outOfMemory() {
    start();
    size_t free, total;
    MUST(cuMemGetInfo, &free, &total);
    CUdeviceptr block, small;
    D("as much as there is in all", cuMemAlloc, &block, total);
    D("a little more than is free", cuMemAlloc, &block, free + (64 << 20));
    D("twice in all", cuMemAlloc, &block, 2 * total);
    D("half of what is free", cuMemAlloc, &block, free / 2);
    D("once more, and some", cuMemAlloc, &small, free / 2 + (64 << 20));
    D("a little", cuMemAlloc, &small, 4096);
    D("all of it", cuMemFree, block);
    D("again", cuMemAlloc, &block, free / 2);
    D("freed", cuMemFree, block);
    void *host;
    D("pinned, an exabyte", cuMemAllocHost, &host, size_t{1} << 60);
    CUmemoryPool pool;
    CUstream stream;
    MUST(cuStreamCreate, &stream, 0);
    D("in a stream, twice in all", cuMemAllocAsync, &block, 2 * total, stream);
    D("no place", cuMemAllocAsync, nullptr, 16, stream);
    D("no bytes", cuMemAllocAsync, &block, 0, stream);
    D("never allocated", cuMemFreeAsync, nowhere, stream);
    D("no place", cuDeviceGetDefaultMemPool, nullptr, 0);
    D("device 99", cuDeviceGetDefaultMemPool, &pool, 99);
}

static void pools() {
    start();
    CUmemoryPool pool, standard;
    CUstream stream;
    CUdeviceptr block, other;
    MUST(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    MUST(cuDeviceGetDefaultMemPool, &standard, 0);
    CUmemPoolProps properties = {};
    properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    D("no place", cuMemPoolCreate, nullptr, &properties);
    D("no properties", cuMemPoolCreate, &pool, nullptr);
    properties.location.id = 99;
    D("device 99", cuMemPoolCreate, &pool, &properties);
    properties.location.id = 0;
    properties.allocType = CU_MEM_ALLOCATION_TYPE_INVALID;
    D("of no kind", cuMemPoolCreate, &pool, &properties);
    properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    D("between processes", cuMemPoolCreate, &pool, &properties);
    properties.handleTypes = CU_MEM_HANDLE_TYPE_NONE;
    properties.maxSize = 1 << 20;
    D("well", cuMemPoolCreate, &pool, &properties);
    D("more than the pool may hold", cuMemAllocFromPoolAsync, &block, 4 << 20, pool, stream);
    D("no place", cuMemAllocFromPoolAsync, nullptr, 16, pool, stream);
    D("no pool", cuMemAllocFromPoolAsync, &block, 16, nullptr, stream);
    D("no bytes", cuMemAllocFromPoolAsync, &block, 0, pool, stream);
    D("a pool of another device", cuDeviceSetMemPool, 1, pool);
    D("no pool", cuDeviceSetMemPool, 0, nullptr);
    D("well", cuDeviceSetMemPool, 0, pool);
    D("from the device's new pool, too much", cuMemAllocAsync, &block, 4 << 20, stream);
    D("from the device's new pool", cuMemAllocAsync, &block, 4096, stream);
    uint64_t value = 1;
    D("attribute 0", cuMemPoolGetAttribute, pool, static_cast<CUmemPool_attribute>(0), &value);
    D("attribute 99", cuMemPoolGetAttribute, pool, static_cast<CUmemPool_attribute>(99), &value);
    D("no place", cuMemPoolGetAttribute, pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, nullptr);
    D("a mark that is not 0", cuMemPoolSetAttribute, pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &value);
    D("what only the driver sets", cuMemPoolSetAttribute, pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &value);
    D("no value", cuMemPoolSetAttribute, pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, nullptr);
    D("no pool", cuMemPoolTrimTo, nullptr, 0);
    D("inside the block", cuMemFreeAsync, block + 256, stream);
    D("well", cuMemFreeAsync, block, stream);
    D("twice", cuMemFreeAsync, block, stream);
    MUST(cuMemAllocAsync, &other, 4096, stream);
    D("memory of a pool", cuMemFree, other);
    D("twice", cuMemFree, other);
    D("the default pool", cuMemPoolDestroy, standard);
    D("well", cuMemPoolDestroy, pool);
    D("twice", cuMemPoolDestroy, pool);
    D("destroyed", cuMemPoolTrimTo, pool, 0);
    D("from the default pool again", cuMemAllocAsync, &block, 4 << 20, stream);
}

static void contexts() {
    start();
    CUcontext other, current, primary;
    CUdevice device;
    CUdeviceptr memory;
    CUstream stream;
    CUevent event;
    unsigned version;
    size_t limit;
    int value, least;
    MUST(cuModuleLoadData, &module, ptx);
    MUST(cuModuleGetFunction, &nothing, module, "nothing");
    MUST(cuStreamCreate, &stream, 0);
    MUST(cuEventCreate, &event, 0);
    MUST(cuMemAlloc, &memory, 64);
    D("no place", cuCtxCreate, nullptr, nullptr, 0, 0);
    D("device 99", cuCtxCreate, &other, nullptr, 0, 99);
    D("flags", cuCtxCreate, &other, nullptr, 0xffff, 0);
    D("two ways of waiting", cuCtxCreate, &other, nullptr, CU_CTX_SCHED_SPIN | CU_CTX_SCHED_YIELD, 0);
    D("null", cuCtxDestroy, nullptr);
    D("no place", cuCtxGetCurrent, nullptr);
    D("no place", cuCtxGetDevice, nullptr);
    D("no place", cuCtxGetApiVersion, context, nullptr);
    D("limit 99", cuCtxGetLimit, &limit, static_cast<CUlimit>(99));
    D("no place", cuCtxGetLimit, nullptr, CU_LIMIT_STACK_SIZE);
    D("limit 99", cuCtxSetLimit, static_cast<CUlimit>(99), 1024);
    D("a stack of a GiB", cuCtxSetLimit, CU_LIMIT_STACK_SIZE, 1 << 30);
    D("preference 99", cuCtxSetCacheConfig, static_cast<CUfunc_cache>(99));
    D("no places", cuCtxGetStreamPriorityRange, nullptr, nullptr);
    D("well", cuCtxGetStreamPriorityRange, &value, &least);
    MUST(cuDevicePrimaryCtxRetain, &primary, 0);
    D("a primary context", cuCtxDestroy, primary);
    D("once for one", cuDevicePrimaryCtxRelease, 0);
    D("released", cuCtxSetCurrent, primary);
    D("released", cuCtxPushCurrent, primary);
    D("one too many", cuDevicePrimaryCtxRelease, 0);

    MUST(cuCtxCreate, &other, nullptr, 0, 0);
    D("memory of another context", cuMemsetD8, memory, 0, 4);
    D("stream of another context", cuStreamSynchronize, stream);
    D("stream of another context", cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr);
    D("function of another context", cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
    D("event of another context", cuEventRecord, event, nullptr);
    MUST(cuCtxPopCurrent, &current);

    D("the current one", cuCtxDestroy, context);
    D("twice", cuCtxDestroy, context);
    D("destroyed", cuCtxSetCurrent, context);
    D("destroyed", cuCtxPushCurrent, context);
    D("destroyed", cuCtxGetApiVersion, context, &version);
    D("stream of a destroyed context", cuStreamSynchronize, stream);
    D("event of a destroyed context", cuEventQuery, event);
    D("current after destroying it", cuCtxGetDevice, &device);
    MUST(cuCtxSetCurrent, other);
    D("memory of a destroyed context", cuMemFree, memory);
    D("module of a destroyed context", cuModuleUnload, module);
    D("stream of a destroyed context", cuStreamDestroy, stream);
    D("event of a destroyed context", cuEventDestroy, event);
    D("function of a destroyed context", cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
    // Destroyed while it is below the top of the stack.
    CUcontext below;
    MUST(cuCtxCreate, &below, nullptr, 0, 0);
    MUST(cuCtxPushCurrent, other);
    MUST(cuCtxDestroy, below);
    MUST(cuCtxPopCurrent, &current);
    D("destroyed below the top", cuCtxGetDevice, &device);
    D("destroyed below the top", cuMemAlloc, &memory, 16);
    D("destroyed below the top", cuStreamCreate, &stream, 0);
    D("destroyed below the top", cuCtxPopCurrent, &current);
    D("and then", cuMemAlloc, &memory, 16);
}

static void peers() {
    start();
    int count;
    CUcontext second;
    CUdeviceptr here, there;
    MUST(cuDeviceGetCount, &count);
    D("itself", cuCtxEnablePeerAccess, context, 0);
    D("null", cuCtxEnablePeerAccess, nullptr, 0);
    D("flags", cuCtxEnablePeerAccess, context, 1);
    D("never enabled", cuCtxDisablePeerAccess, context);
    D("null", cuCtxDisablePeerAccess, nullptr);
    int value;
    D("device 99", cuDeviceGetP2PAttribute, &value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 0, 99);
    D("itself", cuDeviceGetP2PAttribute, &value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 0, 0);
    if (count < 2) return;
    MUST(cuMemAlloc, &here, 64);
    MUST(cuCtxCreate, &second, nullptr, 0, 1);
    MUST(cuMemAlloc, &there, 64);
    D("first", cuCtxEnablePeerAccess, context, 0);
    D("twice", cuCtxEnablePeerAccess, context, 0);
    D("first", cuCtxDisablePeerAccess, context);
    D("twice", cuCtxDisablePeerAccess, context);
    D("well", cuMemcpyPeer, there, second, here, context, 64);
    D("past the end", cuMemcpyPeer, there, second, here, context, 1 << 20);
    D("contexts the wrong way round", cuMemcpyPeer, there, context, here, second, 64);
    D("null context", cuMemcpyPeer, there, nullptr, here, context, 64);
    D("memory of the other device", cuMemcpyDtoD, there, here, 64);
    D("free of the other device's", cuMemFree, here);
    MUST(cuCtxDestroy, second);
    D("destroyed", cuMemcpyPeer, there, second, here, context, 64);
    D("destroyed", cuCtxEnablePeerAccess, second, 0);
}

__global__ void runtimeNothing() {}
__global__ void __launch_bounds__(64) runtimeBounded(int *values) { values[threadIdx.x] = 1; }
__global__ void runtimeStore(int *to, int value) { *to = value; }
__device__ int runtimeVariable[4];

static void runtimeCalls() {
    int *block = nullptr, value = 0, host[64] = {};
    void *place = nullptr;
    const auto function = reinterpret_cast<const void *>(runtimeNothing);
    R("device 99", cudaSetDevice, 99);
    R("device -1", cudaSetDevice, -1);
    cudaDeviceProp properties;
    R("device 99", cudaGetDeviceProperties, &properties, 99);
    R("no place", cudaGetDeviceCount, nullptr);
    R("no place", cudaGetDevice, nullptr);
    R("attribute 9999", cudaDeviceGetAttribute, &value, static_cast<cudaDeviceAttr>(9999), 0);
    R("device 99", cudaDeviceGetAttribute, &value, cudaDevAttrWarpSize, 99);
    R("well", cudaMalloc, reinterpret_cast<void **>(&block), 256);
    R("no place", cudaMalloc, static_cast<void **>(nullptr), 16);
    R("no bytes", cudaMalloc, &place, 0);
    R("more than there is", cudaMalloc, &place, size_t{1} << 50);
    R("never allocated", cudaFree, reinterpret_cast<void *>(nowhere));
    R("inside", cudaFree, block + 1);
    R("null", cudaFree, nullptr);
    R("host memory", cudaFree, host);
    R("never allocated", cudaFreeHost, host);
    R("no bytes", cudaMallocHost, &place, 0);
    R("flags", cudaHostAlloc, &place, 16, 0x1000);
    R("to null", cudaMemcpy, nullptr, host, 16, cudaMemcpyHostToDevice);
    R("from null", cudaMemcpy, block, nullptr, 16, cudaMemcpyHostToDevice);
    R("kind 77", cudaMemcpy, block, host, 16, static_cast<cudaMemcpyKind>(77));
    R("past the end", cudaMemcpy, block, host, 260, cudaMemcpyHostToDevice);
    R("past the end", cudaMemcpy, host, block + 60, 20, cudaMemcpyDeviceToHost);
    R("the wrong direction", cudaMemcpy, host, block, 16, cudaMemcpyHostToDevice);
    R("the wrong direction", cudaMemcpy, block, host, 16, cudaMemcpyDeviceToHost);
    R("between host as device", cudaMemcpy, host, host + 8, 16, cudaMemcpyDeviceToDevice);
    R("by address", cudaMemcpy, host, block, 16, cudaMemcpyDefault);
    R("past the end", cudaMemset, block, 0, 257);
    R("null", cudaMemset, nullptr, 0, 16);
    R("host memory", cudaMemset, host, 0, 16);
    R("pitch too small", cudaMemcpy2D, block, 8, host, 16, 16, 2, cudaMemcpyHostToDevice);
    R("pitch too small", cudaMemset2D, block, 8, 0, 16, 2);
    R("past the end", cudaMemcpy2D, block, 128, host, 16, 16, 4, cudaMemcpyHostToDevice);
    R("past the end", cudaMemcpyToSymbol, runtimeVariable, host, 20, size_t{0}, cudaMemcpyHostToDevice);
    R("offset past the end", cudaMemcpyFromSymbol, host, runtimeVariable, 4, size_t{16}, cudaMemcpyDeviceToHost);
    R("no symbol", cudaGetSymbolAddress, &place, static_cast<const void *>(host));
    size_t size;
    R("no symbol", cudaGetSymbolSize, &size, static_cast<const void *>(host));
    R("no symbol", cudaMemcpyToSymbol, static_cast<const void *>(host), host, 4, size_t{0}, cudaMemcpyHostToDevice);

    runtimeNothing<<<0, 1>>>();
    runtime("no blocks", "<<<>>>", cudaPeekAtLastError());
    runtimeNothing<<<1, 0>>>();
    runtime("no threads", "<<<>>>", cudaPeekAtLastError());
    runtimeNothing<<<1, 1025>>>();
    runtime("1025 threads", "<<<>>>", cudaPeekAtLastError());
    runtimeNothing<<<dim3(1, 65536), 1>>>();
    runtime("65536 blocks in y", "<<<>>>", cudaPeekAtLastError());
    runtimeNothing<<<1, 1, 1 << 30>>>();
    runtime("1 GiB of shared memory", "<<<>>>", cudaPeekAtLastError());
    runtimeBounded<<<1, 65>>>(block);
    runtime("65 threads of 64", "<<<>>>", cudaPeekAtLastError());
    runtimeBounded<<<1, 64>>>(block);
    runtime("64 threads of 64", "<<<>>>", cudaPeekAtLastError());
    R("no kernel", cudaLaunchKernel, static_cast<const void *>(host), dim3(1), dim3(1), nullptr, 0, nullptr);
    R("null", cudaLaunchKernel, static_cast<const void *>(nullptr), dim3(1), dim3(1), nullptr, 0, nullptr);
    R("more blocks than fit", cudaLaunchCooperativeKernel, function, dim3(1 << 20), dim3(1024), nullptr, 0, nullptr);
    cudaFuncAttributes attributes;
    R("no kernel", cudaFuncGetAttributes, &attributes, static_cast<const void *>(host));
    R("too much", cudaFuncSetAttribute, function, cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 30);
    R("attribute 99", cudaFuncSetAttribute, function, static_cast<cudaFuncAttribute>(99), 1);
    int blocks;
    R("no threads", cudaOccupancyMaxActiveBlocksPerMultiprocessor, &blocks, function, 0, size_t{0});
    R("no kernel", cudaOccupancyMaxActiveBlocksPerMultiprocessor, &blocks, static_cast<const void *>(host), 32, size_t{0});

    cudaStream_t stream;
    cudaEvent_t event, never;
    R("no place", cudaStreamCreate, nullptr);
    R("flags", cudaStreamCreateWithFlags, &stream, 0x100);
    R("well", cudaStreamCreate, &stream);
    R("flags", cudaEventCreateWithFlags, &event, 0x100);
    R("well", cudaEventCreate, &event);
    R("well", cudaEventCreate, &never);
    float ms;
    R("never recorded", cudaEventElapsedTime, &ms, event, never);
    R("never recorded", cudaEventQuery, never);
    R("null", cudaEventQuery, nullptr);
    R("null", cudaEventDestroy, nullptr);
    R("null", cudaStreamDestroy, nullptr);
    R("first", cudaStreamDestroy, stream);
    R("destroyed", cudaStreamSynchronize, stream);
    R("first", cudaEventDestroy, event);
    R("destroyed", cudaEventSynchronize, event);
    R("null", cudaHostRegister, nullptr, 16, 0);
    alignas(4096) static char own[4096];
    R("first", cudaHostRegister, own, sizeof own, 0);
    R("twice", cudaHostRegister, own, sizeof own, 0);
    R("first", cudaHostUnregister, own);
    R("twice", cudaHostUnregister, own);
    cudaPointerAttributes pointer;
    R("no place", cudaPointerGetAttributes, nullptr, block);
    R("null", cudaPointerGetAttributes, &pointer, nullptr);
    R("host memory", cudaPointerGetAttributes, &pointer, host);
    R("itself", cudaDeviceEnablePeerAccess, 0, 0);
    R("device 99", cudaDeviceEnablePeerAccess, 99, 0);
    R("device 99", cudaDeviceCanAccessPeer, &value, 0, 99);
    R("limit 99", cudaDeviceSetLimit, static_cast<cudaLimit>(99), 16);
    R("flags", cudaSetDeviceFlags, 0x10000);
    R("first", cudaFree, block);
    R("twice", cudaFree, block);
    R("the device is still good", cudaMalloc, reinterpret_cast<void **>(&block), 256);
    R("with nothing wrong", cudaDeviceReset, );
    R("of before the reset", cudaFree, block);
    R("after the reset", cudaMalloc, reinterpret_cast<void **>(&block), 256);
}

// Errors that happen on the GPU while it works. Each ends the context.
__global__ void faultStore(int *to) { *to = 1; }
__global__ void faultLoad(int *from, int *to) { *to = *from + 1; }
__global__ void faultAssert(int zero) { assert(zero == 1); }
__global__ void faultTrap() { __trap(); }
__global__ void faultShared(int index) {
    __shared__ int local[16];
    volatile int *place = local;
    place[index] = 1;
}
__global__ void faultAtomic(int *to) { atomicAdd(to, 1); }

static void afterFault() {
    int *block = nullptr, value = 0, devices = 0, device = 0;
    cudaDeviceProp properties;
    cudaStream_t stream;
    cudaEvent_t event;
    size_t free, total;
    runtime("the launch", "<<<>>>", cudaPeekAtLastError());
    // From here on the device was synchronised once: by the line above.
    R("after", cudaMalloc, reinterpret_cast<void **>(&block), 64);
    R("after", cudaMemcpy, &value, block, 4, cudaMemcpyDeviceToHost);
    R("after", cudaMemset, block, 0, 4);
    R("after", cudaFree, nullptr);
    R("after", cudaMallocHost, reinterpret_cast<void **>(&block), 64);
    R("after", cudaStreamCreate, &stream);
    R("after", cudaStreamQuery, nullptr);
    R("after", cudaStreamSynchronize, nullptr);
    R("after", cudaEventCreate, &event);
    R("after", cudaMemGetInfo, &free, &total);
    R("after", cudaGetDeviceCount, &devices);
    R("after", cudaGetDevice, &device);
    R("after", cudaSetDevice, 0);
    R("after", cudaGetDeviceProperties, &properties, 0);
    runtimeNothing<<<1, 1>>>();
    runtime("after", "<<<>>>", cudaPeekAtLastError());
    R("after, with a mistake of its own", cudaMemset, nullptr, 0, 16);
    CUcontext current;
    CUdeviceptr memory;
    CUdevice number;
    D("after", cuCtxGetCurrent, &current);
    D("after", cuCtxGetDevice, &number);
    D("after", cuMemAlloc, &memory, 16);
    D("after", cuDeviceGetCount, &devices);
    R("reset", cudaDeviceReset, );
    R("after the reset", cudaMalloc, reinterpret_cast<void **>(&block), 64);
    runtimeStore<<<1, 1>>>(block, 42);
    runtime("after the reset", "<<<>>>", cudaPeekAtLastError());
    R("after the reset", cudaMemcpy, &value, block, 4, cudaMemcpyDeviceToHost);
    std::printf("value after the reset: %d\n", value);
}

static int *smallBlock() {
    int *block = nullptr;
    if (cudaMalloc(&block, 64) != cudaSuccess) std::exit(1);
    return block;
}

static void illegalStore() {
    smallBlock();
    faultStore<<<1, 1>>>(nullptr);
    afterFault();
}
static void illegalLoad() {
    int *block = smallBlock();
    faultLoad<<<1, 1>>>(reinterpret_cast<int *>(farAway), block);
    afterFault();
}
static void illegalAtomic() {
    smallBlock();
    faultAtomic<<<1, 1>>>(reinterpret_cast<int *>(farAway));
    afterFault();
}
static void misaligned() {
    int *block = smallBlock();
    faultStore<<<1, 1>>>(reinterpret_cast<int *>(reinterpret_cast<char *>(block) + 2));
    afterFault();
}
static void assertion() {
    smallBlock();
    faultAssert<<<1, 1>>>(0);
    afterFault();
}
static void trap() {
    smallBlock();
    faultTrap<<<1, 1>>>();
    afterFault();
}
static void sharedOutOfRange() {
    smallBlock();
    faultShared<<<1, 1>>>(1 << 28);
    afterFault();
}

// A fault in a context of one's own: it goes with the context.
static void faultInOwnContext() {
    startWithModule();
    CUdeviceptr nullAddress = 0, block;
    unsigned one = 1, value = 0;
    void *arguments[] = {&nullAddress, &one};
    CUcontext other, current;
    CUstream stream;
    CUevent event;
    MUST(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    MUST(cuEventCreate, &event, 0);
    MUST(cuCtxCreate, &other, nullptr, 0, 0);
    MUST(cuMemAlloc, &block, 64);
    MUST(cuMemsetD32, block, 7, 1);
    MUST(cuCtxPopCurrent, &current);
    MUST(cuLaunchKernel, store, 1, 1, 1, 1, 1, 1, 0, stream, arguments, nullptr);
    line("fault", "cuStreamSynchronize", nameOf(CU(cuStreamSynchronize)(stream)), "nothing");
    D("after", cuStreamSynchronize, stream);
    D("after", cuStreamQuery, stream);
    D("after", cuEventRecord, event, stream);
    D("after", cuEventQuery, event);
    D("after", cuMemAlloc, &block, 16);
    D("after", cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
    D("after", cuStreamDestroy, stream);
    D("after", cuEventDestroy, event);
    D("after", cuModuleUnload, module);
    D("the context", cuCtxDestroy, context);
    MUST(cuCtxSetCurrent, other);
    D("another context", cuCtxSynchronize, );
    D("another context", cuMemAlloc, &block, 64);
    D("another context", cuMemcpyDtoH, &value, block, 4);
    MUST(cuCtxDestroy, other);
    startWithModule();
    MUST(cuMemAlloc, &block, 64);
    arguments[0] = &block;
    D("a new context", cuLaunchKernel, store, 1, 1, 1, 1, 1, 1, 0, nullptr, arguments, nullptr);
    D("a new context", cuMemcpyDtoH, &value, block, 4);
    std::printf("value in the new context: %u\n", value);
}

#include "error-parity-graphs.h"
#include "error-parity-streams.h"

static void capture() {
    startWithModule();
    CUstream stream, other;
    CUgraph graph;
    CUgraphExec executable;
    CUgraphNode node;
    CUdeviceptr block;
    CUevent event;
    CUstreamCaptureStatus status;
    MUST(cuMemAlloc, &block, 64);
    MUST(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    MUST(cuStreamCreate, &other, CU_STREAM_NON_BLOCKING);
    MUST(cuEventCreate, &event, 0);
    const CUstreamCaptureMode relaxed = CU_STREAM_CAPTURE_MODE_RELAXED;
    D("the legacy stream", cuStreamBeginCapture, nullptr, relaxed);
    D("mode 9", cuStreamBeginCapture, stream, static_cast<CUstreamCaptureMode>(9));
    D("not begun", cuStreamEndCapture, stream, &graph);
    D("no place", cuStreamIsCapturing, stream, nullptr);
    MUST(cuStreamBeginCapture, stream, relaxed);
    Q("twice", cuStreamBeginCapture, stream, relaxed);
    Q("capturing", cuStreamIsCapturing, stream, &status);
    Q("capturing", cuStreamSynchronize, stream);
    Q("invalidated", cuStreamIsCapturing, stream, &status);
    Q("invalidated", cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr);
    D("invalidated", cuStreamEndCapture, stream, &graph);
    MUST(cuStreamBeginCapture, stream, relaxed);
    Q("capturing", cuStreamQuery, stream);
    D("ended after a query", cuStreamEndCapture, stream, &graph);
    MUST(cuStreamBeginCapture, stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
    Q("unsafe while capturing", cuMemFree, nowhere);
    Q("unsafe while capturing", cuCtxSynchronize, );
    D("ended after unsafe calls", cuStreamEndCapture, stream, &graph);
    MUST(cuStreamBeginCapture, stream, relaxed);
    MUST(cuEventRecord, event, stream);
    Q("captured event", cuEventQuery, event);
    Q("captured event", cuEventSynchronize, event);
    CU(cuStreamEndCapture)(stream, &graph);
    MUST(cuEventRecord, event, other);
    MUST(cuStreamBeginCapture, stream, relaxed);
    Q("an event from outside", cuStreamWaitEvent, stream, event, 0);
    CU(cuStreamEndCapture)(stream, &graph);
    MUST(cuStreamBeginCapture, stream, relaxed);
    MUST(cuEventRecord, event, stream);
    MUST(cuStreamWaitEvent, other, event, 0);
    MUST(cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 1, 0, other, nullptr, nullptr);
    Q("the stream that was forked", cuStreamEndCapture, other, &graph);
    D("not joined", cuStreamEndCapture, stream, &graph);

    D("no place", cuGraphCreate, nullptr, 0);
    D("flags", cuGraphCreate, &graph, 1);
    MUST(cuGraphCreate, &graph, 0);
    CUDA_KERNEL_NODE_PARAMS kernel = {};
    kernel.func = nothing;
    kernel.gridDimX = kernel.gridDimY = kernel.gridDimZ = kernel.blockDimX = kernel.blockDimY = kernel.blockDimZ = 1;
    D("no description", cuGraphAddKernelNode, &node, graph, nullptr, 0, nullptr);
    kernel.blockDimX = 5000;
    D("5000 threads", cuGraphAddKernelNode, &node, graph, nullptr, 0, &kernel);
    kernel.blockDimX = 1;
    D("no graph", cuGraphAddKernelNode, &node, nullptr, nullptr, 0, &kernel);
    D("dependencies without a list", cuGraphAddKernelNode, &node, graph, nullptr, 1, &kernel);
    D("well", cuGraphAddKernelNode, &node, graph, nullptr, 0, &kernel);
    D("on itself", cuGraphAddDependencies, graph, &node, &node, nullptr, 1);
    D("no graph", cuGraphInstantiate, &executable, nullptr, 0);
    D("no place", cuGraphInstantiate, nullptr, graph, 0);
    D("well", cuGraphInstantiate, &executable, graph, 0);
    D("no graph", cuGraphLaunch, nullptr, stream);
    D("well", cuGraphLaunch, executable, stream);
    D("first", cuGraphDestroy, graph);
    D("null", cuGraphDestroy, nullptr);
    D("first", cuGraphExecDestroy, executable);
    D("null", cuGraphExecDestroy, nullptr);
}

struct Scenario {
    const char *name;
    void (*run)();
};

static const Scenario scenarios[] = {
    {"before-init", beforeInit},
    {"devices", devices},
    {"no-context", noContext},
    {"memory", memory},
    {"host-memory", hostMemory},
    {"pointers", pointers},
    {"streams-and-events", streamsAndEvents},
    {"handles", handles},
    {"launches", launches},
    {"modules", modules},
    {"out-of-memory", outOfMemory},
    {"contexts", contexts},
    {"peers", peers},
    {"runtime", runtimeCalls},
    {"illegal-store", illegalStore},
    {"illegal-load", illegalLoad},
    {"illegal-atomic", illegalAtomic},
    {"misaligned", misaligned},
    {"assert", assertion},
    {"trap", trap},
    {"shared-out-of-range", sharedOutOfRange},
    {"fault-in-own-context", faultInOwnContext},
    {"pools", pools},
    {"capture", capture},
    {"captures-of-several-streams", capturesOfSeveralStreams},
    {"graph-nodes", graphNodes},
    {"graph-updates", graphUpdates},
    {"stream-ordered-memory", streamOrderedMemory},
    {"more-of-events", moreOfEvents},
    {"threads-own-streams", threadsOwnStreams},
    {"late-errors", lateErrors},
};

static void inOwnProcess(const char *program, const char *name) {
    std::printf("--- %s\n", name);
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", program, name, nullptr);
        _exit(127);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) std::exit(1);
    if (WIFSIGNALED(status)) std::printf("ended by signal %d\n", WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0) std::printf("ended with %d\n", WEXITSTATUS(status));
}

int main(int count, char **arguments) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0); // whatever ends a process, its lines are there
    if (count > 1 && std::strcmp(arguments[1], "--list") == 0) {
        for (const Scenario &scenario : scenarios) std::printf("%s\n", scenario.name);
        return 0;
    }
    if (count < 2) {
        for (const Scenario &scenario : scenarios) inOwnProcess(arguments[0], scenario.name);
        return 0;
    }
    for (const Scenario &scenario : scenarios) {
        if (std::strcmp(arguments[1], scenario.name) != 0) continue;
        scenario.run();
        return 0;
    }
    std::fprintf(stderr, "error-parity: no scenario %s\n", arguments[1]);
    return 64;
}
