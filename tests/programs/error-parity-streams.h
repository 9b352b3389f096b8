#pragma once
// Scenarios of error-parity: memory in the order of streams, events, threads' own streams, and errors that come late.
// Included by it once, behind its own helpers.
#include <thread>

// A call after which nothing is synchronised, so that an error may come later.
static CUresult alone(const char *what, const char *call, CUresult code) {
    line(what, call, nameOf(code), "nothing");
    return code;
}
#define A(what, name, ...) alone(what, EXPANDED(name), CU(name)(__VA_ARGS__))

static void streamOrderedMemory() {
    start();
    CUmemoryPool pool, standard;
    CUstream stream, other, gone;
    CUdeviceptr block, plain, small;
    void *pinned;
    char host[64] = {};
    MUST(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    MUST(cuStreamCreate, &other, CU_STREAM_NON_BLOCKING);
    MUST(cuStreamCreate, &gone, 0);
    MUST(cuStreamDestroy, gone);
    MUST(cuMemAlloc, &plain, 4096);
    MUST(cuMemAllocHost, &pinned, 4096);
    MUST(cuDeviceGetDefaultMemPool, &standard, 0);
    for (const size_t bytes : {size_t{4096}, size_t{8} << 20}) {
        std::printf("  %zu bytes\n", bytes);
        MUST(cuMemAllocAsync, &block, bytes, stream);
        D("inside", cuMemFreeAsync, block + 256, stream);
        D("past the end", cuMemsetD8Async, block, 0, bytes + 4096, stream);
        D("well", cuMemFreeAsync, block, stream);
        D("twice", cuMemFreeAsync, block, stream);
        D("twice, in another stream", cuMemFreeAsync, block, other);
        D("then for good", cuMemFree, block);
        D("freed", cuMemsetD8Async, block, 0, 16, stream);
        D("freed", cuMemcpyDtoH, host, block, 16);
        MUST(cuMemAllocAsync, &block, bytes, stream);
        D("well", cuMemFree, block);
        D("then in a stream", cuMemFreeAsync, block, stream);
        MUST(cuMemAlloc, &block, bytes);
        D("not of a pool", cuMemFreeAsync, block, stream);
        D("not of a pool, twice", cuMemFreeAsync, block, stream);
        D("not of a pool, then for good", cuMemFree, block);
    }
    D("null", cuMemFreeAsync, 0, stream);
    D("nowhere", cuMemFreeAsync, nowhere, stream);
    D("far away", cuMemFreeAsync, farAway, stream);
    D("host memory", cuMemFreeAsync, reinterpret_cast<CUdeviceptr>(host), stream);
    D("pinned memory", cuMemFreeAsync, reinterpret_cast<CUdeviceptr>(pinned), stream);
    D("destroyed stream", cuMemAllocAsync, &block, 4096, gone);
    D("destroyed stream", cuMemFreeAsync, plain, gone);
    D("all of a size_t", cuMemAllocAsync, &block, ~size_t{0}, stream);
    D("more than there is", cuMemAllocAsync, &block, size_t{1} << 50, stream);
    D("more than there is, of the default pool", cuMemAllocFromPoolAsync, &block, size_t{1} << 50, standard, stream);

    // A pool that may hold little.
    CUmemPoolProps properties = {};
    properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    properties.maxSize = 4 << 20;
    MUST(cuMemPoolCreate, &pool, &properties);
    D("half of it", cuMemAllocFromPoolAsync, &block, 2 << 20, pool, stream);
    D("more than the rest", cuMemAllocFromPoolAsync, &small, 4 << 20, pool, stream);
    D("freed in the same stream", cuMemFreeAsync, block, stream);
    D("all of it", cuMemAllocFromPoolAsync, &block, 4 << 20, pool, stream);
    D("a little more", cuMemAllocFromPoolAsync, &small, 512, pool, stream);
    D("freed", cuMemFreeAsync, block, stream);
    D("all of it, in another stream", cuMemAllocFromPoolAsync, &block, 4 << 20, pool, other);
    D("the pool goes before its memory", cuMemPoolDestroy, pool);
    D("of a destroyed pool", cuMemAllocFromPoolAsync, &small, 512, pool, stream);
    D("memory of a destroyed pool", cuMemsetD8Async, block, 0, 16, other);
    D("memory of a destroyed pool", cuMemFreeAsync, block, other);
    uint64_t value = 0;
    D("destroyed", cuMemPoolGetAttribute, pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &value);
    CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, {99}}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    D("access of device 99", cuMemPoolSetAccess, standard, &access, 1);
    D("no list", cuMemPoolSetAccess, standard, nullptr, 1);
    CUmemAccess_flags flags;
    CUmemLocation location = {CU_MEM_LOCATION_TYPE_DEVICE, {99}};
    D("device 99", cuMemPoolGetAccess, &flags, standard, &location);
    location.id = 0;
    D("no place", cuMemPoolGetAccess, nullptr, standard, &location);
    D("device 99", cuDeviceGetMemPool, &pool, 99);
    D("no place", cuDeviceGetMemPool, nullptr, 0);
    D("well", cuMemFree, plain);
}

