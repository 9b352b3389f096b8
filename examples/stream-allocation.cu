// Memory that is allocated and freed in the order of a stream, from the default pool and from one of its own.
//
// A remote GPU could get wrong here: the address is known at once although the allocation happens later; a free in
// the stream must not take memory from under the kernels before it; a pool's bookkeeping must add up.
#include "expect.h"

constexpr int count = 10000;

__global__ void fill(int *values, int n, int start) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) values[i] = start + i;
}

__global__ void add(const int *in, int *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] += in[i];
}

static const int blocks = (count + 255) / 256;
static const size_t bytes = count * sizeof(int);

int main() {
    int supported = 0;
    CHECK(cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, 0));
    EXPECT(supported == 1);
    cudaStream_t stream, other;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    int *sum, *result;
    CHECK(cudaMallocAsync(&sum, bytes, stream));
    CHECK(cudaMemsetAsync(sum, 0, bytes, stream));
    CHECK(cudaMallocHost(&result, bytes));

    // Temporary memory in every round, freed right behind its last use, nothing waited for.
    const int rounds = 50;
    for (int round = 0; round < rounds; round++) {
        int *temporary;
        CHECK(cudaMallocAsync(&temporary, bytes, stream));
        fill<<<blocks, 256, 0, stream>>>(temporary, count, round);
        add<<<blocks, 256, 0, stream>>>(temporary, sum, count);
        CHECK(cudaGetLastError());
        CHECK(cudaFreeAsync(temporary, stream));
    }
    CHECK(cudaMemcpyAsync(result, sum, bytes, cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    for (int i = 0; i < count; i++) EXPECT(result[i] == rounds * (rounds - 1) / 2 + rounds * i);
    std::printf("%d rounds of temporary memory\n", rounds);

    // Allocated in one stream, used in another after an event, freed there.
    int *shared;
    cudaEvent_t ready;
    CHECK(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming));
    CHECK(cudaMallocAsync(&shared, bytes, stream));
    fill<<<blocks, 256, 0, stream>>>(shared, count, 5);
    CHECK(cudaEventRecord(ready, stream));
    CHECK(cudaStreamWaitEvent(other, ready, 0));
    add<<<blocks, 256, 0, other>>>(sum, shared, count);
    CHECK(cudaMemcpyAsync(result, shared, bytes, cudaMemcpyDeviceToHost, other));
    CHECK(cudaFreeAsync(shared, other));
    CHECK(cudaStreamSynchronize(other));
    for (int i = 0; i < count; i++) EXPECT(result[i] == 5 + i + rounds * (rounds - 1) / 2 + rounds * i);
    std::printf("across two streams\n");

    // cudaFree takes it as well.
    CHECK(cudaStreamSynchronize(stream));
    cudaMemPool_t standard;
    unsigned long long inUse = 0, most = 0;
    CHECK(cudaDeviceGetDefaultMemPool(&standard, 0));
    CHECK(cudaMemPoolGetAttribute(standard, cudaMemPoolAttrUsedMemCurrent, &inUse));
    EXPECT(inUse >= bytes);
    CHECK(cudaFree(sum));
    CHECK(cudaMemPoolGetAttribute(standard, cudaMemPoolAttrUsedMemCurrent, &inUse));
    CHECK(cudaMemPoolGetAttribute(standard, cudaMemPoolAttrUsedMemHigh, &most));
    EXPECT(inUse == 0 && most >= 2 * bytes);
    CHECK(cudaMemPoolSetAttribute(standard, cudaMemPoolAttrUsedMemHigh, &inUse));
    CHECK(cudaMemPoolGetAttribute(standard, cudaMemPoolAttrUsedMemHigh, &most));
    EXPECT(most == 0);

    cudaMemPoolProps properties = {};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    properties.location.id = 0;
    cudaMemPool_t pool;
    CHECK(cudaMemPoolCreate(&pool, &properties));
    unsigned long long threshold = 64ull << 20, used = 1, reserved = 0;
    CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold));
    threshold = 0;
    CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold));
    EXPECT(threshold == 64ull << 20);
    int *fromPool;
    CHECK(cudaMallocFromPoolAsync(&fromPool, bytes, pool, stream));
    fill<<<blocks, 256, 0, stream>>>(fromPool, count, 9);
    CHECK(cudaMemcpyAsync(result, fromPool, bytes, cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    EXPECT(result[0] == 9 && result[count - 1] == count + 8);
    CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used));
    CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
    EXPECT(used >= bytes && reserved >= used);
    CHECK(cudaFreeAsync(fromPool, stream));
    CHECK(cudaStreamSynchronize(stream));
    CHECK(cudaMemPoolTrimTo(pool, 0));
    CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used));
    CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
    EXPECT(used == 0 && reserved == 0);
    CHECK(cudaMemPoolDestroy(pool));
    std::printf("a pool of its own\n");

    CHECK(cudaEventDestroy(ready));
    CHECK(cudaStreamDestroy(stream));
    CHECK(cudaStreamDestroy(other));
    CHECK(cudaFreeHost(result));
    std::printf("PASSED\n");
    return 0;
}
