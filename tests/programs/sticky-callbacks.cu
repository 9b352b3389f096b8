// Host functions behind a kernel that fails are never called, callbacks of the stream are told the error, and neither
// is waited for by what comes after a reset.
#include "guest.h"

#include <atomic>

__global__ void fail(int *nowhere) { *nowhere = 1; }

static std::atomic<int> called{0}, told{-1};

int main() {
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    fail<<<1, 1, 0, stream>>>(nullptr);
    (void)cudaLaunchHostFunc(stream, [](void *) { called++; }, nullptr);
    (void)cudaStreamAddCallback(
        stream, [](cudaStream_t, cudaError_t error, void *) { told = error; }, nullptr, 0);
    std::printf("synchronize: %s\n", cudaGetErrorName(cudaStreamSynchronize(stream)));
    CHECK(cudaDeviceReset());
    (void)cudaGetLastError();
    std::printf("called: %d, told: %s\n", called.load(), cudaGetErrorName(static_cast<cudaError_t>(told.load())));
    for (int i = 0; i < 20; i++) {
        int *memory;
        CHECK(cudaMalloc(&memory, 4 << 20));
        CHECK(cudaFree(memory));
    }
    work();
    std::printf("PASSED\n");
    return 0;
}
