// Arithmetic with __half and __nv_bfloat16, one by one and in pairs, against sums and products that the host rounds once.
//
// A remote GPU could get wrong here: nothing of its own; a simulated one that rounds twice, keeps too many bits or mixes
// up the halves of a pair would differ in the last bit.
#include "expect.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <vector>

constexpr int count = 4096;

template <typename Number> struct Results {
    Number sum, difference, product, quotient, fused, least;
    int order, toNearest, down;
    float exponential;
};

template <typename Number> __global__ void compute(const float *values, Results<Number> *results) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const Number a(values[i]), b(values[(i + 1) % count]), c(values[(i + 2) % count]);
    results[i] = {__hadd(a, b), __hsub(a, b), __hmul(a, b), __hdiv(a, b), __hfma(a, b, c), __hmin(a, b),
                  __hlt(a, b) + 2 * __heq(a, b) + 4 * __hge(a, b), int(rintf(float(a))), int(floorf(float(a))), float(hexp2(a))};
}

__global__ void pairs(const float *values, __half2 *halves, __nv_bfloat162 *brains, float *dots, __half2 *total) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    const __half2 a = __floats2half2_rn(values[i], values[(i + 1) % count]), b = __float2half2_rn(0.5f);
    halves[i] = __hfma2(a, b, __lows2half2(a, b));
    const __nv_bfloat162 x = __floats2bfloat162_rn(values[i], values[(i + 1) % count]);
    brains[i] = __hmax2(__hneg2(x), __hmul2(x, x));
    dots[i] = __low2float(a) * __high2float(a);
    // One of each 64 adds: the sum stays small enough to be exact.
    if (i % 64 == 0) atomicAdd(total, __floats2half2_rn(1.0f, 0.25f));
}

template <typename Number> void check(const char *name, const float *device, const std::vector<float> &values, double ulps) {
    std::vector<Results<Number>> results(count);
    Results<Number> *deviceResults;
    CHECK(cudaMalloc(&deviceResults, count * sizeof(Results<Number>)));
    compute<<<count / 128, 128>>>(device, deviceResults);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(results.data(), deviceResults, count * sizeof(Results<Number>), cudaMemcpyDeviceToHost));
    CHECK(cudaFree(deviceResults));
    double sum = 0;
    for (int i = 0; i < count; i++) {
        // Sums and products of such short numbers are exact in double; the conversion rounds once.
        const auto round = [](double value) { return float(Number(value)); };
        const double a = round(values[i]), b = round(values[(i + 1) % count]), c = round(values[(i + 2) % count]);
        const Results<Number> &found = results[i];
        EXPECT(float(found.sum) == round(a + b));
        EXPECT(float(found.difference) == round(a - b));
        EXPECT(float(found.product) == round(a * b));
        EXPECT(float(found.fused) == round(a * b + c));
        EXPECT(std::abs(float(found.quotient) - a / b) <= ulps * std::abs(a / b));
        EXPECT(float(found.least) == std::min(a, b));
        EXPECT(found.order == (a < b) + 2 * (a == b) + 4 * (a >= b));
        EXPECT(found.toNearest == int(std::rint(a)) && found.down == int(std::floor(a)));
        EXPECT(std::abs(found.exponential - std::exp2(a)) <= ulps * std::exp2(a));
        sum += float(found.fused);
    }
    std::printf("%s: the products add up to %.4f\n", name, sum);
}

int main() {
    std::vector<float> values(count);
    for (int i = 0; i < count; i++) values[i] = float(i * 7919 % 2003 - 1001) / 128 + 0.3f;
    float *device;
    CHECK(cudaMalloc(&device, count * sizeof(float)));
    CHECK(cudaMemcpy(device, values.data(), count * sizeof(float), cudaMemcpyHostToDevice));
    check<__half>("half", device, values, 1.0 / 1024);
    check<__nv_bfloat16>("bfloat16", device, values, 1.0 / 128);

    std::vector<__half2> halves(count);
    std::vector<__nv_bfloat162> brains(count);
    std::vector<float> dots(count);
    __half2 *deviceHalves, *deviceTotal, total;
    __nv_bfloat162 *deviceBrains;
    float *deviceDots;
    CHECK(cudaMalloc(&deviceHalves, count * sizeof(__half2)));
    CHECK(cudaMalloc(&deviceBrains, count * sizeof(__nv_bfloat162)));
    CHECK(cudaMalloc(&deviceDots, count * sizeof(float)));
    CHECK(cudaMalloc(&deviceTotal, sizeof total));
    CHECK(cudaMemset(deviceTotal, 0, sizeof total));
    pairs<<<count / 128, 128>>>(device, deviceHalves, deviceBrains, deviceDots, deviceTotal);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(halves.data(), deviceHalves, count * sizeof(__half2), cudaMemcpyDeviceToHost));
    CHECK(cudaMemcpy(brains.data(), deviceBrains, count * sizeof(__nv_bfloat162), cudaMemcpyDeviceToHost));
    CHECK(cudaMemcpy(dots.data(), deviceDots, count * sizeof(float), cudaMemcpyDeviceToHost));
    CHECK(cudaMemcpy(&total, deviceTotal, sizeof total, cudaMemcpyDeviceToHost));
    for (int i = 0; i < count; i++) {
        const double low = float(__half(values[i])), high = float(__half(values[(i + 1) % count]));
        EXPECT(__low2float(halves[i]) == float(__half(low * 0.5 + low)));
        EXPECT(__high2float(halves[i]) == float(__half(high * 0.5 + 0.5)));
        EXPECT(dots[i] == float(low) * float(high));
        const double x = float(__nv_bfloat16(values[i]));
        EXPECT(__low2float(brains[i]) == std::max(-x, double(float(__nv_bfloat16(x * x)))));
    }
    EXPECT(__low2float(total) == count / 64 && __high2float(total) == count / 256);
    std::printf("pairs: %d threads added 1 and 0.25: %g and %g\n", count / 64, __low2float(total), __high2float(total));

    CHECK(cudaFree(device));
    CHECK(cudaFree(deviceHalves));
    CHECK(cudaFree(deviceBrains));
    CHECK(cudaFree(deviceDots));
    CHECK(cudaFree(deviceTotal));
    std::printf("PASSED\n");
    return 0;
}
