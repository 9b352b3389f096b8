// Fills the GPU with small allocations until it is refused, frees them, takes most of the memory in one, and again.
// usage: fill-small PIECE_KIB
#include "../../examples/expect.h"

#include <vector>

__global__ void mark(unsigned *block, unsigned value) { *block = value; }

int main(int count, char **arguments) {
    const size_t bytes = static_cast<size_t>(count > 1 ? std::atoi(arguments[1]) : 256) << 10;
    size_t free = 0, total = 0;
    CHECK(cudaMemGetInfo(&free, &total));
    std::printf("free %zu\n", free);
    for (int round = 0; round < 3; round++) {
        std::vector<unsigned *> blocks;
        cudaError_t answer;
        for (;;) {
            unsigned *block = nullptr;
            answer = cudaMalloc(&block, bytes);
            if (answer != cudaSuccess) break;
            mark<<<1, 1>>>(block, static_cast<unsigned>(blocks.size()));
            blocks.push_back(block);
            EXPECT(blocks.size() * bytes <= free);
        }
        EXPECT(answer == cudaErrorMemoryAllocation);
        (void)cudaGetLastError();
        size_t left = 0;
        CHECK(cudaMemGetInfo(&left, &total));
        EXPECT(left < free - (blocks.size() - 1) * bytes);
        for (size_t i = 0; i < blocks.size(); i += 7) {
            unsigned value = 0;
            CHECK(cudaMemcpy(&value, blocks[i], sizeof value, cudaMemcpyDeviceToHost));
            EXPECT(value == i);
        }
        for (unsigned *block : blocks) CHECK(cudaFree(block));
        void *most = nullptr;
        CHECK(cudaMalloc(&most, free / 16 * 15));
        CHECK(cudaFree(most));
        std::printf("filled %zu\n", blocks.size() * bytes);
    }
    std::printf("PASSED\n");
    return 0;
}
