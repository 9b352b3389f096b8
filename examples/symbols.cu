// Constants and global variables of the program, written and read by name.
//
// A remote GPU could get wrong here: a symbol is known by an address in the client that means nothing to the
// server; initial values come with the module; offsets, and copies in the order of a stream.
#include "expect.h"

__constant__ float coefficients[4] = {1.0f, 2.0f, 3.0f, 4.0f};
__device__ int counter = 41;
__device__ int table[100];
__device__ int *pointer;

__global__ void evaluate(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = coefficients[0] + x[i] * (coefficients[1] + x[i] * (coefficients[2] + x[i] * coefficients[3]));
}

__global__ void countUp() { counter++; }

__global__ void square() { table[threadIdx.x] *= table[threadIdx.x]; }

__global__ void throughPointer() { *pointer = counter * 2; }

static void polynomial(const float *c) {
    const int n = 64;
    float x[n], y[n], *deviceX, *deviceY;
    for (int i = 0; i < n; i++) x[i] = static_cast<float>(i - 32);
    CHECK(cudaMalloc(&deviceX, sizeof x));
    CHECK(cudaMalloc(&deviceY, sizeof y));
    CHECK(cudaMemcpy(deviceX, x, sizeof x, cudaMemcpyHostToDevice));
    evaluate<<<2, 32>>>(deviceX, deviceY, n);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(y, deviceY, sizeof y, cudaMemcpyDeviceToHost));
    for (int i = 0; i < n; i++) EXPECT(y[i] == c[0] + x[i] * (c[1] + x[i] * (c[2] + x[i] * c[3])));
    std::printf("polynomial at -32: %.0f\n", y[0]);
    CHECK(cudaFree(deviceX));
    CHECK(cudaFree(deviceY));
}

int main() {
    float c[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    polynomial(c); // as the program was built
    c[2] = -5.0f;
    CHECK(cudaMemcpyToSymbol(coefficients, &c[2], sizeof(float), 2 * sizeof(float)));
    polynomial(c);
    for (float &value : c) value *= 2.0f;
    CHECK(cudaMemcpyToSymbol(coefficients, c, sizeof c));
    polynomial(c);

    int value = 0;
    countUp<<<1, 1>>>();
    CHECK(cudaMemcpyFromSymbol(&value, counter, sizeof value));
    EXPECT(value == 42);

    int values[100];
    for (int i = 0; i < 100; i++) values[i] = i - 50;
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaMemcpyToSymbolAsync(table, values, sizeof values, 0, cudaMemcpyHostToDevice, stream));
    square<<<1, 100, 0, stream>>>();
    CHECK(cudaMemcpyFromSymbolAsync(values, table, 50 * sizeof(int), 50 * sizeof(int), cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    for (int i = 0; i < 50; i++) EXPECT(values[i] == i * i);
    std::printf("the last square is %d\n", values[49]);

    void *address = nullptr;
    size_t size = 0;
    CHECK(cudaGetSymbolAddress(&address, table));
    CHECK(cudaGetSymbolSize(&size, table));
    EXPECT(size == sizeof values);
    CHECK(cudaMemset(address, 0, size));
    CHECK(cudaMemcpyFromSymbol(values, table, sizeof values));
    for (int one : values) EXPECT(one == 0);

    int *target;
    CHECK(cudaMalloc(&target, sizeof(int)));
    CHECK(cudaMemcpyToSymbol(pointer, &target, sizeof target));
    throughPointer<<<1, 1>>>();
    CHECK(cudaMemcpy(&value, target, sizeof value, cudaMemcpyDeviceToHost));
    EXPECT(value == 84);
    std::printf("through the pointer: %d\n", value);

    EXPECT(cudaMemcpyToSymbol(table, values, sizeof values, sizeof(int)) == cudaErrorInvalidValue); // past the end
    (void)cudaGetLastError();
    CHECK(cudaFree(target));
    CHECK(cudaStreamDestroy(stream));
    std::printf("PASSED\n");
    return 0;
}
