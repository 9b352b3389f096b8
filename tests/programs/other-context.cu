// Streams and events of one context that are used while another one is current on the thread, which CUDA permits for all but
// launches: contexts of two devices, and two contexts of one device.
//
// A remote GPU could get wrong here: calls that are made, and answered, in the thread's current context instead of the
// stream's own give errors, are never finished, or wait for nothing.
#include "guest.h"

#include <chrono>
#include <cuda.h>
#include <dlfcn.h>
#include <thread>

// A function of the driver, without linking against it.
template <typename Function> Function *driver(Function *, const char *name) {
    static void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    void *function = dlsym(library, name);
    EXPECT(function != nullptr);
    return reinterpret_cast<Function *>(function);
}
#define DRIVER(call, symbol) driver(static_cast<decltype(&::call)>(nullptr), symbol)

constexpr int kBytes = 1 << 20;
constexpr long long kCycles = 300000;

__global__ void store(int *place, int value) { *place = value; }

CUcontext own;   // the stream's
CUcontext other; // another one

cudaStream_t stream;
char *device;
char *source, *result;
int called;

void CUDART_CB call(void *) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    called++;
}

void make(CUcontext context) { EXPECT(DRIVER(cuCtxSetCurrent, "cuCtxSetCurrent")(context) == CUDA_SUCCESS); }

// Work that takes a while, put on the stream with its own context current.
void busy() {
    make(own);
    spin<<<1, 1, 0, stream>>>(kCycles);
    CHECK(cudaGetLastError());
    make(other);
}

template <typename Query> void until(Query query) {
    auto giveUp = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    cudaError_t code;
    while ((code = query()) == cudaErrorNotReady) EXPECT(std::chrono::steady_clock::now() < giveUp);
    CHECK(code);
}

void copies() {
    for (int round = 0; round < 6; round++) {
        size_t bytes = round % 3 == 0 ? 4 : round % 3 == 1 ? 100 << 10 : kBytes;
        busy();
        std::memset(source, round + 1, bytes);
        std::memset(result, 0, bytes);
        CHECK(cudaMemcpyAsync(device, source, bytes, cudaMemcpyHostToDevice, stream));
        CHECK(cudaMemcpyAsync(result, device, bytes, cudaMemcpyDeviceToHost, stream));
        CHECK(cudaStreamSynchronize(stream));
        EXPECT(std::memcmp(source, result, bytes) == 0);
        std::vector<char> pageable(bytes);
        busy();
        CHECK(cudaMemsetAsync(device, round + 9, bytes, stream));
        CHECK(cudaMemcpyAsync(pageable.data(), device, bytes, cudaMemcpyDeviceToHost, stream));
        CHECK(cudaStreamSynchronize(stream));
        EXPECT(pageable[0] == round + 9 && pageable[bytes - 1] == round + 9);
    }
}

void queries() {
    cudaEvent_t event;
    make(own);
    CHECK(cudaEventCreate(&event));
    for (int round = 0; round < 3; round++) {
        busy();
        until([] { return cudaStreamQuery(stream); });
        busy();
        CHECK(cudaEventRecord(event, stream));
        until([event] { return cudaEventQuery(event); });
        CHECK(cudaStreamSynchronize(stream));
    }
    CHECK(cudaEventDestroy(event));
}

// Events of the other context's default stream.
void legacy() {
    cudaEvent_t event;
    make(own);
    CHECK(cudaEventCreate(&event));
    spin<<<1, 1>>>(kCycles);
    CHECK(cudaGetLastError());
    CHECK(cudaEventRecord(event, cudaStreamLegacy));
    make(other);
    until([event] { return cudaEventQuery(event); });
    CHECK(cudaEventDestroy(event));
}

void functions() {
    called = 0;
    CHECK(cudaLaunchHostFunc(stream, call, nullptr));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(called == 1);
    CHECK(cudaLaunchHostFunc(stream, call, nullptr));
    CHECK(cudaMemcpyAsync(result, device, kBytes, cudaMemcpyDeviceToHost, stream));
    CHECK(cudaMemcpyAsync(device, source, kBytes, cudaMemcpyHostToDevice, stream));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(called == 2);
}

