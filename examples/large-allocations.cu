// Hundreds of large allocations, then allocations and frees of all sizes with kernels that use them.
//
// A remote GPU could get wrong here: memory may be handed out far from the driver, in large pieces too. Every block must
// hold what its own kernel wrote, from its first to its last byte, whatever lay there before, and also while kernels still
// run that use what was freed. Nothing here is worth a wait, but for the first time that so much memory is wanted.
#include "expect.h"

#include <algorithm>
#include <vector>

constexpr unsigned samples = 64;

__device__ size_t sample(unsigned i, size_t words) { return static_cast<size_t>(i) * (words - 1) / (samples - 1); }

__global__ void mark(unsigned *block, size_t words, unsigned value) {
    block[sample(threadIdx.x, words)] = value + threadIdx.x;
}

__global__ void compare(const unsigned *block, size_t words, unsigned value, unsigned *wrong) {
    if (block[sample(threadIdx.x, words)] != value + threadIdx.x) atomicAdd(wrong, 1);
}

// Keeps the GPU busy, so that what is queued behind it has not begun when the next calls are made.
__global__ void hold(unsigned turns, const volatile unsigned *zero) {
    for (unsigned i = 0; i < turns;) i += 1 + *zero;
}

struct Block {
    unsigned *address;
    size_t words;
    unsigned value;
};

static unsigned *wrong;

static Block make(size_t bytes, unsigned value) {
    Block block{nullptr, bytes / sizeof(unsigned), value};
    CHECK(cudaMalloc(&block.address, bytes));
    mark<<<1, samples>>>(block.address, block.words, value);
    CHECK(cudaGetLastError());
    return block;
}

static void verify(const Block &block) {
    compare<<<1, samples>>>(block.address, block.words, block.value, wrong);
    CHECK(cudaGetLastError());
}

static void release(const Block &block) {
    verify(block);
    CHECK(cudaFree(block.address));
}

static void nothingWrong(const char *what) {
    unsigned found = 1;
    CHECK(cudaMemcpy(&found, wrong, sizeof found, cudaMemcpyDeviceToHost));
    EXPECT(found == 0);
    std::printf("%s: every block holds what was written\n", what);
}

static unsigned next(unsigned &state) { return state = state * 1664525u + 1013904223u; }

int main() {
    CHECK(cudaMalloc(&wrong, sizeof *wrong));
    CHECK(cudaMemset(wrong, 0, sizeof *wrong));
    cudaDeviceProp properties;
    CHECK(cudaGetDeviceProperties(&properties, 0));
    // 4 MiB and 16 MiB, but for small GPUs.
    const size_t unit = std::min<size_t>(properties.totalGlobalMem / 1024, 4 << 20) / 512 * 512;

    std::vector<Block> blocks;
    for (unsigned i = 0; i < 200; i++) blocks.push_back(make(unit, 1000 * i));
    for (const Block &block : blocks) verify(block);
    nothingWrong("200 large blocks");
    std::sort(blocks.begin(), blocks.end(), [](const Block &a, const Block &b) { return a.address < b.address; });
    for (size_t i = 1; i < blocks.size(); i++) EXPECT(blocks[i - 1].address + blocks[i - 1].words <= blocks[i].address);
    hold<<<1, 1>>>(20000, wrong);
    CHECK(cudaGetLastError());
    for (const Block &block : blocks) release(block);
    nothingWrong("freed");

    for (unsigned i = 0; i < 100; i++) release(make(4 * unit, i));
    nothingWrong("100 times the same");

    unsigned state = 1;
    blocks.clear();
    for (unsigned i = 0; i < 400; i++) {
        if (blocks.size() == 8) {
            const size_t which = next(state) / 65536 % blocks.size();
            release(blocks[which]);
            blocks.erase(blocks.begin() + static_cast<long>(which));
        }
        const unsigned kind = next(state) / 65536 % 4;
        const size_t most = kind == 0 ? unit / 64 : kind == 1 ? unit : kind == 2 ? 2 * unit : 3 * unit;
        blocks.push_back(make(512 + next(state) % most, i));
    }
    for (const Block &block : blocks) release(block);
    nothingWrong("400 of mixed sizes");
    CHECK(cudaFree(wrong));
    std::printf("PASSED\n");
    return 0;
}
