// Tiles of several warps (cooperative groups): they meet and exchange values in the shared memory that the system
// reserves in every block, at %reserved_smem_offset_1. That memory must be none of the kernel's own.
#include "../../examples/expect.h"

#include <vector>

#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>

namespace groups = cooperative_groups;

constexpr int blocks = 2, threads = 1024, rounds = 3, dynamicWords = 256;

struct Exchanged {
    int rank, metaRank, metaSize, neighbour, shuffled, anyone, everyone;
};

struct Combined {
    long long sum;
    float largest;
    unsigned bits;
    int inclusive, exclusive;
};

__host__ __device__ int valueOf(int thread, int round) { return (thread * 37 + round * 101) % 1009 - 400; }

// What lies in the kernel's own shared memory, static and dynamic, must stay as it is.
template <unsigned Size>
__global__ void exchange(Exchanged *answers, int *damaged) {
    __shared__ int values[threads];
    extern __shared__ int dynamic[];
    const groups::thread_block block = groups::this_thread_block();
    const int thread = block.thread_rank();
    if (thread < dynamicWords) dynamic[thread] = thread * 3;
    values[thread] = -1;
    block.sync();

    const auto tile = groups::tiled_partition<Size>(block);
    Exchanged mine = {};
    for (int round = 0; round < rounds; round++) {
        const int value = valueOf(thread, round);
        values[thread] = value;
        tile.sync();
        const int first = thread - tile.thread_rank();
        mine.neighbour += values[first + (tile.thread_rank() + Size / 2 + 1) % Size];
        tile.sync();
        mine.shuffled += tile.shfl(value, (round * 53 + 40) % Size);
        mine.anyone += tile.any(value == valueOf(Size + 7, round));
        mine.everyone += tile.all(value > -400 + round);
    }
    mine.rank = tile.thread_rank();
    mine.metaRank = tile.meta_group_rank();
    mine.metaSize = tile.meta_group_size();
    answers[blockIdx.x * threads + thread] = mine;

    block.sync();
    if (thread < dynamicWords && dynamic[thread] != thread * 3) atomicAdd(damaged, 1);
    if (values[thread] != valueOf(thread, rounds - 1)) atomicAdd(damaged, 1);
}

template <unsigned Size>
__global__ void reduceAll(Combined *answers) {
    const auto tile = groups::tiled_partition<Size>(groups::this_thread_block());
    const int thread = groups::thread_block::thread_rank();
    Combined &mine = answers[blockIdx.x * threads + thread];
    const int value = valueOf(thread, blockIdx.x);
    mine.sum = groups::reduce(tile, static_cast<long long>(value) << 33, groups::plus<long long>());
    mine.largest = groups::reduce(tile, static_cast<float>(value), groups::greater<float>());
    mine.bits = groups::reduce(tile, static_cast<unsigned>(value), groups::bit_xor<unsigned>());
}

template <unsigned Size>
__global__ void scanAll(Combined *answers) {
    const auto tile = groups::tiled_partition<Size>(groups::this_thread_block());
    const int thread = groups::thread_block::thread_rank();
    Combined &mine = answers[blockIdx.x * threads + thread];
    const int value = valueOf(thread, blockIdx.x);
    mine.inclusive = groups::inclusive_scan(tile, value);
    mine.exclusive = groups::exclusive_scan(tile, value, groups::plus<int>());
}

template <unsigned Size>
void checkExchange(Exchanged *device, int *damaged) {
    exchange<Size><<<blocks, threads, dynamicWords * sizeof(int)>>>(device, damaged);
    CHECK(cudaGetLastError());
    std::vector<Exchanged> answers(blocks * threads);
    CHECK(cudaMemcpy(answers.data(), device, answers.size() * sizeof(Exchanged), cudaMemcpyDeviceToHost));
    int bad = 0;
    CHECK(cudaMemcpy(&bad, damaged, sizeof bad, cudaMemcpyDeviceToHost));
    EXPECT(bad == 0);
    for (int i = 0; i < blocks * threads; i++) {
        const int thread = i % threads, rank = thread % Size, first = thread - rank;
        Exchanged wanted = {};
        for (int round = 0; round < rounds; round++) {
            wanted.neighbour += valueOf(first + (rank + Size / 2 + 1) % Size, round);
            wanted.shuffled += valueOf(first + (round * 53 + 40) % Size, round);
            bool anyone = false, everyone = true;
            for (unsigned other = 0; other < Size; other++) {
                anyone |= valueOf(first + other, round) == valueOf(Size + 7, round);
                everyone &= valueOf(first + other, round) > -400 + round;
            }
            wanted.anyone += anyone;
            wanted.everyone += everyone;
        }
        const Exchanged &found = answers[i];
        EXPECT(found.rank == rank && found.metaRank == thread / static_cast<int>(Size));
        EXPECT(found.metaSize == threads / static_cast<int>(Size));
        EXPECT(found.neighbour == wanted.neighbour && found.shuffled == wanted.shuffled);
        EXPECT(found.anyone == wanted.anyone && found.everyone == wanted.everyone);
    }
}