void waits() {
    cudaStream_t waiting;
    cudaEvent_t event;
    make(other);
    CHECK(cudaStreamCreate(&waiting));
    make(own);
    CHECK(cudaEventCreate(&event));
    called = 0;
    CHECK(cudaLaunchHostFunc(stream, call, nullptr));
    CHECK(cudaEventRecord(event, stream));
    // Neither the stream's context nor the event's need be current: one of them is not.
    CHECK(cudaStreamWaitEvent(waiting, event, 0));
    make(other);
    CHECK(cudaStreamSynchronize(waiting));
    EXPECT(called == 1);
    make(own);
    CHECK(cudaStreamDestroy(waiting));
    CHECK(cudaEventDestroy(event));
    make(other);
}

void pools() {
    int *memory;
    CHECK(cudaMallocAsync(&memory, sizeof(int), stream));
    CHECK(cudaMemsetAsync(memory, 0, sizeof(int), stream));
    make(own);
    store<<<1, 1, 0, stream>>>(memory, 42);
    CHECK(cudaGetLastError());
    make(other);
    CHECK(cudaMemcpyAsync(result, memory, sizeof(int), cudaMemcpyDeviceToHost, stream));
    CHECK(cudaFreeAsync(memory, stream));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(*reinterpret_cast<int *>(result) == 42);
}

// The exception.
void launches() {
    spin<<<1, 1, 0, stream>>>(1);
    std::printf("launch: %s\n", cudaGetErrorName(cudaGetLastError()));
}

void tryAll(const char *what) {
    make(own);
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaMalloc(&device, kBytes));
    CHECK(cudaHostAlloc(&source, kBytes, cudaHostAllocPortable));
    CHECK(cudaHostAlloc(&result, kBytes, cudaHostAllocPortable));
    // Enough of them that long ones take the way that long ones take.
    for (int round = 0; round < 3; round++) CHECK(cudaMemcpy(device, source, kBytes, cudaMemcpyHostToDevice));
    CHECK(cudaDeviceSynchronize());
    make(other);
    const struct {
        const char *name;
        void (*run)();
    } parts[] = {{"copies", copies},       {"queries", queries}, {"legacy", legacy}, {"functions", functions},
                 {"waits", waits},         {"pools", pools},     {"launches", launches}};
    for (const auto &part : parts) {
        part.run();
        std::printf("%s: %s\n", what, part.name);
        std::fflush(stdout);
    }
    // It is destroyed from there, too, and its work is done all the same.
    busy();
    CHECK(cudaMemcpyAsync(result, device, 4, cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamDestroy(stream));
    make(own);
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaFree(device));
    CHECK(cudaFreeHost(source));
    CHECK(cudaFreeHost(result));
}

int main() {
    int count;
    CHECK(cudaGetDeviceCount(&count));
    EXPECT(count >= 2);
    CUcontext primary[2];
    for (int index : {0, 1}) {
        CHECK(cudaSetDevice(index));
        CHECK(cudaFree(nullptr));
        EXPECT(DRIVER(cuCtxGetCurrent, "cuCtxGetCurrent")(&primary[index]) == CUDA_SUCCESS);
    }
    own = primary[1];
    other = primary[0];
    tryAll("two devices");

    CUcontext second;
    CUctxCreateParams parameters{};
    EXPECT(DRIVER(cuCtxCreate, "cuCtxCreate_v4")(&second, &parameters, 0, 0) == CUDA_SUCCESS);
    own = primary[0];
    other = second;
    tryAll("one device");
    make(primary[0]);
    EXPECT(DRIVER(cuCtxDestroy, "cuCtxDestroy_v2")(second) == CUDA_SUCCESS);
    std::printf("PASSED\n");
    return 0;
}
