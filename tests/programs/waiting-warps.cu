// Threads that wait for each other in every way that CUDA has: locks between lanes, warps and blocks; warps that produce
// and warps that consume, by named barriers, by cuda::barrier and by cuda::pipeline; copies under way (cp.async).
#include "../../examples/expect.h"

#include <vector>

#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
#include <cuda/barrier>
#include <cuda/pipeline>

namespace groups = cooperative_groups;

constexpr int steps = 24, width = 64;

__device__ void locked(int *lock, int *count) {
    bool done = false;
    while (!done) {
        if (atomicCAS(lock, 0, 1) == 0) {
            __threadfence();
            const int seen = *reinterpret_cast<volatile int *>(count);
            *reinterpret_cast<volatile int *>(count) = seen + 1;
            __threadfence();
            atomicExch(lock, 0);
            done = true;
        }
    }
}

// The naive form that ends on GPUs since Volta only: the lane that has the lock must get its turn while others spin.
__device__ void lockedNaively(int *lock, int *count) {
    while (atomicCAS(lock, 0, 1) != 0) {
    }
    __threadfence();
    *reinterpret_cast<volatile int *>(count) = *reinterpret_cast<volatile int *>(count) + 1;
    __threadfence();
    atomicExch(lock, 0);
}

__global__ void locks(int *words) {
    __shared__ int lock, count;
    if (threadIdx.x == 0) lock = count = 0;
    __syncthreads();
    locked(&words[0], &words[1]);
    lockedNaively(&words[2], &words[3]);
    lockedNaively(&lock, &count);
    __syncthreads();
    if (threadIdx.x == 0) atomicAdd(&words[4], count);
}

// Two warps write a buffer that two others read: barrier 1 says full, barrier 2 says empty.
__global__ void namedBarriers(int *sums) {
    __shared__ int buffer[width];
    const int lane = threadIdx.x % width;
    if (threadIdx.x < width) {
        for (int step = 0; step < steps; step++) {
            if (step > 0) asm volatile("bar.sync 2, 128;" ::: "memory");
            buffer[lane] = step * 100 + lane;
            asm volatile("bar.arrive 1, 128;" ::: "memory");
        }
    } else {
        int sum = 0;
        for (int step = 0; step < steps; step++) {
            asm volatile("bar.sync 1, 128;" ::: "memory");
            sum += buffer[(lane + 33) % width];
            if (step + 1 < steps) asm volatile("bar.arrive 2, 128;" ::: "memory");
        }
        sums[lane] = sum;
    }
}

using Barrier = cuda::barrier<cuda::thread_scope_block>;

// The same through objects of libcu++, two buffers deep.
__global__ void barrierObjects(int *sums) {
    __shared__ int buffers[2][width];
#pragma nv_diag_suppress static_var_with_dynamic_init
    __shared__ Barrier full[2], empty[2];
    if (threadIdx.x < 2) {
        init(&full[threadIdx.x], 2 * width);
        init(&empty[threadIdx.x], 2 * width);
    }
    __syncthreads();
    const int lane = threadIdx.x % width;
    if (threadIdx.x < width) {
        for (int step = 0; step < steps; step++) {
            const int buffer = step % 2;
            empty[buffer].arrive_and_wait();
            buffers[buffer][lane] = step * 100 + lane;
            static_cast<void>(full[buffer].arrive());
        }
    } else {
        static_cast<void>(empty[0].arrive());
        static_cast<void>(empty[1].arrive());
        int sum = 0;
        for (int step = 0; step < steps; step++) {
            const int buffer = step % 2;
            full[buffer].arrive_and_wait();
            sum += buffers[buffer][(lane + 33) % width];
            static_cast<void>(empty[buffer].arrive());
        }
        sums[lane] = sum;
    }
}