template <unsigned Size>
void checkCombined(Combined *device) {
    reduceAll<Size><<<blocks, threads>>>(device);
    scanAll<Size><<<blocks, threads>>>(device);
    CHECK(cudaGetLastError());
    std::vector<Combined> answers(blocks * threads);
    CHECK(cudaMemcpy(answers.data(), device, answers.size() * sizeof(Combined), cudaMemcpyDeviceToHost));
    for (int first = 0; first < blocks * threads; first += Size) {
        int sum = 0, largest = -1000;
        unsigned bits = 0;
        for (unsigned rank = 0; rank < Size; rank++) {
            const int value = valueOf((first + rank) % threads, first / threads);
            EXPECT(answers[first + rank].exclusive == sum);
            sum += value;
            EXPECT(answers[first + rank].inclusive == sum);
            largest = value > largest ? value : largest;
            bits ^= static_cast<unsigned>(value);
        }
        for (unsigned rank = 0; rank < Size; rank++) {
            const Combined &found = answers[first + rank];
            EXPECT(found.sum == static_cast<long long>(sum) * (1ll << 33));
            EXPECT(found.largest == largest && found.bits == bits);
        }
    }
}

template <unsigned Size>
void checkTiles(Exchanged *exchanged, Combined *combined, int *damaged) {
    checkExchange<Size>(exchanged, damaged);
    checkCombined<Size>(combined);
    std::printf("tiles of %u: sync, shfl, any, all, reduce and scan of %d threads\n", Size, blocks * threads);
}

// Tiles of tiles, in a block of three dimensions, of which each does something else for a different time.
__global__ void nested(int *sums) {
    const auto block = groups::this_thread_block();
    const auto large = groups::tiled_partition<256>(block);
    const auto small = groups::tiled_partition<64>(large);
    const int rank = block.thread_rank();
    int sum = 0;
    for (unsigned round = 0; round <= large.meta_group_rank() * 3 + small.meta_group_rank(); round++) {
        sum += groups::reduce(small, rank, groups::plus<int>());
    }
    large.sync();
    sums[rank] = groups::reduce(large, sum, groups::plus<int>());
}

// As programs for older devices do it. From compute capability 8.0 on the memory that they give is not used.
__global__ void givenMemory(int *sums) {
    __shared__ groups::block_tile_memory<512> memory;
    const auto block = groups::this_thread_block(memory);
    const auto tile = groups::tiled_partition<128>(block);
    sums[block.thread_rank()] = groups::reduce(tile, static_cast<int>(block.thread_rank()), groups::plus<int>());
}

int main() {
    Exchanged *exchanged;
    Combined *combined;
    int *damaged, *sums;
    CHECK(cudaMalloc(&exchanged, blocks * threads * sizeof(Exchanged)));
    CHECK(cudaMalloc(&combined, blocks * threads * sizeof(Combined)));
    CHECK(cudaMalloc(&damaged, sizeof(int)));
    CHECK(cudaMemset(damaged, 0, sizeof(int)));
    CHECK(cudaMalloc(&sums, 512 * sizeof(int)));
    checkTiles<64>(exchanged, combined, damaged);
    checkTiles<128>(exchanged, combined, damaged);
    checkTiles<256>(exchanged, combined, damaged);
    checkTiles<512>(exchanged, combined, damaged);

    std::vector<int> found(512);
    nested<<<1, dim3(32, 8, 2)>>>(sums);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(found.data(), sums, 512 * sizeof(int), cudaMemcpyDeviceToHost));
    for (int large = 0; large < 2; large++) {
        int expected = 0;
        for (int small = 0; small < 4; small++) {
            const int first = large * 256 + small * 64;
            expected += 64 * (64 * first + 63 * 32) * (large * 3 + small + 1);
        }
        for (int i = 0; i < 256; i++) EXPECT(found[large * 256 + i] == expected);
    }
    std::printf("tiles of 64 in tiles of 256: %d, %d\n", found[0], found[511]);

    givenMemory<<<1, 512>>>(sums);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(found.data(), sums, 512 * sizeof(int), cudaMemcpyDeviceToHost));
    for (int i = 0; i < 512; i++) EXPECT(found[i] == 128 * (i / 128 * 128) + 127 * 64);
    std::printf("tiles with memory given: %d to %d\n", found[0], found[511]);

    // The reserved memory is not counted as the kernel's, neither by its attributes nor by a launch with all there is.
    cudaFuncAttributes attributes;
    CHECK(cudaFuncGetAttributes(&attributes, exchange<128>));
    EXPECT(attributes.sharedSizeBytes == threads * sizeof(int));
    cudaDeviceProp properties;
    CHECK(cudaGetDeviceProperties(&properties, 0));
    const int most = static_cast<int>(properties.sharedMemPerBlockOptin - attributes.sharedSizeBytes);
    CHECK(cudaFuncSetAttribute(exchange<128>, cudaFuncAttributeMaxDynamicSharedMemorySize, most));
    exchange<128><<<1, threads, most>>>(exchanged, damaged);
    CHECK(cudaDeviceSynchronize());
    std::printf("with all shared memory of a block: %d bytes are the kernel's\n", most);

    CHECK(cudaFree(exchanged));
    CHECK(cudaFree(combined));
    CHECK(cudaFree(damaged));
    CHECK(cudaFree(sums));
    std::printf("PASSED\n");
    return 0;
}
