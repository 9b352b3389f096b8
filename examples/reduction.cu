// Sums and maxima by warp shuffles, votes and one value per warp in shared memory.
//
// A remote GPU could get wrong here: nothing of its own; a simulated one that does not keep a warp's threads
// together would exchange the wrong values.
#include "expect.h"

#include <vector>

constexpr unsigned everyone = 0xFFFFFFFF;

__inline__ __device__ long long sumOfWarp(long long value) {
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(everyone, value, offset);
    return value;
}

__inline__ __device__ int maximumOfWarp(int value) {
    for (int mask = 16; mask > 0; mask /= 2) value = max(value, __shfl_xor_sync(everyone, value, mask));
    return value;
}

__global__ void reduce(const int *values, int n, long long *sum, int *maximum, int *negatives) {
    __shared__ long long sums[32];
    __shared__ int maxima[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    long long mine = 0;
    int most = -1000000;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        mine += values[i];
        most = max(most, values[i]);
        if (values[i] < 0) atomicAdd(negatives, 1);
    }
    mine = sumOfWarp(mine);
    most = maximumOfWarp(most);
    if (lane == 0) {
        sums[warp] = mine;
        maxima[warp] = most;
    }
    __syncthreads();
    if (warp == 0) {
        const int warps = blockDim.x / 32;
        mine = sumOfWarp(lane < warps ? sums[lane] : 0);
        most = maximumOfWarp(lane < warps ? maxima[lane] : -1000000);
        if (lane == 0) {
            atomicAdd(reinterpret_cast<unsigned long long *>(sum), static_cast<unsigned long long>(mine));
            atomicMax(maximum, most);
        }
    }
}

// Inclusive scan of a warp, a broadcast, votes and a count of threads that agree.
__global__ void exchange(int *scanned, int *broadcast, unsigned *votes) {
    const int lane = threadIdx.x;
    int value = lane * lane;
    for (int offset = 1; offset < 32; offset *= 2) {
        const int other = __shfl_up_sync(everyone, value, offset);
        if (lane >= offset) value += other;
    }
    scanned[lane] = value;
    broadcast[lane] = __shfl_sync(everyone, lane * 10, 5) + __shfl_sync(everyone, lane, lane % 8 + 1, 8);
    const unsigned odd = __ballot_sync(everyone, lane % 2);
    const bool any = __any_sync(everyone, lane == 31), all = __all_sync(everyone, lane < 31);
    const int agreeing = __syncthreads_count(lane < 10);
    if (lane == 0) {
        votes[0] = odd;
        votes[1] = any * 2 + all;
        votes[2] = agreeing;
    }
}

int main() {
    const int n = 123457;
    std::vector<int> values(n);
    long long expectedSum = 0;
    int expectedMaximum = -1000000, expectedNegatives = 0;
    for (int i = 0; i < n; i++) {
        values[i] = i * 37 % 10007 - 3000;
        expectedSum += values[i];
        expectedMaximum = std::max(expectedMaximum, values[i]);
        expectedNegatives += values[i] < 0;
    }
    struct {
        long long sum;
        int maximum, negatives;
    } result = {0, -1000000, 0}, *deviceResult;
    int *deviceValues;
    CHECK(cudaMalloc(&deviceValues, n * sizeof(int)));
    CHECK(cudaMalloc(&deviceResult, sizeof result));
    CHECK(cudaMemcpy(deviceValues, values.data(), n * sizeof(int), cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(deviceResult, &result, sizeof result, cudaMemcpyHostToDevice));
    reduce<<<24, 256>>>(deviceValues, n, &deviceResult->sum, &deviceResult->maximum, &deviceResult->negatives);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(&result, deviceResult, sizeof result, cudaMemcpyDeviceToHost));
    EXPECT(result.sum == expectedSum && result.maximum == expectedMaximum && result.negatives == expectedNegatives);
    std::printf("%d values: sum %lld, maximum %d, %d negative\n", n, result.sum, result.maximum, result.negatives);

    struct {
        int scanned[32], broadcast[32];
        unsigned votes[3];
    } exchanged, *deviceExchanged;
    CHECK(cudaMalloc(&deviceExchanged, sizeof exchanged));
    exchange<<<1, 32>>>(deviceExchanged->scanned, deviceExchanged->broadcast, deviceExchanged->votes);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(&exchanged, deviceExchanged, sizeof exchanged, cudaMemcpyDeviceToHost));
    for (int lane = 0, sum = 0; lane < 32; lane++) {
        sum += lane * lane;
        EXPECT(exchanged.scanned[lane] == sum);
        EXPECT(exchanged.broadcast[lane] == 50 + lane / 8 * 8 + (lane % 8 + 1) % 8);
    }
    EXPECT(exchanged.votes[0] == 0xAAAAAAAA && exchanged.votes[1] == 2 && exchanged.votes[2] == 10);
    std::printf("scan ends with %d, votes %x\n", exchanged.scanned[31], exchanged.votes[0]);

    CHECK(cudaFree(deviceValues));
    CHECK(cudaFree(deviceResult));
    CHECK(cudaFree(deviceExchanged));
    std::printf("PASSED\n");
    return 0;
}
