// A histogram by atomics in shared and global memory, and each kind of atomic operation once.
//
// A remote GPU could get wrong here: nothing of its own, atomics happen on the GPU; but one lost or repeated
// launch or copy changes a count.
#include "expect.h"

#include <climits>
#include <vector>

constexpr int bins = 64;

__global__ void histogram(const unsigned char *values, int n, unsigned *counts) {
    __shared__ unsigned local[bins];
    for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) local[bin] = 0;
    __syncthreads();
    const int stride = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) atomicAdd(&local[values[i] % bins], 1u);
    __syncthreads();
    for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) atomicAdd(&counts[bin], local[bin]);
}

struct Results {
    int sum, least, most, all, any, odd, differences;
    unsigned wrapped, falling;
    unsigned long long wide, widest;
    float floats;
    double doubles;
    int locked, exchanged;
};

__device__ int lockWord;

__global__ void everything(Results *results) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(&results->sum, i);
    atomicSub(&results->differences, i);
    atomicMin(&results->least, 500 - i);
    atomicMax(&results->most, 3 * i - 7);
    atomicAnd(&results->all, ~(1 << i % 20));
    atomicOr(&results->any, 1 << i % 30);
    atomicXor(&results->odd, i);
    atomicInc(&results->wrapped, 99);
    atomicDec(&results->falling, 49);
    atomicAdd(&results->wide, 1ull << 33);
    atomicMax(&results->widest, static_cast<unsigned long long>(i) << 40);
    atomicAdd(&results->floats, 0.5f);
    atomicAdd(&results->doubles, 0.25);
    atomicExch(&results->exchanged, 77);
    // One thread per block takes a lock made of compare-and-swap.
    if (threadIdx.x == 0) {
        while (atomicCAS(&lockWord, 0, 1) != 0) {
        }
        __threadfence();
        const volatile int *locked = &results->locked;
        results->locked = *locked + 1;
        __threadfence();
        atomicExch(&lockWord, 0);
    }
}

int main() {
    const int n = 100000;
    std::vector<unsigned char> values(n);
    std::vector<unsigned> expected(bins, 0), counts(bins);
    unsigned state = 12345;
    for (unsigned char &value : values) {
        state = state * 1664525u + 1013904223u;
        value = state >> 24;
        expected[value % bins]++;
    }
    unsigned char *deviceValues;
    unsigned *deviceCounts;
    CHECK(cudaMalloc(&deviceValues, n));
    CHECK(cudaMalloc(&deviceCounts, bins * sizeof(unsigned)));
    CHECK(cudaMemset(deviceCounts, 0, bins * sizeof(unsigned)));
    CHECK(cudaMemcpy(deviceValues, values.data(), n, cudaMemcpyHostToDevice));
    histogram<<<16, 128>>>(deviceValues, n, deviceCounts);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(counts.data(), deviceCounts, bins * sizeof(unsigned), cudaMemcpyDeviceToHost));
    EXPECT(counts == expected);
    std::printf("histogram of %d values: bin 0 has %u, bin 63 has %u\n", n, counts[0], counts[63]);

    const int blocks = 8, threads = 64, all = blocks * threads;
    Results results = {};
    results.least = INT_MAX;
    results.most = INT_MIN;
    results.all = -1;
    Results *deviceResults;
    CHECK(cudaMalloc(&deviceResults, sizeof results));
    CHECK(cudaMemcpy(deviceResults, &results, sizeof results, cudaMemcpyHostToDevice));
    everything<<<blocks, threads>>>(deviceResults);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(&results, deviceResults, sizeof results, cudaMemcpyDeviceToHost));
    int odd = 0;
    for (int i = 0; i < all; i++) odd ^= i;
    EXPECT(results.sum == all * (all - 1) / 2 && results.differences == -results.sum);
    EXPECT(results.least == 500 - (all - 1) && results.most == 3 * (all - 1) - 7);
    EXPECT(results.all == (-1 & ~0xFFFFF) && results.any == 0x3FFFFFFF && results.odd == odd);
    EXPECT(results.wrapped == all % 100);
    EXPECT(results.falling == (50 - all % 50) % 50);
    EXPECT(results.wide == static_cast<unsigned long long>(all) << 33);
    EXPECT(results.widest == static_cast<unsigned long long>(all - 1) << 40);
    EXPECT(results.floats == all * 0.5f && results.doubles == all * 0.25);
    EXPECT(results.exchanged == 77 && results.locked == blocks);
    std::printf("sum %d, least %d, most %d, wrapped %u, falling %u, locked %d times\n", results.sum, results.least,
                results.most, results.wrapped, results.falling, results.locked);

    CHECK(cudaFree(deviceValues));
    CHECK(cudaFree(deviceCounts));
    CHECK(cudaFree(deviceResults));
    std::printf("PASSED\n");
    return 0;
}
