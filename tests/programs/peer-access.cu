// Kernels of one GPU use memory of another: allocated before and after access was enabled, small and large, and no more
// when it was disabled.
#include "../../examples/expect.h"

#include <vector>

__global__ void add(unsigned *first, unsigned *last, unsigned value) {
    *first += value;
    if (last != first) *last += value;
}

struct Block {
    unsigned *address;
    size_t words;
};

static const size_t sizes[] = {4, 3000, 1 << 20, (5 << 20) + 512, 40 << 20, 300 << 20};

static std::vector<Block> allocate(int device) {
    CHECK(cudaSetDevice(device));
    std::vector<Block> blocks;
    for (size_t bytes : sizes) {
        Block block{nullptr, bytes / sizeof(unsigned)};
        CHECK(cudaMalloc(&block.address, bytes));
        CHECK(cudaMemset(block.address, 0, sizeof(unsigned)));
        CHECK(cudaMemset(block.address + block.words - 1, 0, sizeof(unsigned)));
        blocks.push_back(block);
    }
    CHECK(cudaDeviceSynchronize());
    return blocks;
}

static void use(const std::vector<Block> &blocks, int device, int owner) {
    CHECK(cudaSetDevice(device));
    for (const Block &block : blocks) add<<<1, 1>>>(block.address, block.address + block.words - 1, 5);
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaSetDevice(owner));
    for (const Block &block : blocks) add<<<1, 1>>>(block.address, block.address + block.words - 1, 6);
    for (const Block &block : blocks) {
        unsigned first = 0, last = 0;
        CHECK(cudaMemcpy(&first, block.address, sizeof first, cudaMemcpyDeviceToHost));
        CHECK(cudaMemcpy(&last, block.address + block.words - 1, sizeof last, cudaMemcpyDeviceToHost));
        EXPECT(first == 11 && last == 11);
    }
}

int main() {
    int devices = 0, can = 0;
    CHECK(cudaGetDeviceCount(&devices));
    EXPECT(devices == 2);
    CHECK(cudaDeviceCanAccessPeer(&can, 0, 1));
    EXPECT(can == 1);
    const std::vector<Block> before = allocate(1);
    CHECK(cudaSetDevice(0));
    CHECK(cudaDeviceEnablePeerAccess(1, 0));
    EXPECT(cudaDeviceEnablePeerAccess(1, 0) == cudaErrorPeerAccessAlreadyEnabled);
    (void)cudaGetLastError();
    use(before, 0, 1);
    std::printf("memory from before: used\n");
    const std::vector<Block> after = allocate(1);
    use(after, 0, 1);
    std::printf("memory from afterwards: used\n");

    CHECK(cudaSetDevice(0));
    unsigned *here = nullptr;
    CHECK(cudaMalloc(&here, 1 << 20));
    CHECK(cudaMemcpyPeer(here, 0, after[4].address, 1, 1 << 20));
    unsigned value = 0;
    CHECK(cudaMemcpy(&value, here, sizeof value, cudaMemcpyDeviceToHost));
    EXPECT(value == 11);
    std::printf("copied from one to the other\n");

    CHECK(cudaSetDevice(1));
    for (const Block &block : before) CHECK(cudaFree(block.address));
    CHECK(cudaSetDevice(0));
    CHECK(cudaDeviceDisablePeerAccess(1));
    EXPECT(cudaDeviceDisablePeerAccess(1) == cudaErrorPeerAccessNotEnabled);
    (void)cudaGetLastError();
    add<<<1, 1>>>(here, here, 1);
    CHECK(cudaDeviceSynchronize());
    add<<<1, 1>>>(after[3].address, after[3].address, 1);
    EXPECT(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
    std::printf("disabled: an illegal address\n");
    std::printf("PASSED\n");
    return 0;
}
