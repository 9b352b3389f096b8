// When pinned memory goes back to the system: not before everything is done, on whatever GPU, and at the latest with its
// context.
//
// A remote GPU could get wrong here: the bytes of a copy land in, or are read from, memory that is something else by now; a
// wait that CUDA performs is skipped although the program sees it; memory of a context stays behind.
#include "guest.h"

#include <sys/mman.h>

constexpr size_t kBytes = 1 << 20;
constexpr long long kCycles = 1000000;

// A copy of the second GPU, which writes or reads memory that is freed while the first GPU is current.
void freedElsewhere(bool isRead) {
    CHECK(cudaSetDevice(1));
    char *device;
    cudaStream_t stream;
    CHECK(cudaMalloc(&device, kBytes));
    CHECK(cudaMemset(device, 0xdd, kBytes));
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaDeviceSynchronize());
    for (int round = 0; round < 4; round++) {
        bool isRegistered = round % 2 == 1;
        CHECK(cudaSetDevice(1));
        void *pages = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        EXPECT(pages != MAP_FAILED);
        char *pinned = static_cast<char *>(pages);
        if (isRegistered) CHECK(cudaHostRegister(pinned, kBytes, cudaHostRegisterPortable));
        else CHECK(cudaHostAlloc(&pinned, kBytes, cudaHostAllocPortable));
        std::memset(pinned, 0, kBytes);
        spin<<<1, 1, 0, stream>>>(kCycles);
        CHECK(cudaGetLastError());
        CHECK(cudaMemcpyAsync(pinned, device, kBytes, cudaMemcpyDeviceToHost, stream));
        if (isRead) CHECK(cudaMemcpyAsync(device, pinned, kBytes, cudaMemcpyHostToDevice, stream));
        CHECK(cudaSetDevice(0));
        if (isRegistered) CHECK(cudaHostUnregister(pinned));
        else CHECK(cudaFreeHost(pinned));
        // Whoever frees it may use the addresses for something else at once.
        if (isRegistered) EXPECT(munmap(pages, kBytes) == 0);
        void *again = mmap(pinned, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        EXPECT(again != MAP_FAILED);
        std::memset(again, 0x11, kBytes);
        CHECK(cudaSetDevice(1));
        EXPECT(cudaStreamQuery(stream) == cudaSuccess);
        CHECK(cudaStreamSynchronize(stream));
        for (size_t at = 0; at < kBytes; at++) EXPECT(static_cast<char *>(again)[at] == 0x11);
        EXPECT(munmap(again, kBytes) == 0);
        if (!isRegistered) EXPECT(munmap(pages, kBytes) == 0);
    }
    CHECK(cudaStreamDestroy(stream));
    CHECK(cudaFree(device));
    CHECK(cudaSetDevice(0));
}

// CUDA waits in a free of any pinned memory, which the program sees in other pinned memory.
void otherMemory() {
    int *device, *pinned, *other;
    cudaStream_t stream;
    CHECK(cudaMalloc(&device, sizeof(int)));
    CHECK(cudaMallocHost(&pinned, sizeof(int)));
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (int round = 1; round <= 4; round++) {
        CHECK(cudaMallocHost(&other, 4096));
        CHECK(cudaMemcpy(device, &round, sizeof round, cudaMemcpyHostToDevice));
        CHECK(cudaDeviceSynchronize());
        spin<<<1, 1, 0, stream>>>(kCycles);
        CHECK(cudaMemcpyAsync(pinned, device, sizeof(int), cudaMemcpyDeviceToHost, stream));
        CHECK(cudaFreeHost(other));
        EXPECT(*static_cast<volatile int *>(pinned) == round);
        // And without a copy it sees it when it asks.
        CHECK(cudaMallocHost(&other, 4096));
        spin<<<1, 1, 0, stream>>>(kCycles);
        CHECK(cudaFreeHost(other));
        EXPECT(cudaStreamQuery(stream) == cudaSuccess);
    }
    CHECK(cudaStreamDestroy(stream));
    CHECK(cudaFree(device));
    CHECK(cudaFreeHost(pinned));
}

// A reset gives a context's pinned memory back, and forgets what was registered in it.
void reset() {
    constexpr size_t bytes = 32 << 20;
    std::vector<char> registered(1 << 16);
    long before = 0;
    char *pinned = nullptr;
    for (int round = 0; round < 6; round++) {
        char *device;
        CHECK(cudaMallocHost(&pinned, bytes));
        CHECK(cudaHostRegister(registered.data(), registered.size(), cudaHostRegisterDefault));
        std::memset(pinned, 1, bytes);
        CHECK(cudaMalloc(&device, bytes));
        CHECK(cudaMemcpyAsync(device, pinned, bytes, cudaMemcpyHostToDevice));
        CHECK(cudaMemcpyAsync(pinned, device, bytes, cudaMemcpyDeviceToHost));
        CHECK(cudaDeviceReset());
        if (round == 0) before = residentKib();
    }
    EXPECT(residentKib() < before + 64 * 1024);
    std::printf("free after the reset: %s\n", cudaGetErrorName(cudaFreeHost(pinned)));
}

int main() {
    int count;
    CHECK(cudaGetDeviceCount(&count));
    EXPECT(count >= 2);
    CHECK(cudaSetDevice(0));
    CHECK(cudaFree(nullptr));
    freedElsewhere(false);
    freedElsewhere(true);
    otherMemory();
    reset();
    std::printf("PASSED\n");
    return 0;
}
