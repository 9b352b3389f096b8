// Ways to end: from another thread, with calls under way, with handlers that call CUDA themselves.
#include "guest.h"

#include <atomic>
#include <cuda.h>
#include <dlfcn.h>
#include <pthread.h>
#include <thread>

static decltype(&cuCtxSynchronize) synchronize;

static const pthread_t mainThread = pthread_self();

// Another thread than the one that started has no context unless the runtime gives it one.
static bool isFine(int result) {
    return result == CUDA_SUCCESS || result == CUDA_ERROR_DEINITIALIZED ||
           (result == CUDA_ERROR_INVALID_CONTEXT && pthread_self() != mainThread);
}

static void callAll(const char *when) {
    int *memory = nullptr;
    int results[] = {static_cast<int>(synchronize()), static_cast<int>(cudaMalloc(&memory, 16)),
                     static_cast<int>(cudaMemsetAsync(memory, 0, 16)), static_cast<int>(cudaFree(memory)),
                     static_cast<int>(cudaDeviceSynchronize())};
    bool fine = isFine(results[0]);
    // The runtime has a word of its own for it, and what follows from a refused allocation is refused, too.
    for (int i = 1; i < 5; i++)
        fine = fine && (results[i] == cudaSuccess || results[i] == cudaErrorCudartUnloading || results[i] == cudaErrorInvalidValue);
    if (!fine) {
        std::printf("%s: %d %d %d %d %d\nFAILED\n", when, results[0], results[1], results[2], results[3], results[4]);
        std::fflush(stdout);
        std::_Exit(1);
    }
    std::printf("%s\n", when);
}

static void early() { callAll("a handler from before CUDA"); }
static void late() { callAll("a handler from after CUDA"); }

struct Global {
    const char *when;
    ~Global() {
        if (synchronize != nullptr) callAll(when);
    }
};

static Global global{"a destructor of a global"};

static void start() {
    std::atexit(early);
    CHECK(cudaFree(nullptr));
    synchronize = reinterpret_cast<decltype(synchronize)>(dlsym(dlopen("libcuda.so.1", RTLD_NOW), "cuCtxSynchronize"));
    std::atexit(late);
}

static std::atomic<int> started{0};

template <typename Function>
static Function *symbol(const char *name) {
    void *address = dlsym(dlopen("libcuda.so.1", RTLD_NOW), name);
    EXPECT(address != nullptr);
    return reinterpret_cast<Function *>(address);
}

// Threads in the middle of every kind of call. Not by the runtime: it frees what its own calls are using.
static void keepBusy() {
    for (int kind = 0; kind < 4; kind++) {
        std::thread([kind] {
            auto upload = symbol<CUresult(CUdeviceptr, const void *, size_t, CUstream)>("cuMemcpyHtoDAsync_v2");
            auto download = symbol<CUresult(void *, CUdeviceptr, size_t, CUstream)>("cuMemcpyDtoHAsync_v2");
            auto fill = symbol<CUresult(CUdeviceptr, unsigned char, size_t, CUstream)>("cuMemsetD8Async");
            auto hostFunction = symbol<CUresult(CUstream, CUhostFn, void *)>("cuLaunchHostFunc");
            auto wait = symbol<CUresult(CUstream)>("cuStreamSynchronize");
            cudaStream_t stream;
            CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
            static char bytes[4][4 << 20];
            void *memory = nullptr;
            CHECK(cudaMalloc(&memory, sizeof bytes[0]));
            auto device = reinterpret_cast<CUdeviceptr>(memory);
            started++;
            for (;;) {
                if (kind == 0) upload(device, bytes[kind], sizeof bytes[kind], stream);
                if (kind == 1) download(bytes[kind], device, sizeof bytes[kind], stream);
                if (kind == 2) fill(device, 1, sizeof bytes[kind], stream);
                if (kind == 3) hostFunction(stream, [](void *) { usleep(100); }, nullptr);
                if (kind > 1) wait(stream);
            }
        }).detach();
    }
    while (started < 4) usleep(100);
}

int main(int, char **argv) {
    std::string mode = argv[1];
    start();
    if (mode == "return") return 0;
    if (mode == "thread") {
        keepBusy();
        std::thread([] { std::exit(7); }).join();
    }
    if (mode == "busy") {
        keepBusy();
        return 7;
    }
    if (mode == "callback") {
        CHECK(cudaLaunchHostFunc(nullptr, [](void *) { std::_Exit(7); }, nullptr));
        cudaDeviceSynchronize();
    }
    if (mode == "main-thread-ends") {
        static std::thread last;
        std::thread([main = pthread_self()] {
            pthread_join(main, nullptr);
            work();
            std::exit(7);
        }).detach();
        pthread_exit(nullptr);
    }
    if (mode == "pending") {
        int *flag;
        CHECK(cudaMalloc(&flag, sizeof(int)));
        CHECK(cudaMemset(flag, 0, sizeof(int)));
        untilSet<<<1, 1>>>(flag);
        synchronize = nullptr; // they would wait for ever, as CUDA's do
        std::_Exit(7);
    }
    return 1;
}
