// c = a + b on the GPU, compared with the same sum on the host.
#include "check.h"

#include <vector>

__global__ void add(const float *a, const float *b, float *c, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) c[i] = a[i] + b[i];
}

int main() {
    const int count = 100003; // prime: the last block is not full
    const size_t bytes = count * sizeof(float);
    std::vector<float> a(count), b(count), c(count, -1.0f);
    for (int i = 0; i < count; i++) {
        a[i] = 0.5f * static_cast<float>(i);
        b[i] = 3.0f - 0.25f * static_cast<float>(i % 1024);
    }

    float *deviceA, *deviceB, *deviceC;
    CHECK(cudaMalloc(&deviceA, bytes));
    CHECK(cudaMalloc(&deviceB, bytes));
    CHECK(cudaMalloc(&deviceC, bytes));
    CHECK(cudaMemcpy(deviceA, a.data(), bytes, cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(deviceB, b.data(), bytes, cudaMemcpyHostToDevice));

    const int threads = 256;
    const int blocks = (count + threads - 1) / threads;
    add<<<blocks, threads>>>(deviceA, deviceB, deviceC, count);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(c.data(), deviceC, bytes, cudaMemcpyDeviceToHost));

    CHECK(cudaFree(deviceA));
    CHECK(cudaFree(deviceB));
    CHECK(cudaFree(deviceC));

    for (int i = 0; i < count; i++) {
        const float expected = a[i] + b[i];
        if (c[i] != expected) {
            std::printf("vector-add: element %d is %g, expected %g\nFAILED\n", i, c[i], expected);
            return 1;
        }
    }
    std::printf("vector-add: %d elements in %d blocks of %d threads, all equal to the host's\nPASSED\n", count, blocks,
                threads);
    return 0;
}
