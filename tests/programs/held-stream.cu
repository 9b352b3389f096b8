// Memory calls while a stream is held by a host function, which returns only when the thread that makes these calls goes on:
// none of them waits for that stream, as nothing of what they ask for depends on it.
//
// A remote GPU could get wrong here: memory that was freed is kept back until everything on the GPU is done, and whoever wants
// memory, or asks how much there is, waits for that.
// usage: held-stream refused|refused-behind|async|own|info|info-behind|other-function|other-download
#include "guest.h"

#include <atomic>
#include <chrono>
#include <thread>

constexpr size_t kMebi = 1 << 20;

std::atomic<bool> goesOn{false};

void CUDART_CB hold(void *) {
    for (int waited = 0; !goesOn; waited++) {
        if (waited > 20000) {
            std::printf("the calling thread is held up\nFAILED\n");
            std::fflush(stdout);
            std::_Exit(1);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

cudaStream_t stream() {
    cudaStream_t made;
    CHECK(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
    return made;
}

void *allocate(size_t bytes) {
    void *memory;
    CHECK(cudaMalloc(&memory, bytes));
    return memory;
}

void holdUp(cudaStream_t held) { CHECK(cudaLaunchHostFunc(held, hold, nullptr)); }

void refuse() {
    void *memory;
    size_t free = 0, total = 0;
    EXPECT(cudaMalloc(&memory, size_t{1} << 45) == cudaErrorMemoryAllocation);
    CHECK(cudaMemGetInfo(&free, &total));
    EXPECT(cudaMalloc(&memory, total) == cudaErrorMemoryAllocation);
    EXPECT(cudaMallocAsync(&memory, total, cudaStreamPerThread) == cudaErrorMemoryAllocation);
    (void)cudaGetLastError();
}

// What is freed while something runs, before the stream is held.
void freeWhileBusy(cudaStream_t busy, size_t large) {
    void *memory = allocate(large), *small = allocate(1000);
    spin<<<1, 1, 0, busy>>>(20000000);
    CHECK(cudaGetLastError());
    CHECK(cudaFree(memory));
    CHECK(cudaFree(small));
}

// Allocations in the order of a stream, over and over: `together` of them at a time.
void allocateInOrder(cudaStream_t of, int rounds, int together, size_t bytes) {
    for (int round = 0; round < rounds; round++) {
        std::vector<void *> all(together);
        for (void *&memory : all) CHECK(cudaMallocAsync(&memory, bytes, of));
        for (void *memory : all) CHECK(cudaMemsetAsync(memory, round, bytes, of));
        for (void *memory : all) CHECK(cudaFreeAsync(memory, of));
    }
}

size_t freeBytes() {
    size_t free, total;
    CHECK(cudaMemGetInfo(&free, &total));
    return free;
}

int main(int argumentCount, char **arguments) {
    const std::string mode = argumentCount > 1 ? arguments[1] : "refused";
    int devices;
    CHECK(cudaGetDeviceCount(&devices));
    cudaStream_t held = stream(), other = stream();
    work(other);
    spin<<<1, 1, 0, other>>>(1);
    CHECK(cudaDeviceSynchronize());
    size_t before = freeBytes();

    if (mode == "refused") {
        freeWhileBusy(other, 600 * kMebi);
        holdUp(held);
        refuse();
    } else if (mode == "refused-behind") {
        // In the order of the held stream: nobody can know when that is free.
        void *memory;
        holdUp(held);
        CHECK(cudaMallocAsync(&memory, kMebi, held));
        CHECK(cudaFreeAsync(memory, held));
        CHECK(cudaMallocAsync(&memory, 100 * kMebi, held));
        CHECK(cudaFreeAsync(memory, held));
        refuse();
    } else if (mode == "async") {
        holdUp(held);
        allocateInOrder(other, 40, 20, kMebi);
        allocateInOrder(other, 4, 300, kMebi);
        CHECK(cudaStreamSynchronize(other));
        refuse();
    } else if (mode == "own") {
        holdUp(held);
        allocateInOrder(held, 100, 5, kMebi);
    } else if (mode == "info") {
        freeWhileBusy(other, 600 * kMebi);
        holdUp(held);
        EXPECT(freeBytes() == before);
        (void)allocate(400 * kMebi - 1000);
    } else if (mode == "info-behind") {
        holdUp(held);
        allocateInOrder(other, 1, 300, kMebi);
        CHECK(cudaStreamSynchronize(other));
        (void)freeBytes();
        allocateInOrder(held, 1, 300, kMebi);
        (void)freeBytes();
        CHECK(cudaFreeAsync(allocate(300 * kMebi), other));
    } else if (mode == "other-function" || mode == "other-download") {
        EXPECT(devices == 2);
        CHECK(cudaSetDevice(1));
        cudaStream_t there = stream(), beside = stream();
        int *flag;
        char *pinned, *device;
        CHECK(cudaMalloc(&flag, sizeof(int)));
        CHECK(cudaMalloc(&device, kMebi));
        CHECK(cudaHostAlloc(&pinned, kMebi, cudaHostAllocPortable));
        CHECK(cudaMemset(flag, 0, sizeof(int)));
        CHECK(cudaDeviceSynchronize());
        if (mode == "other-function") {
            holdUp(there);
        } else {
            untilSet<<<1, 1, 0, there>>>(flag);
            CHECK(cudaGetLastError());
            CHECK(cudaMemcpyAsync(pinned, device, kMebi, cudaMemcpyDeviceToHost, there));
        }
        CHECK(cudaSetDevice(0));
        for (int round = 0; round < 5; round++) {
            freeWhileBusy(other, 600 * kMebi);
            EXPECT(freeBytes() == before);
            CHECK(cudaFree(allocate(1000)));
        }
        refuse();
        CHECK(cudaSetDevice(1));
        EXPECT(cudaStreamQuery(there) == cudaErrorNotReady);
        if (mode == "other-download") {
            CHECK(cudaMemsetAsync(flag, 1, sizeof(int), beside));
            CHECK(cudaStreamSynchronize(there));
        }
        CHECK(cudaSetDevice(0));
    } else {
        EXPECT(!"a mode");
    }
    EXPECT(mode == "other-function" || mode == "other-download" || cudaStreamQuery(held) == cudaErrorNotReady);
    goesOn = true;
    CHECK(cudaDeviceSynchronize());
    work(held);
    EXPECT(freeBytes() <= before);
    std::printf("%s: nobody waited for the stream\nPASSED\n", mode.c_str());
    return 0;
}
