// Fills the GPU with blocks, frees every second one, and takes as much in one block.
//
// A remote GPU could get wrong here: a driver's memory is never fragmented by large blocks, as it maps it in steps. Whoever
// hands memory out in its place must give free parts back when one block is as large as all of them, and whatever
// lies between them must stay as it is. Blocks that are no multiple of a driver's step take a step more.
#include "expect.h"

#include <algorithm>
#include <vector>

__global__ void mark(unsigned *first, unsigned *last, unsigned value) {
    *first = value;
    *last = ~value;
}

__global__ void compare(const unsigned *first, const unsigned *last, unsigned value, unsigned *wrong) {
    if (*first != value || *last != ~value) atomicAdd(wrong, 1);
}

static unsigned *wrong;

static void verify(const unsigned *block, size_t words, unsigned value) {
    compare<<<1, 1>>>(block, block + words - 1, value, wrong);
    CHECK(cudaGetLastError());
}

static void round(size_t bytes) {
    const size_t words = bytes / sizeof(unsigned);
    std::vector<unsigned *> blocks;
    unsigned *block = nullptr;
    cudaError_t answer;
    while ((answer = cudaMalloc(&block, bytes)) == cudaSuccess) {
        mark<<<1, 1>>>(block, block + words - 1, static_cast<unsigned>(blocks.size()));
        CHECK(cudaGetLastError());
        blocks.push_back(block);
    }
    EXPECT(answer == cudaErrorMemoryAllocation);
    (void)cudaGetLastError();
    EXPECT(blocks.size() > 20);
    size_t freed = 0;
    for (size_t i = 0; i < blocks.size(); i += 2, freed++) CHECK(cudaFree(blocks[i]));
    unsigned *one = nullptr;
    CHECK(cudaMalloc(&one, (freed - 1) * bytes));
    mark<<<1, 1>>>(one, one + (freed - 1) * words - 1, 77);
    verify(one, (freed - 1) * words, 77);
    for (size_t i = 1; i < blocks.size(); i += 2) verify(blocks[i], words, static_cast<unsigned>(i));
    unsigned found = 1;
    CHECK(cudaMemcpy(&found, wrong, sizeof found, cudaMemcpyDeviceToHost));
    EXPECT(found == 0);
    CHECK(cudaFree(one));
    for (size_t i = 1; i < blocks.size(); i += 2) CHECK(cudaFree(blocks[i]));
}

int main() {
    size_t before = 0, after = 0, total = 0;
    std::vector<void *> small(300);
    for (void *&each : small) CHECK(cudaMalloc(&each, 3000));
    CHECK(cudaMalloc(&wrong, sizeof *wrong));
    CHECK(cudaMemset(wrong, 0, sizeof *wrong));
    // Kernels take memory, too, when they are first used.
    mark<<<1, 1>>>(static_cast<unsigned *>(small[0]), static_cast<unsigned *>(small[1]), 1);
    verify(static_cast<unsigned *>(small[0]), 1, 1);
    CHECK(cudaMemset(wrong, 0, sizeof *wrong));
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaMemGetInfo(&before, &total));
    const size_t step = 2 << 20;
    const size_t bytes = std::max(total / 100 / step, size_t{1}) * step;
    round(bytes);
    std::printf("blocks: half of them freed, as much taken in one\n");
    round(bytes - step / 2);
    std::printf("blocks that are not whole: the same\n");
    for (void *each : small) CHECK(cudaFree(each));
    CHECK(cudaMemGetInfo(&after, &total));
    EXPECT(after >= before);
    std::printf("PASSED\n");
    return 0;
}
