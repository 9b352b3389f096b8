// Allocates and frees while kernels run that still write the freed memory.
//
// A remote GPU could get wrong here: a free has to wait until everything queued before it is done, or the next owner of
// the memory finds it overwritten. Each round a slow kernel writes a block long after the block was freed by the
// program; whoever gets the memory next writes it in a stream that waits for nobody, and must find it untouched.
#include "expect.h"

#include <vector>

constexpr unsigned late = 0xdeadbeef;

// Counts for a while, then writes the whole block.
__global__ void writeLate(unsigned *block, size_t words, unsigned turns, const volatile unsigned *one) {
    unsigned count = 0;
    while (count < turns) count += *one;
    for (size_t i = threadIdx.x; i < words; i += blockDim.x) block[i] = late + count - turns;
}

__global__ void count(const unsigned *block, size_t words, unsigned value, unsigned *wrong) {
    for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < words; i += gridDim.x * blockDim.x)
        if (block[i] != value) atomicAdd(wrong, 1);
}

struct Kept {
    unsigned *block;
    unsigned value;
};

int main() {
    const size_t words = 20 << 10, bytes = words * sizeof(unsigned);
    const unsigned turns = 3000;
    unsigned *one = nullptr, *wrong = nullptr;
    const unsigned initial = 1;
    CHECK(cudaMalloc(&wrong, sizeof *wrong));
    CHECK(cudaMemset(wrong, 0, sizeof *wrong));
    CHECK(cudaMalloc(&one, sizeof *one));
    CHECK(cudaMemcpy(one, &initial, sizeof initial, cudaMemcpyHostToDevice));
    cudaStream_t slow, quick;
    CHECK(cudaStreamCreateWithFlags(&slow, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithFlags(&quick, cudaStreamNonBlocking));

    std::vector<Kept> kept;
    std::vector<unsigned> room(words);
    for (unsigned round = 0; round < 320; round++) {
        unsigned *block = nullptr;
        // Half of the time the stream is gone before its work is done.
        const bool destroyed = round / 40 % 2 == 1;
        cudaStream_t stream = slow;
        if (destroyed) CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        // Every third block comes and goes in the order of the stream.
        const bool ordered = round % 3 == 2;
        CHECK(ordered ? cudaMallocAsync(&block, bytes, stream) : cudaMalloc(&block, bytes));
        writeLate<<<1, 32, 0, stream>>>(block, words, turns, one);
        CHECK(cudaGetLastError());
        if (ordered) CHECK(cudaFreeAsync(block, stream));
        if (destroyed) CHECK(cudaStreamDestroy(stream));
        if (!ordered) CHECK(cudaFree(block));

        Kept next{nullptr, round};
        CHECK(ordered ? cudaMallocAsync(&next.block, bytes, quick) : cudaMalloc(&next.block, bytes));
        room.assign(words, round);
        CHECK(cudaMemcpyAsync(next.block, room.data(), bytes, cudaMemcpyHostToDevice, quick));
        // Whoever hands memory out may learn here what is finished.
        if (round % 4 == 0) CHECK(cudaStreamSynchronize(quick));
        kept.push_back(next);
        if (kept.size() == 40) {
            CHECK(cudaDeviceSynchronize());
            for (const Kept &each : kept) count<<<4, 128, 0, quick>>>(each.block, words, each.value, wrong);
            unsigned found = 1;
            CHECK(cudaMemcpyAsync(&found, wrong, sizeof found, cudaMemcpyDeviceToHost, quick));
            CHECK(cudaStreamSynchronize(quick));
            EXPECT(found == 0);
            for (const Kept &each : kept) CHECK(cudaFree(each.block));
            kept.clear();
        }
    }
    std::printf("320 rounds: no block was written by an earlier kernel\n");

    // A copy to this process is complete when its source was freed.
    unsigned *landing = nullptr, *source = nullptr;
    CHECK(cudaMallocHost(&landing, bytes));
    for (unsigned round = 0; round < 10; round++) {
        for (size_t i = 0; i < words; i++) landing[i] = 0;
        CHECK(cudaMalloc(&source, bytes));
        writeLate<<<1, 32, 0, slow>>>(source, words, turns, one);
        CHECK(cudaMemcpyAsync(landing, source, bytes, cudaMemcpyDeviceToHost, slow));
        CHECK(cudaFree(source));
        for (size_t i = 0; i < words; i++) EXPECT(landing[i] == late);
    }
    std::printf("10 rounds: a copy is complete when its source was freed\n");
    CHECK(cudaFreeHost(landing));
    CHECK(cudaFree(one));
    CHECK(cudaFree(wrong));
    CHECK(cudaStreamDestroy(slow));
    CHECK(cudaStreamDestroy(quick));
    CHECK(cudaDeviceSynchronize());
    std::printf("PASSED\n");
    return 0;
}
