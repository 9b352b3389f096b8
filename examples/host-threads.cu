// Eight host threads allocate, launch, copy and free at the same time, in streams of their own.
//
// A remote GPU could get wrong here: calls of different threads travel over the same connection, and an answer or
// an error must reach the thread that it belongs to; the current device and the last error belong to a thread.
#include "expect.h"

#include <atomic>
#include <thread>
#include <vector>

constexpr int threads = 8;
constexpr int rounds = 12;

__global__ void mix(unsigned *values, int n, unsigned seed) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) values[i] = (values[i] ^ seed) * 2654435761u + i;
}

static unsigned work(int number) {
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    unsigned sum = 0;
    for (int round = 0; round < rounds; round++) {
        const int n = 500 + 333 * ((number + round) % threads);
        const size_t bytes = n * sizeof(unsigned);
        std::vector<unsigned> values(n), result(n);
        for (int i = 0; i < n; i++) values[i] = number * 1000003u + round * 101u + i;
        unsigned *device;
        CHECK(cudaMalloc(&device, bytes));
        CHECK(cudaMemcpyAsync(device, values.data(), bytes, cudaMemcpyHostToDevice, stream));
        for (unsigned seed = 0; seed < 4; seed++) mix<<<(n + 127) / 128, 128, 0, stream>>>(device, n, seed + number);
        CHECK(cudaGetLastError());
        CHECK(cudaMemcpyAsync(result.data(), device, bytes, cudaMemcpyDeviceToHost, stream));
        CHECK(cudaStreamSynchronize(stream));
        CHECK(cudaFree(device));
        for (int i = 0; i < n; i++) {
            unsigned expected = values[i];
            for (unsigned seed = 0; seed < 4; seed++) expected = (expected ^ (seed + number)) * 2654435761u + i;
            EXPECT(result[i] == expected);
            sum += expected;
        }
        // Odd threads make mistakes, even ones must not hear of them.
        if (number % 2 == 1) {
            EXPECT(cudaMemset(nullptr, 0, 16) == cudaErrorInvalidValue);
            EXPECT(cudaPeekAtLastError() == cudaErrorInvalidValue);
            EXPECT(cudaGetLastError() == cudaErrorInvalidValue);
        }
        EXPECT(cudaPeekAtLastError() == cudaSuccess);
    }
    CHECK(cudaStreamDestroy(stream));
    return sum;
}

int main() {
    std::vector<unsigned> sums(threads);
    std::vector<std::thread> workers;
    for (int number = 0; number < threads; number++)
        workers.emplace_back([&, number] { sums[number] = work(number); });
    for (std::thread &worker : workers) worker.join();
    for (int number = 0; number < threads; number++) std::printf("thread %d: %08x\n", number, sums[number]);

    // Threads that come and go, each with a single call.
    std::atomic<int> devices{0};
    for (int i = 0; i < 50; i++)
        std::thread([&] {
            int device = -1;
            CHECK(cudaGetDevice(&device));
            CHECK(cudaStreamSynchronize(nullptr));
            devices += device + 1;
        }).join();
    EXPECT(devices == 50);
    std::printf("PASSED\n");
    return 0;
}