static void moreOfEvents() {
    startWithModule();
    CUstream stream, other;
    CUevent event, second, untimed, never, foreign, gone;
    CUdeviceptr flag;
    CUcontext another;
    float ms;
    MUST(cuMemAlloc, &flag, 4);
    MUST(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    MUST(cuStreamCreate, &other, CU_STREAM_NON_BLOCKING);
    MUST(cuEventCreate, &event, 0);
    MUST(cuEventCreate, &second, CU_EVENT_BLOCKING_SYNC);
    MUST(cuEventCreate, &never, 0);
    MUST(cuEventCreate, &untimed, CU_EVENT_DISABLE_TIMING);
    MUST(cuEventCreate, &gone, 0);
    MUST(cuCtxCreate, &another, nullptr, 0, 0);
    MUST(cuEventCreate, &foreign, 0);
    MUST(cuEventRecord, foreign, nullptr);
    MUST(cuCtxPopCurrent, &another);
    MUST(cuEventDestroy, gone);
    D("both never recorded", cuEventElapsedTime, &ms, event, never);
    D("itself, never recorded", cuEventElapsedTime, &ms, event, event);
    D("untimed, never recorded", cuEventElapsedTime, &ms, untimed, event);
    MUST(cuEventRecord, event, stream);
    D("the end never recorded", cuEventElapsedTime, &ms, event, second);
    D("the beginning never recorded", cuEventElapsedTime, &ms, second, event);
    D("itself", cuEventElapsedTime, &ms, event, event);
    std::printf("  %f ms\n", ms);
    D("untimed, never recorded", cuEventElapsedTime, &ms, event, untimed);
    D("destroyed", cuEventElapsedTime, &ms, event, gone);
    D("destroyed", cuEventElapsedTime, &ms, gone, event);
    D("of another context", cuEventElapsedTime, &ms, event, foreign);
    D("a stream as an event", cuEventQuery, reinterpret_cast<CUevent>(stream));
    D("of another context", cuEventRecord, foreign, stream);
    D("of another context", cuStreamWaitEvent, stream, foreign, 0);
    D("of another context", cuEventQuery, foreign);
    D("of another context", cuEventSynchronize, foreign);
    D("flags", cuEventRecordWithFlags, event, stream, 0x100);
    D("external, outside of a capture", cuEventRecordWithFlags, event, stream, CU_EVENT_RECORD_EXTERNAL);
    D("external, outside of a capture", cuStreamWaitEvent, stream, event, CU_EVENT_WAIT_EXTERNAL);

    // One event behind work that goes on, one before it.
    MUST(cuMemsetD32, flag, 0, 1);
    MUST(cuCtxSynchronize, ); // a memset does not wait, and the stream does not wait for it
    void *arguments[] = {&flag};
    MUST(cuEventRecord, event, stream);
    MUST(cuLaunchKernel, spin, 1, 1, 1, 1, 1, 1, 0, stream, arguments, nullptr);
    MUST(cuEventRecord, second, stream);
    MUST(cuEventRecord, untimed, stream);
    MUST(cuStreamWaitEvent, other, second, 0);
    MUST(cuEventRecord, never, other);
    A("unfinished", cuEventElapsedTime, &ms, event, second);
    A("unfinished", cuEventElapsedTime, &ms, second, event);
    A("unfinished, untimed", cuEventElapsedTime, &ms, event, untimed);
    A("unfinished, of a stream that waits", cuEventElapsedTime, &ms, event, never);
    A("unfinished", cuEventQuery, second);
    A("unfinished, of a stream that waits", cuEventQuery, never);
    A("unfinished, of a stream that waits", cuStreamQuery, other);
    A("unfinished", cuEventDestroy, untimed);
    A("destroyed unfinished", cuEventQuery, untimed);
    A("unfinished", cuStreamDestroy, other);
    A("destroyed unfinished", cuStreamQuery, other);
    A("of a destroyed stream, unfinished", cuEventQuery, never);
    CUstream third;
    MUST(cuStreamCreate, &third, CU_STREAM_NON_BLOCKING);
    MUST(cuMemsetD32Async, flag, 1, 1, third);
    MUST(cuEventSynchronize, second);
    D("finished", cuEventElapsedTime, &ms, event, second);
    D("of a destroyed stream", cuEventSynchronize, never);
    D("of a destroyed stream", cuEventElapsedTime, &ms, event, never);

    // Without a current context.
    CUcontext current;
    MUST(cuCtxPopCurrent, &current);
    A("no context", cuEventRecord, event, stream);
    A("no context", cuEventQuery, event);
    A("no context", cuEventSynchronize, event);
    A("no context", cuEventElapsedTime, &ms, event, second);
    A("no context", cuStreamWaitEvent, stream, event, 0);
    A("no context", cuStreamQuery, stream);
    A("no context", cuStreamSynchronize, stream);
    A("no context", cuMemsetD8Async, flag, 0, 4, stream);
    A("no context", cuStreamDestroy, stream);
    A("no context", cuEventDestroy, event);
    A("no context", cuModuleUnload, module);
    A("no context", cuMemFreeAsync, flag, stream);
}

static void threadsOwnStreams() {
    startWithModule();
    CUstream own = CU_STREAM_PER_THREAD;
    CUevent event;
    CUdeviceptr block, flag;
    unsigned flags;
    CUcontext found;
    CUgraph graph;
    MUST(cuMemAlloc, &block, 64);
    MUST(cuMemAlloc, &flag, 4);
    MUST(cuEventCreate, &event, 0);
    D("never used", cuStreamQuery, own);
    D("never used", cuStreamSynchronize, own);
    D("well", cuStreamGetFlags, own, &flags);
    D("well", cuStreamGetCtx, own, &found);
    D("well", cuMemsetD8Async, block, 1, 64, own);
    D("past the end", cuMemsetD8Async, block, 1, 65, own);
    D("nobody's to destroy", cuStreamDestroy, own);
    D("still there", cuStreamQuery, own);
    D("no blocks", cuLaunchKernel, nothing, 0, 1, 1, 1, 1, 1, 0, own, nullptr, nullptr);
    MUST(cuMemsetD32, flag, 0, 1);
    void *arguments[] = {&flag};
    MUST(cuLaunchKernel, spin, 1, 1, 1, 1, 1, 1, 0, own, arguments, nullptr);
    A("busy", cuStreamQuery, own);
    std::thread([&] {
        A("no context", cuStreamQuery, own);
        A("no context", cuStreamSynchronize, own);
        A("no context", cuMemsetD8Async, block, 1, 64, own);
        MUST(cuCtxSetCurrent, context);
        A("another thread's", cuStreamQuery, own);
        A("another thread's", cuStreamSynchronize, own);
        CUstream other;
        MUST(cuStreamCreate, &other, CU_STREAM_NON_BLOCKING);
        MUST(cuMemsetD32Async, flag, 1, 1, other);
        MUST(cuStreamSynchronize, other);
    }).join();
    D("idle again", cuStreamSynchronize, own);
    A("captures", cuStreamBeginCapture, own, CU_STREAM_CAPTURE_MODE_RELAXED);
    MUST(cuMemsetD8Async, block, 1, 64, own);
    std::thread([&] {
        MUST(cuCtxSetCurrent, context);
        A("another thread's does not capture", cuStreamEndCapture, own, &graph);
        A("legacy beside the capture", cuMemsetD8Async, block, 1, 64, nullptr);
    }).join();
    D("captured", cuStreamEndCapture, own, &graph);
    MUST(cuCtxDestroy, context);
    A("context destroyed", cuStreamQuery, own);
    A("context destroyed", cuMemsetD8Async, block, 1, 64, own);
    start();
    D("in a new context", cuStreamQuery, own);
}

// Which call tells first of an error that happened on the GPU, and what others say then.
static void lateErrors() {
    for (int reporter = 0; reporter < 8; reporter++) {
        CUcontext other;
        start();
        other = context;
        startWithModule();
        CUdeviceptr block, nullAddress = 0;
        CUstream faulty, healthy;
        CUevent before, after, beside;
        unsigned one = 1, value = 0;
        void *arguments[] = {&nullAddress, &one};
        MUST(cuMemAlloc, &block, 64);
        // A copy that waits does so for blocking streams only.
        MUST(cuStreamCreate, &faulty, reporter == 4 ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING);
        MUST(cuStreamCreate, &healthy, CU_STREAM_NON_BLOCKING);
        MUST(cuEventCreate, &before, 0);
        MUST(cuEventCreate, &after, 0);
        MUST(cuEventCreate, &beside, 0);
        MUST(cuEventRecord, before, faulty);
        MUST(cuEventRecord, beside, healthy);
        MUST(cuLaunchKernel, store, 1, 1, 1, 1, 1, 1, 0, faulty, arguments, nullptr);
        // Both of these may meet the error already, so that their answers are nobody's promise.
        CU(cuEventRecord)(after, faulty);
        CU(cuStreamWaitEvent)(healthy, after, 0);
        switch (reporter) {
        case 0: A("tells first", cuStreamSynchronize, faulty); break;
        case 1: A("tells first", cuStreamSynchronize, healthy); break;
        case 2: A("tells first", cuEventSynchronize, after); break;
        case 3: A("tells first", cuCtxSynchronize, ); break;
        case 4: A("tells first", cuMemcpyDtoH, &value, block, 4); break;
        case 5:
            while (CU(cuStreamQuery)(faulty) == CUDA_ERROR_NOT_READY) usleep(1000);
            A("tells first", cuStreamQuery, faulty);
            break;
        case 6:
            while (CU(cuEventQuery)(after) == CUDA_ERROR_NOT_READY) usleep(1000);
            A("tells first", cuEventQuery, after);
            break;
        case 7:
            std::thread([&] {
                MUST(cuCtxSetCurrent, context);
                A("tells first, another thread", cuStreamSynchronize, faulty);
            }).join();
            break;
        }
        size_t bytes;
        CUdevice device;
        CUcontext current;
        CUfunction function;
        CUmodule another;
        CUlibrary library;
        CUgraph graph;
        CUgraphNode node;
        CUgraphExec executable = nullptr;
        void *host;
        float ms;
        D("then", cuStreamSynchronize, healthy);
        D("then", cuStreamQuery, healthy);
        D("then", cuEventQuery, before);
        D("then", cuEventSynchronize, beside);
        D("then", cuEventElapsedTime, &ms, before, beside);
        D("then", cuStreamWaitEvent, healthy, before, 0);
        D("then", cuMemcpyHtoD, block, &value, 4);
        D("then", cuMemcpyHtoDAsync, block, &value, 4, healthy);
        D("then", cuMemFreeAsync, block, healthy);
        D("then", cuMemAllocAsync, &block, 64, healthy);
        D("then", cuMemAllocHost, &host, 64);
        D("then", cuMemHostRegister, &value, 4, 0);
        D("then", cuMemGetInfo, &bytes, &bytes);
        D("then", cuStreamCreate, &faulty, 0);
        D("then", cuEventCreate, &after, 0);
        D("then", cuModuleLoadData, &another, ptx);
        D("then", cuModuleGetFunction, &function, module, "nothing");
        D("then", cuModuleGetGlobal, &block, &bytes, module, "variable");
        D("then", cuLibraryLoadData, &library, ptx, nullptr, nullptr, 0, nullptr, nullptr, 0);
        D("then", cuStreamBeginCapture, healthy, CU_STREAM_CAPTURE_MODE_RELAXED);
        D("then", cuGraphCreate, &graph, 0);
        D("then", cuGraphAddEmptyNode, &node, graph, nullptr, 0);
        D("then", cuGraphInstantiate, &executable, graph, 0);
        D("then", cuPointerGetAttribute, &value, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, block);
        D("then", cuCtxGetDevice, &device);
        D("then", cuCtxGetCurrent, &current);
        D("then", cuCtxGetFlags, &value);
        D("then", cuCtxGetLimit, &bytes, CU_LIMIT_STACK_SIZE);
        D("then", cuStreamGetFlags, healthy, &value);
        D("then", cuFuncGetAttribute, reinterpret_cast<int *>(&value), CU_FUNC_ATTRIBUTE_NUM_REGS, nothing);
        D("then", cuGraphLaunch, executable, healthy);
        D("then", cuLibraryUnload, library);
        D("then", cuCtxCreate, &current, nullptr, 0, 0);
        // From a healthy context the faulty one's objects are as faulty as before.
        MUST(cuCtxSetCurrent, other);
        D("from a healthy context", cuStreamSynchronize, healthy);
        D("from a healthy context", cuStreamQuery, healthy);
        D("from a healthy context", cuEventQuery, before);
        D("from a healthy context", cuEventSynchronize, before);
        D("from a healthy context", cuMemsetD8Async, block, 0, 4, healthy);
        D("from a healthy context", cuEventRecord, before, healthy);
        D("from a healthy context", cuModuleUnload, module);
        D("from a healthy context", cuStreamDestroy, healthy);
        D("from a healthy context", cuEventDestroy, before);
        D("the end", cuCtxDestroy, context);
        D("the end", cuCtxDestroy, other);
    }
}