// Copies three steps ahead of the sums.
__global__ void pipeline(const int *values, int *sums) {
    constexpr int stages = 3;
    __shared__ int buffers[stages][width];
    __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, stages> state;
    const auto block = groups::this_thread_block();
    auto ahead = cuda::make_pipeline(block, &state);
    int sum = 0;
    for (int step = 0, copied = 0; step < steps; step++) {
        for (; copied < steps && copied < step + stages; copied++) {
            ahead.producer_acquire();
            cuda::memcpy_async(block, buffers[copied % stages], values + copied * width, sizeof(int) * width, ahead);
            ahead.producer_commit();
        }
        ahead.consumer_wait();
        sum += buffers[step % stages][(threadIdx.x + 33) % width];
        ahead.consumer_release();
    }
    sums[threadIdx.x] = sum;
}

// One warp copies, the other sums.
__global__ void dividedPipeline(const int *values, int *sums) {
    constexpr int stages = 2;
    __shared__ int buffers[stages][width];
    __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, stages> state;
    const auto block = groups::this_thread_block();
    const auto role = threadIdx.x < 32 ? cuda::pipeline_role::producer : cuda::pipeline_role::consumer;
    auto ahead = cuda::make_pipeline(block, &state, role);
    const auto warp = groups::tiled_partition<32>(block);
    if (role == cuda::pipeline_role::producer) {
        for (int step = 0; step < steps; step++) {
            ahead.producer_acquire();
            cuda::memcpy_async(warp, buffers[step % stages], values + step * width, sizeof(int) * width, ahead);
            ahead.producer_commit();
        }
    } else {
        int sums2[2] = {0, 0};
        const int lane = threadIdx.x % 32;
        for (int step = 0; step < steps; step++) {
            ahead.consumer_wait();
            for (int half = 0; half < 2; half++) {
                sums2[half] += buffers[step % stages][(lane + 32 * half + 33) % width];
            }
            ahead.consumer_release();
        }
        for (int half = 0; half < 2; half++) sums[lane + 32 * half] = sums2[half];
    }
}

void expectSums(int *device, const char *name) {
    CHECK(cudaGetLastError());
    std::vector<int> sums(width);
    CHECK(cudaMemcpy(sums.data(), device, width * sizeof(int), cudaMemcpyDeviceToHost));
    for (int lane = 0; lane < width; lane++) {
        int expected = 0;
        for (int step = 0; step < steps; step++) expected += step * 100 + (lane + 33) % width;
        EXPECT(sums[lane] == expected);
    }
    CHECK(cudaMemset(device, 0xFF, width * sizeof(int)));
    std::printf("%s: %d steps of %d values\n", name, steps, width);
}

int main() {
    int *words, *sums, *values;
    CHECK(cudaMalloc(&words, 5 * sizeof(int)));
    CHECK(cudaMalloc(&sums, width * sizeof(int)));
    CHECK(cudaMalloc(&values, steps * width * sizeof(int)));
    CHECK(cudaMemset(words, 0, 5 * sizeof(int)));
    std::vector<int> data(steps * width);
    for (int i = 0; i < steps * width; i++) data[i] = i / width * 100 + i % width;
    CHECK(cudaMemcpy(values, data.data(), data.size() * sizeof(int), cudaMemcpyHostToDevice));

    constexpr int blocks = 8, threads = 96;
    locks<<<blocks, threads>>>(words);
    CHECK(cudaGetLastError());
    int found[5];
    CHECK(cudaMemcpy(found, words, sizeof found, cudaMemcpyDeviceToHost));
    EXPECT(found[0] == 0 && found[1] == blocks * threads);
    EXPECT(found[2] == 0 && found[3] == blocks * threads);
    EXPECT(found[4] == blocks * threads);
    std::printf("locks between lanes, warps and blocks: taken %d times each\n", found[1]);

    namedBarriers<<<1, 2 * width>>>(sums);
    expectSums(sums, "named barriers");
    barrierObjects<<<1, 2 * width>>>(sums);
    expectSums(sums, "cuda::barrier");
    pipeline<<<1, width>>>(values, sums);
    expectSums(sums, "cuda::pipeline");
    dividedPipeline<<<1, 64>>>(values, sums);
    expectSums(sums, "cuda::pipeline between warps");

    CHECK(cudaFree(words));
    CHECK(cudaFree(sums));
    CHECK(cudaFree(values));
    std::printf("PASSED\n");
    return 0;
}
