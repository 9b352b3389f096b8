// Thousands of small allocations from several threads, each with bytes of its own.
//
// A remote GPU could get wrong here: small memory may be handed out far from the driver. Two allocations must never
// share a byte, whichever threads made them; each must answer for itself, not for what it was cut from; and freeing
// twice, or from within, must still be refused.
#include "expect.h"

#include <cuda.h>

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

struct Block {
    unsigned char *address;
    size_t bytes;
    unsigned char value;
};

__global__ void fill(unsigned char *block, size_t bytes, unsigned char value) {
    for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < bytes; i += gridDim.x * blockDim.x) block[i] = value;
}

__global__ void count(const unsigned char *block, size_t bytes, unsigned char value, unsigned *wrong) {
    for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < bytes; i += gridDim.x * blockDim.x)
        if (block[i] != value) atomicAdd(wrong, 1);
}

static unsigned next(unsigned &state) { return state = state * 1664525u + 1013904223u; }

static void verify(const Block &block, cudaStream_t stream, unsigned *wrong) {
    count<<<2, 64, 0, stream>>>(block.address, block.bytes, block.value, wrong);
    CHECK(cudaGetLastError());
}

static void work(unsigned thread, std::vector<Block> *left) {
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    unsigned state = thread * 7919 + 1;
    std::vector<Block> blocks;
    unsigned *wrong = nullptr;
    CHECK(cudaMalloc(&wrong, sizeof *wrong));
    CHECK(cudaMemsetAsync(wrong, 0, sizeof *wrong, stream));
    for (int step = 0; step < 400; step++) {
        if (blocks.size() > 100 || (blocks.size() > 20 && next(state) >> 30 == 0)) {
            const size_t which = next(state) % blocks.size();
            verify(blocks[which], stream, wrong);
            CHECK(cudaFree(blocks[which].address));
            blocks.erase(blocks.begin() + static_cast<long>(which));
            continue;
        }
        const size_t bytes = 1 + next(state) % (next(state) >> 29 == 0 ? 60000 : 3000);
        Block block{nullptr, bytes, static_cast<unsigned char>(next(state) >> 24)};
        CHECK(cudaMalloc(&block.address, bytes));
        EXPECT(reinterpret_cast<uintptr_t>(block.address) % 256 == 0);
        fill<<<2, 64, 0, stream>>>(block.address, bytes, block.value);
        CHECK(cudaGetLastError());
        blocks.push_back(block);
    }
    for (const Block &block : blocks) verify(block, stream, wrong);
    unsigned found = 1;
    CHECK(cudaMemcpyAsync(&found, wrong, sizeof found, cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(found == 0);
    CHECK(cudaFree(wrong));
    CHECK(cudaStreamDestroy(stream));
    *left = blocks;
}

static void answersForItself(const Block &block) {
    cudaPointerAttributes attributes;
    CHECK(cudaPointerGetAttributes(&attributes, block.address + block.bytes - 1));
    EXPECT(attributes.type == cudaMemoryTypeDevice && attributes.device == 0);
    cudaDriverEntryPointQueryResult found;
    void *entry = nullptr;
    CHECK(cudaGetDriverEntryPointByVersion("cuMemGetAddressRange", &entry, 12000, cudaEnableDefault, &found));
    EXPECT(found == cudaDriverEntryPointSuccess);
    CUdeviceptr base = 0;
    size_t size = 0;
    const auto inside = reinterpret_cast<CUdeviceptr>(block.address) + block.bytes / 2;
    EXPECT(reinterpret_cast<decltype(&::cuMemGetAddressRange)>(entry)(&base, &size, inside) == CUDA_SUCCESS);
    EXPECT(base == reinterpret_cast<CUdeviceptr>(block.address) && size == block.bytes);
}

int main() {
    // Loading a kernel takes memory, too.
    fill<<<1, 1>>>(nullptr, 0, 0);
    CHECK(cudaDeviceSynchronize());
    size_t before = 0, during = 0, after = 0, total = 0;
    CHECK(cudaMemGetInfo(&before, &total));
    std::vector<Block> all;
    for (int round = 0; round < 2; round++) {
        std::vector<std::vector<Block>> left(4);
        std::vector<std::thread> threads;
        for (unsigned i = 0; i < left.size(); i++) threads.emplace_back(work, 4 * round + i, &left[i]);
        for (std::thread &thread : threads) thread.join();
        for (const auto &blocks : left) all.insert(all.end(), blocks.begin(), blocks.end());
        std::printf("round %d: every allocation holds what was written\n", round);
    }
    std::sort(all.begin(), all.end(), [](const Block &a, const Block &b) { return a.address < b.address; });
    for (size_t i = 1; i < all.size(); i++) EXPECT(all[i - 1].address + all[i - 1].bytes <= all[i].address);
    size_t bytes = 0;
    for (const Block &block : all) bytes += block.bytes;
    CHECK(cudaMemGetInfo(&during, &total));
    EXPECT(during + bytes <= before);
    for (size_t i = 0; i < all.size(); i += all.size() / 10) answersForItself(all[i]);
    std::printf("no two overlap, each answers for itself\n");

    const Block &one = all[all.size() / 2];
    EXPECT(cudaFree(one.address + 1) == cudaErrorInvalidValue);
    CHECK(cudaFree(one.address));
    EXPECT(cudaFree(one.address) == cudaErrorInvalidValue);
    (void)cudaGetLastError();
    std::printf("freed twice: refused\n");
    for (const Block &block : all)
        if (block.address != one.address) CHECK(cudaFree(block.address));
    CHECK(cudaMemGetInfo(&after, &total));
    EXPECT(after + (1 << 20) >= before);
    std::printf("PASSED\n");
    return 0;
}
