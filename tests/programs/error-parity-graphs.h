#pragma once
// Scenarios of error-parity: graphs and captures. Included by it once, behind its own helpers.
#include <thread>

// Nothing synchronises while a stream captures.
static CUresult quiet(const char *what, const char *call, CUresult code) {
    line(what, call, nameOf(code), "nothing");
    return code;
}
#define Q(what, name, ...) quiet(what, EXPANDED(name), CU(name)(__VA_ARGS__))

static CUDA_KERNEL_NODE_PARAMS launchOf(CUfunction function, void **arguments = nullptr) {
    CUDA_KERNEL_NODE_PARAMS kernel = {};
    kernel.func = function;
    kernel.gridDimX = kernel.gridDimY = kernel.gridDimZ = 1;
    kernel.blockDimX = kernel.blockDimY = kernel.blockDimZ = 1;
    kernel.kernelParams = arguments;
    return kernel;
}

static void capturesOfSeveralStreams() {
    startWithModule();
    CUstream first, second, blocking;
    CUevent event, joined;
    CUgraph graph, given;
    CUdeviceptr block;
    void *pinned;
    char host[16] = {};
    MUST(cuMemAlloc, &block, 64);
    MUST(cuMemAllocHost, &pinned, 64);
    MUST(cuStreamCreate, &first, CU_STREAM_NON_BLOCKING);
    MUST(cuStreamCreate, &second, CU_STREAM_NON_BLOCKING);
    MUST(cuStreamCreate, &blocking, 0);
    MUST(cuEventCreate, &event, 0);
    MUST(cuEventCreate, &joined, CU_EVENT_DISABLE_TIMING);
    const CUstreamCaptureMode relaxed = CU_STREAM_CAPTURE_MODE_RELAXED;
    const CUstreamCaptureMode global = CU_STREAM_CAPTURE_MODE_GLOBAL;
    const CUstreamCaptureMode threadLocal = CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    CUstreamCaptureStatus status;
    auto end = [&graph](const char *what, CUstream stream) {
        graph = nullptr;
        D(what, cuStreamEndCapture, stream, &graph);
        std::printf("  a graph came of it: %s\n", graph == nullptr ? "no" : "yes");
        if (graph != nullptr) D(what, cuGraphDestroy, graph);
    };
    D("no place", cuStreamEndCapture, first, nullptr);

    // One capture may not take in the work of another.
    MUST(cuStreamBeginCapture, first, relaxed);
    MUST(cuStreamBeginCapture, second, relaxed);
    MUST(cuEventRecord, event, first);
    Q("waits for another capture", cuStreamWaitEvent, second, event, 0);
    Q("after merging, the one", cuStreamIsCapturing, first, &status);
    std::printf("  status %d\n", status);
    Q("after merging, the other", cuStreamIsCapturing, second, &status);
    std::printf("  status %d\n", status);
    end("after merging, the one", first);
    end("after merging, the other", second);

    // Ended by another thread than the one that began it.
    for (const CUstreamCaptureMode mode : {threadLocal, global, relaxed}) {
        MUST(cuStreamBeginCapture, first, mode);
        std::thread([&] {
            MUST(cuCtxSetCurrent, context);
            Q("the wrong thread", cuStreamEndCapture, first, &graph);
        }).join();
        end("the right thread, afterwards", first);
    }

    // Work that was forked and did not come back.
    MUST(cuStreamBeginCapture, first, relaxed);
    MUST(cuEventRecord, event, first);
    MUST(cuStreamWaitEvent, second, event, 0);
    MUST(cuMemsetD8Async, block, 1, 16, second);
    Q("a fork begins a capture", cuStreamBeginCapture, second, relaxed);
    end("unjoined work", first);
    D("the fork, afterwards", cuStreamSynchronize, second);
    MUST(cuStreamBeginCapture, first, relaxed);
    MUST(cuEventRecord, event, first);
    MUST(cuStreamWaitEvent, second, event, 0);
    MUST(cuMemsetD8Async, block, 1, 16, second);
    MUST(cuEventRecord, joined, second);
    MUST(cuStreamWaitEvent, first, joined, 0);
    end("joined work", first);
    // The event's place is in a capture that is over.
    D("event of a capture that ended", cuEventQuery, event);
    D("event of a capture that ended", cuEventSynchronize, event);
    D("event of a capture that ended", cuStreamWaitEvent, second, event, 0);
    float ms;
    D("event of a capture that ended", cuEventElapsedTime, &ms, event, event);

    // A fork is destroyed within its capture, then the stream that began it.
    CUstream gone;
    MUST(cuStreamCreate, &gone, CU_STREAM_NON_BLOCKING);
    MUST(cuStreamBeginCapture, first, relaxed);
    MUST(cuEventRecord, event, first);
    MUST(cuStreamWaitEvent, gone, event, 0);
    Q("a fork that captures", cuStreamDestroy, gone);
    end("a fork is gone", first);
    MUST(cuStreamCreate, &gone, CU_STREAM_NON_BLOCKING);
    MUST(cuStreamBeginCapture, gone, relaxed);
    D("captures", cuStreamDestroy, gone);

    // What would wait for a capture: the legacy stream and whatever works in it.
    for (const CUstreamCaptureMode mode : {global, threadLocal, relaxed}) {
        MUST(cuStreamBeginCapture, blocking, mode);
        Q("legacy beside a blocking capture", cuMemsetD8Async, block, 0, 16, nullptr);
        end("after using the legacy stream", blocking);
        MUST(cuStreamBeginCapture, blocking, mode);
        Q("legacy beside a blocking capture", cuLaunchKernel, nothing, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
        Q("legacy beside a blocking capture", cuEventRecord, event, nullptr);
        Q("legacy beside a blocking capture", cuStreamWaitEvent, nullptr, event, 0);
        Q("legacy beside a blocking capture", cuStreamSynchronize, nullptr);
        end("after using the legacy stream", blocking);
        MUST(cuStreamBeginCapture, blocking, mode);
        Q("legacy beside a blocking capture", cuMemcpyHtoD, block, host, 16);
        end("after a copy that waits", blocking);
        MUST(cuStreamBeginCapture, first, mode);
        Q("legacy beside another capture", cuMemsetD8Async, block, 0, 16, nullptr);
        Q("beside another capture", cuMemcpyDtoH, host, block, 16);
        end("after a copy that waits", first);
    }

    // Calls that may be unsafe, by mode and thread.
    CUdeviceptr other;
    CUmodule module;
    for (const CUstreamCaptureMode mode : {global, threadLocal, relaxed}) {
        MUST(cuStreamBeginCapture, first, mode);
        auto unsafe = [&] {
            Q("while capturing", cuMemAlloc, &other, 64);
            Q("while capturing", cuMemHostRegister, host, 16, 0);
            Q("while capturing", cuMemHostUnregister, host);
            Q("while capturing", cuModuleLoadData, &module, ptx);
            Q("while capturing", cuStreamQuery, second);
            Q("while capturing", cuStreamSynchronize, second);
            Q("while capturing", cuEventQuery, joined);
            Q("while capturing", cuMemGetInfo, reinterpret_cast<size_t *>(pinned), reinterpret_cast<size_t *>(pinned));
        };
        std::thread([&] {
            MUST(cuCtxSetCurrent, context);
            std::printf("  another thread\n");
            unsafe();
        }).join();
        std::printf("  the thread that captures\n");
        unsafe();
        end("after unsafe calls", first);
    }
    CUstreamCaptureMode mode = static_cast<CUstreamCaptureMode>(9);
    D("mode 9", cuThreadExchangeStreamCaptureMode, &mode);
    D("no place", cuThreadExchangeStreamCaptureMode, nullptr);

    // Things that no graph can do.
    MUST(cuStreamBeginCapture, first, relaxed);
    Q("captured", cuMemcpyHtoDAsync, block, host, 16, first);
    Q("captured, past the end", cuMemcpyHtoDAsync, block + 60, host, 16, first);
    Q("captured, past the end", cuMemsetD8Async, block + 60, 0, 16, first);
    Q("captured, no blocks", cuLaunchKernel, nothing, 0, 1, 1, 1, 1, 1, 0, first, nullptr, nullptr);
    Q("captured, never allocated", cuMemFreeAsync, nowhere, first);
    Q("captured, memory of another kind", cuMemFreeAsync, block, first);
    Q("captured", cuStreamIsCapturing, first, &status);
    std::printf("  status %d\n", status);
    end("after mistakes", first);
    MUST(cuStreamBeginCapture, first, relaxed);
    Q("captured", cuStreamAddCallback, first, [](CUstream, CUresult, void *) {}, nullptr, 0);
    end("after a callback", first);

    // Captures into a graph.
    CUgraphNode node;
    MUST(cuGraphCreate, &given, 0);
    MUST(cuGraphAddEmptyNode, &node, given, nullptr, 0);
    D("no graph", cuStreamBeginCaptureToGraph, first, nullptr, nullptr, nullptr, 0, relaxed);
    D("no list", cuStreamBeginCaptureToGraph, first, given, nullptr, nullptr, 1, relaxed);
    D("mode 9", cuStreamBeginCaptureToGraph, first, given, &node, nullptr, 1, static_cast<CUstreamCaptureMode>(9));
    D("the legacy stream", cuStreamBeginCaptureToGraph, nullptr, given, &node, nullptr, 1, relaxed);
    D("none", cuStreamUpdateCaptureDependencies, first, &node, nullptr, 1, 0);
    MUST(cuStreamBeginCaptureToGraph, first, given, &node, nullptr, 1, relaxed);
    Q("flags", cuStreamUpdateCaptureDependencies, first, &node, nullptr, 1, 77);
    Q("no list", cuStreamUpdateCaptureDependencies, first, nullptr, nullptr, 1, 0);
    Q("well", cuStreamUpdateCaptureDependencies, first, &node, nullptr, 1, 0);
    D("into a graph", cuStreamEndCapture, first, &graph);
    D("the graph captured into", cuGraphDestroy, given);
}

static void graphNodes() {
    startWithModule();
    CUstream stream;
    CUgraph graph, other, child;
    CUgraphNode node, second, third, list[2];
    CUgraphExec executable;
    CUdeviceptr block;
    CUevent event;
    CUcontext foreign;
    CUfunction foreignFunction;
    CUmodule foreignModule;
    char host[64] = {};
    MUST(cuMemAlloc, &block, 64);
    MUST(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    MUST(cuEventCreate, &event, 0);
    MUST(cuCtxCreate, &foreign, nullptr, 0, 0);
    MUST(cuModuleLoadData, &foreignModule, ptx);
    MUST(cuModuleGetFunction, &foreignFunction, foreignModule, "store");
    MUST(cuCtxPopCurrent, &foreign);
    MUST(cuGraphCreate, &graph, 0);
    MUST(cuGraphCreate, &other, 0);
    MUST(cuGraphCreate, &child, 0);
    unsigned one = 1;
    void *arguments[] = {&block, &one};

    CUDA_KERNEL_NODE_PARAMS kernel = launchOf(nullptr);
    D("no function", cuGraphAddKernelNode, &node, graph, nullptr, 0, &kernel);
    kernel = launchOf(store);
    D("no parameters", cuGraphAddKernelNode, &node, graph, nullptr, 0, &kernel);
    kernel = launchOf(nothing);
    kernel.gridDimY = 65536;
    D("65536 blocks in y", cuGraphAddKernelNode, &node, graph, nullptr, 0, &kernel);
    kernel = launchOf(nothing);
    kernel.sharedMemBytes = 1 << 30;
    D("1 GiB of shared memory", cuGraphAddKernelNode, &node, graph, nullptr, 0, &kernel);
    kernel = launchOf(store, arguments);
    D("no place", cuGraphAddKernelNode, nullptr, graph, nullptr, 0, &kernel);
    D("well", cuGraphAddKernelNode, &node, graph, nullptr, 0, &kernel);

    CUDA_MEMCPY3D copy = {};
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = host;
    copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.dstDevice = block;
    copy.WidthInBytes = 16;
    copy.Height = copy.Depth = 1;
    D("no description", cuGraphAddMemcpyNode, &second, graph, nullptr, 0, nullptr, context);
    D("no context", cuGraphAddMemcpyNode, &second, graph, nullptr, 0, &copy, nullptr);
    copy.WidthInBytes = 65;
    D("past the end", cuGraphAddMemcpyNode, &second, graph, nullptr, 0, &copy, context);
    copy.WidthInBytes = 16;
    copy.dstMemoryType = static_cast<CUmemorytype>(77);
    D("kind of memory 77", cuGraphAddMemcpyNode, &second, graph, nullptr, 0, &copy, context);
    copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.srcHost = nullptr;
    D("no source", cuGraphAddMemcpyNode, &second, graph, nullptr, 0, &copy, context);
    copy.srcHost = host;
    D("well", cuGraphAddMemcpyNode, &second, graph, &node, 1, &copy, context);

    CUDA_MEMSET_NODE_PARAMS fill = {};
    fill.dst = block;
    fill.elementSize = 4;
    fill.width = 16;
    fill.height = 1;
    D("no description", cuGraphAddMemsetNode, &third, graph, nullptr, 0, nullptr, context);
    fill.elementSize = 3;
    D("elements of 3", cuGraphAddMemsetNode, &third, graph, nullptr, 0, &fill, context);
    fill.elementSize = 4;
    fill.width = 17;
    D("past the end", cuGraphAddMemsetNode, &third, graph, nullptr, 0, &fill, context);
    fill.width = 2;
    fill.dst = block + 2;
    D("misaligned", cuGraphAddMemsetNode, &third, graph, nullptr, 0, &fill, context);
    fill.dst = block;
    fill.height = 2;
    fill.pitch = 4;
    D("pitch too small", cuGraphAddMemsetNode, &third, graph, nullptr, 0, &fill, context);
    fill.height = 1;
    D("well", cuGraphAddMemsetNode, &third, graph, &second, 1, &fill, context);

    CUgraphNode made;
    CUDA_HOST_NODE_PARAMS function = {};
    D("no function", cuGraphAddHostNode, &made, graph, nullptr, 0, &function);
    D("no description", cuGraphAddHostNode, &made, graph, nullptr, 0, nullptr);
    D("no event", cuGraphAddEventRecordNode, &made, graph, nullptr, 0, nullptr);
    D("no event", cuGraphAddEventWaitNode, &made, graph, nullptr, 0, nullptr);
    D("itself", cuGraphAddChildGraphNode, &made, graph, nullptr, 0, graph);
    D("no graph", cuGraphAddChildGraphNode, &made, graph, nullptr, 0, nullptr);
    D("well", cuGraphAddChildGraphNode, &made, graph, &third, 1, child);
    D("no place", cuGraphAddEmptyNode, nullptr, graph, nullptr, 0);
    list[0] = list[1] = node;
    D("the same node twice", cuGraphAddEmptyNode, &made, graph, list, 2);
    D("of another graph", cuGraphAddEmptyNode, &made, other, &node, 1);
    CUDA_MEM_ALLOC_NODE_PARAMS allocation = {};
    allocation.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    allocation.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, {0}};
    D("no bytes", cuGraphAddMemAllocNode, &made, graph, nullptr, 0, &allocation);
    allocation.bytesize = 64;
    allocation.poolProps.location.id = 99;
    D("device 99", cuGraphAddMemAllocNode, &made, graph, nullptr, 0, &allocation);
    D("no description", cuGraphAddMemAllocNode, &made, graph, nullptr, 0, nullptr);
    D("of no graph", cuGraphAddMemFreeNode, &made, graph, nullptr, 0, block);
    D("nowhere", cuGraphAddMemFreeNode, &made, graph, nullptr, 0, nowhere);

    // Edges.
    D("a circle", cuGraphAddDependencies, graph, &second, &node, nullptr, 1);
    D("in a circle", cuGraphInstantiate, &executable, graph, 0);
    D("in a circle", cuGraphAddChildGraphNode, &made, other, nullptr, 0, graph);
    CU(cuGraphRemoveDependencies)(graph, &second, &node, nullptr, 1);
    D("there already", cuGraphAddDependencies, graph, &node, &second, nullptr, 1);
    D("not there", cuGraphRemoveDependencies, graph, &node, &third, nullptr, 1);
    D("no lists", cuGraphAddDependencies, graph, nullptr, nullptr, nullptr, 1);
    D("none", cuGraphAddDependencies, graph, nullptr, nullptr, nullptr, 0);
    size_t count;
    D("no place", cuGraphGetNodes, graph, nullptr, nullptr);
    D("no node", cuGraphNodeGetDependencies, nullptr, nullptr, nullptr, &count);
    CUgraphNodeType kind;
    D("no node", cuGraphNodeGetType, nullptr, &kind);
    D("no place", cuGraphNodeGetType, node, nullptr);

    // Parameters of the wrong kind of node.
    D("of a copy", cuGraphKernelNodeGetParams, second, &kernel);
    D("no place", cuGraphKernelNodeGetParams, node, nullptr);
    D("of a kernel", cuGraphMemcpyNodeGetParams, node, &copy);
    kernel = launchOf(nothing);
    D("of a copy", cuGraphKernelNodeSetParams, second, &kernel);
    D("no description", cuGraphKernelNodeSetParams, node, nullptr);
    D("of a copy", cuGraphEventRecordNodeSetEvent, second, event);
    D("of a kernel", cuGraphMemsetNodeSetParams, node, &fill);
    D("itself", cuGraphChildGraphNodeGetGraph, node, &other);

    // Graphs that became executable, and what may be changed in them.
    D("flags", cuGraphInstantiateWithFlags, &executable, graph, 0x100);
    CUDA_GRAPH_INSTANTIATE_PARAMS instantiation = {};
    instantiation.flags = 0x100;
    D("flags", cuGraphInstantiateWithParams, &executable, graph, &instantiation);
    std::printf("  result %d\n", instantiation.result_out);
    D("no parameters", cuGraphInstantiateWithParams, &executable, graph, nullptr);
    D("well", cuGraphInstantiate, &executable, graph, 0);
    kernel = launchOf(nullptr);
    D("no function", cuGraphExecKernelNodeSetParams, executable, node, &kernel);
    kernel = launchOf(store);
    D("no parameters", cuGraphExecKernelNodeSetParams, executable, node, &kernel);
    kernel = launchOf(nothing);
    kernel.blockDimX = 5000;
    D("5000 threads", cuGraphExecKernelNodeSetParams, executable, node, &kernel);
    kernel = launchOf(nothing);
    D("another function", cuGraphExecKernelNodeSetParams, executable, node, &kernel);
    kernel = launchOf(foreignFunction, arguments);
    D("a function of another context", cuGraphExecKernelNodeSetParams, executable, node, &kernel);
    kernel = launchOf(store, arguments);
    D("of a copy", cuGraphExecKernelNodeSetParams, executable, second, &kernel);
    D("no description", cuGraphExecKernelNodeSetParams, executable, node, nullptr);
    D("no graph", cuGraphExecKernelNodeSetParams, nullptr, node, &kernel);
    D("no node", cuGraphExecKernelNodeSetParams, executable, nullptr, &kernel);
    copy.WidthInBytes = 65;
    D("past the end", cuGraphExecMemcpyNodeSetParams, executable, second, &copy, context);
    copy.WidthInBytes = 16;
    D("another context", cuGraphExecMemcpyNodeSetParams, executable, second, &copy, foreign);
    D("of a kernel", cuGraphExecMemcpyNodeSetParams, executable, node, &copy, context);
    fill.width = 17;
    D("past the end", cuGraphExecMemsetNodeSetParams, executable, third, &fill, context);
    fill.width = 4;
    D("well", cuGraphExecMemsetNodeSetParams, executable, third, &fill, context);
    D("of a kernel", cuGraphExecEventRecordNodeSetEvent, executable, node, event);
    D("another shape", cuGraphExecChildGraphNodeSetParams, executable, node, graph);
    unsigned enabled;
    D("no place", cuGraphNodeGetEnabled, executable, node, nullptr);
    D("a copy, off", cuGraphNodeSetEnabled, executable, second, 0);
    D("a kernel, off", cuGraphNodeSetEnabled, executable, node, 0);
    D("a kernel", cuGraphNodeGetEnabled, executable, node, &enabled);
    D("no node", cuGraphNodeSetEnabled, executable, nullptr, 0);
    CUgraphNode later;
    MUST(cuGraphAddEmptyNode, &later, graph, nullptr, 0);
    D("added afterwards", cuGraphNodeSetEnabled, executable, later, 0);
    D("well", cuGraphLaunch, executable, stream);
    D("no stream of this kind", cuGraphLaunch, executable, reinterpret_cast<CUstream>(event));
    D("well", cuGraphUpload, executable, stream);
    D("well", cuGraphExecDestroy, executable);
    D("destroyed", cuGraphLaunch, executable, stream);
    D("destroyed", cuGraphUpload, executable, stream);
    D("destroyed", cuGraphExecKernelNodeSetParams, executable, node, &kernel);
    D("twice", cuGraphExecDestroy, executable);
    D("a node", cuGraphDestroyNode, node);
    D("twice", cuGraphDestroyNode, node);
    D("well", cuGraphDestroy, graph);
    D("twice", cuGraphDestroy, graph);
    D("destroyed", cuGraphInstantiate, &executable, graph, 0);
    D("destroyed", cuGraphAddEmptyNode, &node, graph, nullptr, 0);
    D("of a destroyed graph", cuGraphNodeGetType, second, &kind);
}

static void graphUpdates() {
    startWithModule();
    CUstream stream;
    CUgraph graph, other;
    CUgraphNode node, second, added;
    CUgraphExec executable;
    CUdeviceptr block;
    MUST(cuMemAlloc, &block, 64);
    MUST(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    unsigned one = 1;
    void *arguments[] = {&block, &one};
    MUST(cuGraphCreate, &graph, 0);
    CUDA_KERNEL_NODE_PARAMS kernel = launchOf(store, arguments);
    CUDA_MEMSET_NODE_PARAMS fill = {};
    fill.dst = block;
    fill.elementSize = fill.height = 1;
    fill.width = 16;
    MUST(cuGraphAddKernelNode, &node, graph, nullptr, 0, &kernel);
    MUST(cuGraphAddMemsetNode, &second, graph, &node, 1, &fill, context);
    MUST(cuGraphInstantiate, &executable, graph, 0);
    CUgraphExecUpdateResultInfo info;
    auto update = [&](const char *what) {
        info = {};
        D(what, cuGraphExecUpdate, executable, other, &info);
        std::printf("  result %d\n", info.result);
        D("and then", cuGraphLaunch, executable, stream);
        MUST(cuGraphDestroy, other);
    };
    D("no graph", cuGraphExecUpdate, executable, nullptr, &info);
    D("no executable", cuGraphExecUpdate, nullptr, graph, &info);
    D("no place", cuGraphExecUpdate, executable, graph, nullptr);
    MUST(cuGraphClone, &other, graph);
    update("the same");
    MUST(cuGraphCreate, &other, 0);
    update("nothing in it");
    MUST(cuGraphClone, &other, graph);
    MUST(cuGraphAddEmptyNode, &added, other, nullptr, 0);
    update("a node more");
    MUST(cuGraphCreate, &other, 0);
    MUST(cuGraphAddMemsetNode, &node, other, nullptr, 0, &fill, context);
    MUST(cuGraphAddMemsetNode, &second, other, &node, 1, &fill, context);
    update("another kind of node");
    MUST(cuGraphCreate, &other, 0);
    MUST(cuGraphAddKernelNode, &node, other, nullptr, 0, &kernel);
    MUST(cuGraphAddMemsetNode, &second, other, nullptr, 0, &fill, context);
    update("an edge less");
    MUST(cuGraphCreate, &other, 0);
    CUDA_KERNEL_NODE_PARAMS another = launchOf(nothing);
    MUST(cuGraphAddKernelNode, &node, other, nullptr, 0, &another);
    MUST(cuGraphAddMemsetNode, &second, other, &node, 1, &fill, context);
    update("another function");
    CUcontext foreign;
    CUmodule foreignModule;
    CUfunction foreignFunction;
    MUST(cuCtxCreate, &foreign, nullptr, 0, 0);
    MUST(cuModuleLoadData, &foreignModule, ptx);
    MUST(cuModuleGetFunction, &foreignFunction, foreignModule, "nothing");
    MUST(cuCtxPopCurrent, &foreign);
    MUST(cuGraphCreate, &other, 0);
    another = launchOf(foreignFunction);
    another.ctx = foreign;
    MUST(cuGraphAddKernelNode, &node, other, nullptr, 0, &another);
    MUST(cuGraphAddMemsetNode, &second, other, &node, 1, &fill, context);
    update("a function of another context");
    MUST(cuGraphCreate, &other, 0);
    MUST(cuGraphAddKernelNode, &node, other, nullptr, 0, &kernel);
    fill.width = 4;
    fill.height = 2;
    fill.pitch = 8;
    MUST(cuGraphAddMemsetNode, &second, other, &node, 1, &fill, context);
    update("a memset of two rows");
    MUST(cuGraphClone, &other, graph);
    MUST(cuModuleUnload, module);
    update("the module is unloaded");
    D("the module is unloaded", cuGraphInstantiate, &executable, graph, 0);
    D("destroyed", cuGraphExecUpdate, executable, other, &info);
}
