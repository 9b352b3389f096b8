// C = A × B by tiles in shared memory, compared with the host's product.
// All values are small integers, so that the result is exact in whatever order it is summed.
// usage: matrix-multiply [SIZE], a multiple of 16; 128 when not given.
#include "check.h"

#include <vector>

constexpr int tile = 16;

__global__ void multiply(const float *a, const float *b, float *c, int size) {
    __shared__ float tileA[tile][tile];
    __shared__ float tileB[tile][tile];
    const int row = blockIdx.y * tile + threadIdx.y;
    const int column = blockIdx.x * tile + threadIdx.x;

    float sum = 0.0f;
    for (int step = 0; step < size / tile; step++) {
        tileA[threadIdx.y][threadIdx.x] = a[row * size + step * tile + threadIdx.x];
        tileB[threadIdx.y][threadIdx.x] = b[(step * tile + threadIdx.y) * size + column];
        __syncthreads();
        for (int k = 0; k < tile; k++) sum += tileA[threadIdx.y][k] * tileB[k][threadIdx.x];
        __syncthreads();
    }
    c[row * size + column] = sum;
}

static std::vector<float> multiplyOnHost(const std::vector<float> &a, const std::vector<float> &b, int size) {
    std::vector<float> c(a.size(), 0.0f);
    for (int row = 0; row < size; row++)
        for (int k = 0; k < size; k++)
            for (int column = 0; column < size; column++)
                c[row * size + column] += a[row * size + k] * b[k * size + column];
    return c;
}

int main(int count, char **arguments) {
    const int size = count > 1 ? std::atoi(arguments[1]) : 128;
    if (size <= 0 || size % tile != 0 || size > 4096) {
        std::fprintf(stderr, "matrix-multiply: the size must be a multiple of %d up to 4096\n", tile);
        return 64;
    }
    const size_t elements = static_cast<size_t>(size) * size;
    const size_t bytes = elements * sizeof(float);
    std::vector<float> a(elements), b(elements), c(elements);
    for (size_t i = 0; i < elements; i++) {
        a[i] = static_cast<float>(static_cast<int>(i * 7 % 17) - 8);
        b[i] = static_cast<float>(static_cast<int>(i * 5 % 13) - 6);
    }

    cudaDeviceProp properties;
    CHECK(cudaGetDeviceProperties(&properties, 0));
    float *deviceA, *deviceB, *deviceC;
    CHECK(cudaMalloc(&deviceA, bytes));
    CHECK(cudaMalloc(&deviceB, bytes));
    CHECK(cudaMalloc(&deviceC, bytes));
    CHECK(cudaMemcpy(deviceA, a.data(), bytes, cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(deviceB, b.data(), bytes, cudaMemcpyHostToDevice));

    const dim3 threads(tile, tile);
    const dim3 blocks(size / tile, size / tile);
    multiply<<<blocks, threads>>>(deviceA, deviceB, deviceC, size);
    CHECK(cudaGetLastError());
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaMemcpy(c.data(), deviceC, bytes, cudaMemcpyDeviceToHost));
    CHECK(cudaFree(deviceA));
    CHECK(cudaFree(deviceB));
    CHECK(cudaFree(deviceC));

    const std::vector<float> expected = multiplyOnHost(a, b, size);
    double checksum = 0.0;
    for (size_t i = 0; i < elements; i++) {
        if (c[i] != expected[i]) {
            std::printf("matrix-multiply: element (%zu, %zu) is %g, expected %g\nFAILED\n", i / size, i % size, c[i],
                        expected[i]);
            return 1;
        }
        checksum += c[i] * static_cast<double>(i % 101);
    }
    std::printf("matrix-multiply: %d × %d on %s, checksum %.0f, equal to the host's\nPASSED\n", size, size,
                properties.name, checksum);
    return 0;
}
