// Streams that are destroyed, and threads that end, while their work goes on: what waits for the context, or for the
// legacy stream, waits for that work, too.
//
// A remote GPU could get wrong here: a wait that is skipped because none of the streams that are left has anything to do.
#include "guest.h"

#include <thread>

constexpr int kCount = 1 << 18;
constexpr long long kCycles = 300000;

int *device;
int *pinned;

void put(cudaStream_t stream, int count) {
    spin<<<1, 1, 0, stream>>>(kCycles);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpyAsync(pinned, device, count * sizeof(int), cudaMemcpyDeviceToHost, stream));
}

void leave(unsigned flags, int count) {
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, flags));
    put(stream, count);
    CHECK(cudaStreamDestroy(stream));
}

void leaveWithThread(int count) {
    std::thread([count] { put(cudaStreamPerThread, count); }).join();
}

// What is left behind, and what waits for it afterwards.
const struct {
    const char *name;
    void (*leave)(int count);
    void (*wait)();
} kCases[] = {
    {"a blocking stream, the context", [](int count) { leave(cudaStreamDefault, count); },
     [] { CHECK(cudaDeviceSynchronize()); }},
    {"a blocking stream, the legacy stream", [](int count) { leave(cudaStreamDefault, count); },
     [] { CHECK(cudaStreamSynchronize(cudaStreamLegacy)); }},
    {"a non-blocking stream, the context", [](int count) { leave(cudaStreamNonBlocking, count); },
     [] { CHECK(cudaDeviceSynchronize()); }},
    {"a thread, the context", leaveWithThread, [] { CHECK(cudaDeviceSynchronize()); }},
    {"a thread, the legacy stream", leaveWithThread, [] { CHECK(cudaStreamSynchronize(cudaStreamLegacy)); }},
    {"a thread, the context behind an allocation", leaveWithThread,
     [] {
         void *memory;
         CHECK(cudaMalloc(&memory, 100));
         CHECK(cudaDeviceSynchronize());
         CHECK(cudaFree(memory));
     }},
};

int main() {
    CHECK(cudaMalloc(&device, kCount * sizeof(int)));
    CHECK(cudaMallocHost(&pinned, kCount * sizeof(int)));
    for (const auto &one : kCases) {
        for (int round = 0; round < 6; round++) {
            int count = round % 2 ? 1 : kCount;
            CHECK(cudaMemset(device, round + 1, kCount * sizeof(int)));
            CHECK(cudaDeviceSynchronize());
            std::memset(pinned, 0, kCount * sizeof(int));
            one.leave(count);
            one.wait();
            int expected = (round + 1) * 0x01010101;
            EXPECT(pinned[0] == expected && pinned[count - 1] == expected);
        }
        std::printf("%s: waited\n", one.name);
    }
    std::printf("PASSED\n");
    return 0;
}
