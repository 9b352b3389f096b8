// Matrix products by whole warps (wmma) in six types, row-major and column-major, through shared memory and not.
//
// A remote GPU could get wrong here: nothing of its own; a simulated one that misplaces elements in the registers of a
// warp would give another matrix.
#include "expect.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

#include <vector>

using namespace nvcuda;

constexpr int side = 64;

/** One warp for each tile of the result; a is row-major, b column-major. */
template <typename Input, typename Stored, typename Sum, int M, int N, int K>
__global__ void product(const Stored *a, const Stored *b, Sum *c, bool scaled) {
    const int row = blockIdx.y * M, column = blockIdx.x * N;
    wmma::fragment<wmma::matrix_a, M, N, K, Input, wmma::row_major> left;
    wmma::fragment<wmma::matrix_b, M, N, K, Input, wmma::col_major> right;
    wmma::fragment<wmma::accumulator, M, N, K, Sum> sum;
    wmma::fill_fragment(sum, Sum(0));
    for (int k = 0; k < side; k += K) {
        wmma::load_matrix_sync(left, a + row * side + k, side);
        wmma::load_matrix_sync(right, b + column * side + k, side);
        wmma::mma_sync(sum, left, right, sum);
    }
    if (scaled)
        for (int i = 0; i < sum.num_elements; i++) sum.x[i] = sum.x[i] * Sum(2);
    wmma::store_matrix_sync(c + row * side + column, sum, side, wmma::mem_row_major);
}

/** a column-major, b row-major, both by way of shared memory; the result column-major, on top of what c holds. */
__global__ void transposed(const __half *a, const __half *b, float *c) {
    __shared__ __half left[16 * 16], right[16 * 16];
    const int row = blockIdx.y * 16, column = blockIdx.x * 16;
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::col_major> leftPart;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> rightPart;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
    wmma::load_matrix_sync(sum, c + column * side + row, side, wmma::mem_col_major);
    for (int k = 0; k < side; k += 16) {
        __syncwarp();
        for (int i = threadIdx.x; i < 256; i += 32) {
            left[i] = a[(k + i / 16) * side + row + i % 16];
            right[i] = b[(k + i / 16) * side + column + i % 16];
        }
        __syncwarp();
        wmma::load_matrix_sync(leftPart, left, 16);
        wmma::load_matrix_sync(rightPart, right, 16);
        wmma::mma_sync(sum, leftPart, rightPart, sum);
    }
    wmma::store_matrix_sync(c + column * side + row, sum, side, wmma::mem_col_major);
}

int element(int i, int j, int seed) { return (i * 31 + j * 17 + seed * 7) % 9 - 4; }

template <typename Stored> Stored *uploaded(int seed, bool columns) {
    std::vector<Stored> values(side * side);
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++) values[columns ? j * side + i : i * side + j] = Stored(float(element(i, j, seed)));
    Stored *device;
    CHECK(cudaMalloc(&device, sizeof(Stored) * side * side));
    CHECK(cudaMemcpy(device, values.data(), sizeof(Stored) * side * side, cudaMemcpyHostToDevice));
    return device;
}

/** The element that small whole numbers give exactly in every type. */
int expected(int i, int j) {
    int sum = 0;
    for (int k = 0; k < side; k++) sum += element(i, k, 1) * element(k, j, 2);
    return sum;
}

template <typename Input, typename Stored, typename Sum, int M, int N, int K> void check(const char *name, bool scaled) {
    Stored *a = uploaded<Stored>(1, false), *b = uploaded<Stored>(2, true);
    Sum *c;
    CHECK(cudaMalloc(&c, sizeof(Sum) * side * side));
    product<Input, Stored, Sum, M, N, K><<<dim3(side / N, side / M), 32>>>(a, b, c, scaled);
    CHECK(cudaGetLastError());
    std::vector<Sum> result(side * side);
    CHECK(cudaMemcpy(result.data(), c, sizeof(Sum) * side * side, cudaMemcpyDeviceToHost));
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++) EXPECT(double(float(result[i * side + j])) == (scaled ? 2 : 1) * expected(i, j));
    std::printf("%s: the last element is %g\n", name, double(float(result.back())));
    CHECK(cudaFree(a));
    CHECK(cudaFree(b));
    CHECK(cudaFree(c));
}

int main() {
    check<__half, __half, float, 16, 16, 16>("half to float", false);
    check<__half, __half, __half, 32, 8, 16>("half to half", true);
    check<__nv_bfloat16, __nv_bfloat16, float, 8, 32, 16>("bfloat16 to float", true);
    check<signed char, signed char, int, 16, 16, 16>("bytes to int", false);
    check<wmma::precision::tf32, float, float, 16, 16, 8>("tf32 to float", true);
    check<double, double, double, 8, 8, 4>("double to double", false);

    __half *a = uploaded<__half>(1, true), *b = uploaded<__half>(2, false);
    std::vector<float> result(side * side, 100.0f);
    float *c;
    CHECK(cudaMalloc(&c, sizeof(float) * side * side));
    CHECK(cudaMemcpy(c, result.data(), sizeof(float) * side * side, cudaMemcpyHostToDevice));
    transposed<<<dim3(side / 16, side / 16), 32>>>(a, b, c);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(result.data(), c, sizeof(float) * side * side, cudaMemcpyDeviceToHost));
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++) EXPECT(result[j * side + i] == 100 + expected(i, j));
    std::printf("transposed: the last element is %g\n", result.back());
    CHECK(cudaFree(a));
    CHECK(cudaFree(b));
    CHECK(cudaFree(c));
    std::printf("PASSED\n");
    return 0;
}
