// Calls within which CUDA waits for the GPU, and a program that sees whether they did: in pinned memory that a copy under way
// writes, or in what a host function has done.
//
// A remote GPU could get wrong here: it skips a wait that a program cannot notice, and takes one for such that it can.
#include "guest.h"

#include <atomic>

constexpr size_t kBytes = 1 << 20;
constexpr long long kCycles = 200000;

__device__ int variable[kBytes / 4 / sizeof(int)];

char *device;
char *pinnedSource;
std::vector<char> pageable(kBytes, 1);
void *freed;
std::atomic<int> called;

void CUDART_CB call(void *) {
    usleep(20000);
    called++;
}

const struct {
    const char *name;
    size_t freed; // bytes of memory that it frees
    void (*run)();
} kCalls[] = {
    {"a copy from pageable memory", 0, [] { CHECK(cudaMemcpy(device, pageable.data(), kBytes, cudaMemcpyHostToDevice)); }},
    {"a short copy from pageable memory", 0, [] { CHECK(cudaMemcpy(device, pageable.data(), 256 << 10, cudaMemcpyHostToDevice)); }},
    {"a copy from pinned memory", 0, [] { CHECK(cudaMemcpy(device, pinnedSource, kBytes, cudaMemcpyHostToDevice)); }},
    {"a copy to a variable", 0, [] { CHECK(cudaMemcpyToSymbol(variable, pageable.data(), sizeof variable)); }},
    {"a copy of rows", 0, [] { CHECK(cudaMemcpy2D(device, 1024, pageable.data(), 1024, 1024, 1024, cudaMemcpyHostToDevice)); }},
    {"a copy to pageable memory", 0, [] { CHECK(cudaMemcpy(pageable.data(), device, kBytes, cudaMemcpyDeviceToHost)); }},
    {"a free of little memory", 256, [] { CHECK(cudaFree(freed)); }},
    {"a free of much memory", 8 << 20, [] { CHECK(cudaFree(freed)); }},
};

int main() {
    int *value, *result;
    cudaStream_t stream;
    CHECK(cudaMalloc(&value, sizeof(int)));
    CHECK(cudaMallocHost(&result, sizeof(int)));
    CHECK(cudaMalloc(&device, kBytes));
    CHECK(cudaMallocHost(&pinnedSource, kBytes));
    // A blocking stream: the legacy stream, and who waits for that, waits for it.
    CHECK(cudaStreamCreate(&stream));
    for (const auto &one : kCalls) {
        for (int round = 1; round <= 4; round++) {
            CHECK(cudaMemcpy(value, &round, sizeof round, cudaMemcpyHostToDevice));
            if (one.freed > 0) CHECK(cudaMalloc(&freed, one.freed));
            *result = 0;
            called = 0;
            CHECK(cudaDeviceSynchronize());
            spin<<<1, 1, 0, stream>>>(kCycles);
            CHECK(cudaGetLastError());
            bool isCopy = round % 2 == 1;
            if (isCopy) CHECK(cudaMemcpyAsync(result, value, sizeof(int), cudaMemcpyDeviceToHost, stream));
            else CHECK(cudaLaunchHostFunc(stream, call, nullptr));
            one.run();
            if (isCopy) EXPECT(*static_cast<volatile int *>(result) == round);
            else EXPECT(called == 1);
        }
        std::printf("%s: waited\n", one.name);
    }
    std::printf("PASSED\n");
    return 0;
}
