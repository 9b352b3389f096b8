// Shared memory whose size the launch gives: several sizes of one kernel, more than 48 KiB by permission, and
// too much.
//
// A remote GPU could get wrong here: the size belongs to the launch, not to the kernel; the permission for more
// is kept per function; a launch with too much is refused at once, and the error does not stick.
#include "expect.h"

#include <vector>

extern __shared__ int shared[];

__global__ void reverse(const int *in, int *out, int perBlock) {
    const int *mine = in + blockIdx.x * perBlock;
    for (int i = threadIdx.x; i < perBlock; i += blockDim.x) shared[i] = mine[i];
    __syncthreads();
    for (int i = threadIdx.x; i < perBlock; i += blockDim.x) out[blockIdx.x * perBlock + i] = shared[perBlock - 1 - i];
}

static void run(int perBlock, const int *in, int *out, const std::vector<int> &values) {
    const int blocks = 3;
    reverse<<<blocks, 64, perBlock * sizeof(int)>>>(in, out, perBlock);
    CHECK(cudaGetLastError());
    std::vector<int> result(blocks * perBlock);
    CHECK(cudaMemcpy(result.data(), out, result.size() * sizeof(int), cudaMemcpyDeviceToHost));
    for (int block = 0; block < blocks; block++)
        for (int i = 0; i < perBlock; i++)
            EXPECT(result[block * perBlock + i] == values[(block + 1) * perBlock - 1 - i]);
    std::printf("%zu bytes of shared memory\n", perBlock * sizeof(int));
}

int main() {
    int standard = 0, most = 0;
    CHECK(cudaDeviceGetAttribute(&standard, cudaDevAttrMaxSharedMemoryPerBlock, 0));
    CHECK(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    std::vector<int> values(3 * most / sizeof(int));
    for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<int>(i * 11 + 3);
    int *in, *out;
    CHECK(cudaMalloc(&in, values.size() * sizeof(int)));
    CHECK(cudaMalloc(&out, values.size() * sizeof(int)));
    CHECK(cudaMemcpy(in, values.data(), values.size() * sizeof(int), cudaMemcpyHostToDevice));

    run(1, in, out, values);
    run(1000, in, out, values);
    run(standard / sizeof(int), in, out, values);

    reverse<<<1, 64, most>>>(in, out, 1);
    EXPECT(cudaGetLastError() == cudaErrorInvalidValue);
    EXPECT(cudaGetLastError() == cudaSuccess);
    std::printf("more needs permission\n");

    CHECK(cudaFuncSetAttribute(reverse, cudaFuncAttributeMaxDynamicSharedMemorySize, most));
    cudaFuncAttributes attributes;
    CHECK(cudaFuncGetAttributes(&attributes, reverse));
    EXPECT(attributes.maxDynamicSharedSizeBytes == most);
    run(most / sizeof(int), in, out, values);

    EXPECT(cudaFuncSetAttribute(reverse, cudaFuncAttributeMaxDynamicSharedMemorySize, most + 1) == cudaErrorInvalidValue);
    (void)cudaGetLastError();
    run(500, in, out, values);

    CHECK(cudaFree(in));
    CHECK(cudaFree(out));
    std::printf("PASSED\n");
    return 0;
}
