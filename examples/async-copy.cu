// Copies from global to shared memory that run ahead of the computation: pipelines of a block and of each thread,
// barriers that copies arrive at, and a split barrier that threads leave.
//
// A remote GPU could get wrong here: nothing of its own; a simulated one that loses an arrival waits for ever, and one
// that forgets a phase computes with the wrong tile.
#include "expect.h"

#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
#include <cuda/barrier>
#include <cuda/pipeline>
#include <cuda_pipeline.h>

#include <vector>

// What lies in shared memory is initialised by init or make_pipeline.
#pragma nv_diag_suppress static_var_with_dynamic_init

namespace cg = cooperative_groups;

constexpr int threads = 128, tiles = 12;

/** Stage by stage, a tile ahead; each thread adds what its mirror image in the tile copied. */
__global__ void pipelined(const int *values, int *sums) {
    __shared__ int stage[2][threads];
    __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, 2> state;
    const auto block = cg::this_thread_block();
    auto pipeline = cuda::make_pipeline(block, &state);
    const int *mine = values + blockIdx.x * tiles * threads;
    int sum = 0;
    for (int next = 0, tile = 0; tile < tiles; tile++) {
        for (; next < tiles && next < tile + 2; next++) {
            pipeline.producer_acquire();
            cuda::memcpy_async(block, stage[next % 2], mine + next * threads, sizeof(int) * threads, pipeline);
            pipeline.producer_commit();
        }
        pipeline.consumer_wait();
        sum += (tile + 1) * stage[tile % 2][threads - 1 - threadIdx.x];
        pipeline.consumer_release();
    }
    sums[blockIdx.x * threads + threadIdx.x] = sum;
}

/** Each thread copies 16 bytes ahead for itself; some read fewer, and the rest is zero. */
__global__ void ahead(const int4 *values, int *sums) {
    __shared__ int4 stage[3][threads];
    const int i = threadIdx.x;
    int sum = 0;
    for (int tile = 0; tile < tiles + 2; tile++) {
        if (tile < tiles) __pipeline_memcpy_async(&stage[tile % 3][i], values + tile * threads + i, 16, i % 4 * 4);
        __pipeline_commit();
        if (tile < 2) continue;
        __pipeline_wait_prior(2);
        const int4 part = stage[(tile - 2) % 3][i];
        sum += part.x + 2 * part.y + 3 * part.z + 4 * part.w;
    }
    sums[i] = sum;
}

/** A tile whose arrival the barrier counts, and rounds that fewer and fewer warps take part in. */
__global__ void counted(const int *values, int *results) {
    using Barrier = cuda::barrier<cuda::thread_scope_block>;
    __shared__ int tile[threads], rounds;
    __shared__ Barrier arrived, round;
    if (threadIdx.x == 0) {
        init(&arrived, threads);
        init(&round, threads);
        rounds = 0;
    }
    __syncthreads();
    cuda::memcpy_async(tile + threadIdx.x, values + threadIdx.x, cuda::aligned_size_t<4>(4), arrived);
    Barrier::arrival_token token = arrived.arrive();
    const int own = threadIdx.x * 3;
    arrived.wait(std::move(token));
    results[threadIdx.x] = own + tile[(threadIdx.x + 1) % threads];
    for (int warp = 0; warp < threads / 32; warp++) {
        if (threadIdx.x / 32 == warp) {
            (void)round.arrive_and_drop();
            return;
        }
        round.arrive_and_wait();
        atomicAdd(&rounds, 1);
        round.arrive_and_wait();
        if (threadIdx.x == threads - 1) results[threads + warp] = rounds;
        round.arrive_and_wait();
    }
}

int main() {
    const int blocks = 6, n = blocks * tiles * threads;
    std::vector<int> values(4 * n), sums(blocks * threads), results(threads + threads / 32 - 1);
    for (int i = 0; i < 4 * n; i++) values[i] = i * 61 % 1009 - 300;
    int *deviceValues, *deviceSums;
    CHECK(cudaMalloc(&deviceValues, values.size() * sizeof(int)));
    CHECK(cudaMalloc(&deviceSums, sums.size() * sizeof(int)));
    CHECK(cudaMemcpy(deviceValues, values.data(), values.size() * sizeof(int), cudaMemcpyHostToDevice));

    pipelined<<<blocks, threads>>>(deviceValues, deviceSums);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(sums.data(), deviceSums, sums.size() * sizeof(int), cudaMemcpyDeviceToHost));
    for (int block = 0; block < blocks; block++)
        for (int i = 0; i < threads; i++) {
            int sum = 0;
            for (int tile = 0; tile < tiles; tile++) sum += (tile + 1) * values[(block * tiles + tile + 1) * threads - 1 - i];
            EXPECT(sums[block * threads + i] == sum);
        }
    std::printf("pipelined: %d tiles, the last sum is %d\n", blocks * tiles, sums.back());

    ahead<<<1, threads>>>(reinterpret_cast<const int4 *>(deviceValues), deviceSums);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(sums.data(), deviceSums, threads * sizeof(int), cudaMemcpyDeviceToHost));
    for (int i = 0; i < threads; i++) {
        int sum = 0;
        for (int tile = 0; tile < tiles; tile++)
            for (int part = 0; part < 4 - i % 4; part++) sum += (part + 1) * values[4 * (tile * threads + i) + part];
        EXPECT(sums[i] == sum);
    }
    std::printf("ahead: the last sum is %d\n", sums[threads - 1]);

    counted<<<1, threads>>>(deviceValues, deviceSums);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(results.data(), deviceSums, results.size() * sizeof(int), cudaMemcpyDeviceToHost));
    for (int i = 0; i < threads; i++) EXPECT(results[i] == 3 * i + values[(i + 1) % threads]);
    for (int warp = 0, sum = 0; warp < threads / 32 - 1; warp++) {
        sum += threads - 32 * (warp + 1);
        EXPECT(results[threads + warp] == sum);
    }
    std::printf("counted: %d arrivals in rounds of %d\n", results.back(), threads / 32 - 1);

    CHECK(cudaFree(deviceValues));
    CHECK(cudaFree(deviceSums));
    std::printf("PASSED\n");
    return 0;
}
