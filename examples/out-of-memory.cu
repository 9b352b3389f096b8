// Allocates until it is refused, frees half, and goes on.
//
// A remote GPU could get wrong here: the refusal must come from the call that asked for too much, at once and
// truly; it must not stick; what was freed must be there again; and no earlier allocation may suffer.
#include "expect.h"

#include <vector>

__global__ void mark(unsigned *first, unsigned *last, unsigned value) {
    *first = value;
    *last = ~value;
}

static void verify(const unsigned *block, size_t words, unsigned value) {
    unsigned first = 0, last = 0;
    CHECK(cudaMemcpy(&first, block, sizeof first, cudaMemcpyDeviceToHost));
    CHECK(cudaMemcpy(&last, block + words - 1, sizeof last, cudaMemcpyDeviceToHost));
    EXPECT(first == value && last == ~value);
}

int main() {
    size_t free = 0, total = 0;
    CHECK(cudaMemGetInfo(&free, &total));
    EXPECT(free <= total);
    // As many blocks of a given size as a GPU of any size can show in a moment.
    const size_t bytes = total / 25 / 4096 * 4096, words = bytes / sizeof(unsigned);
    const size_t wanted = free / bytes;

    void *impossible = nullptr;
    EXPECT(cudaMalloc(&impossible, total * 2) == cudaErrorMemoryAllocation);
    EXPECT(cudaGetLastError() == cudaErrorMemoryAllocation);
    EXPECT(cudaGetLastError() == cudaSuccess);
    std::printf("twice the memory: refused\n");

    for (int round = 0; round < 3; round++) {
        std::vector<unsigned *> blocks;
        cudaError_t answer;
        for (;;) {
            unsigned *block = nullptr;
            answer = cudaMalloc(&block, bytes);
            if (answer != cudaSuccess) break;
            mark<<<1, 1>>>(block, block + words - 1, static_cast<unsigned>(blocks.size()));
            CHECK(cudaGetLastError());
            blocks.push_back(block);
            EXPECT(blocks.size() <= wanted);
        }
        EXPECT(answer == cudaErrorMemoryAllocation);
        (void)cudaGetLastError();
        EXPECT(blocks.size() + 2 >= wanted);
        CHECK(cudaDeviceSynchronize()); // the context is as good as before
        for (size_t i = 0; i < blocks.size(); i++) verify(blocks[i], words, static_cast<unsigned>(i));

        // Every second block goes; half as many again fit in their place.
        size_t freed = 0;
        for (size_t i = 0; i < blocks.size(); i += 2, freed++) {
            CHECK(cudaFree(blocks[i]));
            blocks[i] = nullptr;
        }
        for (size_t i = 0, again = 0; again < freed; i += 2, again++) {
            CHECK(cudaMalloc(&blocks[i], bytes));
            mark<<<1, 1>>>(blocks[i], blocks[i] + words - 1, static_cast<unsigned>(1000 + i));
        }
        for (size_t i = 0; i < blocks.size(); i++)
            verify(blocks[i], words, static_cast<unsigned>(i % 2 == 0 ? 1000 + i : i));
        for (unsigned *block : blocks) CHECK(cudaFree(block));
        std::printf("round %d: full, half freed, full again\n", round);
    }
    size_t after = 0;
    CHECK(cudaMemGetInfo(&after, &total));
    EXPECT(after + bytes >= free);
    std::printf("PASSED\n");
    return 0;
}
