// Built with `nvcc --default-stream per-thread`: every host thread has a default stream of its own.
//
// A remote GPU could get wrong here: "the default stream" means another stream for each thread of the client. If
// all threads shared one, the kernel that waits for the other thread's kernel would wait for ever.
#include "expect.h"

#include <atomic>
#include <thread>

constexpr int count = 4096;
constexpr int threads = 4;

__global__ void waitFor(const volatile int *flag) {
    while (*flag == 0) {
    }
}

__global__ void set(volatile int *flag) { *flag = 1; }

__global__ void step(int *values, int factor) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    values[i] = values[i] * factor + 1;
}

// Work of one thread is in order, although no stream is named and nothing waits.
static void worker(int number) {
    int *values;
    const size_t bytes = count * sizeof(int);
    int *result = new int[count];
    CHECK(cudaMalloc(&values, bytes));
    CHECK(cudaMemsetAsync(values, 0, bytes));
    for (int i = 0; i < 10; i++) step<<<count / 256, 256>>>(values, number);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpyAsync(result, values, bytes, cudaMemcpyDeviceToHost));
    CHECK(cudaStreamSynchronize(cudaStreamPerThread));
    int expected = 0;
    for (int i = 0; i < 10; i++) expected = expected * number + 1;
    for (int i = 0; i < count; i++) EXPECT(result[i] == expected);
    CHECK(cudaFree(values));
    delete[] result;
}

int main() {
    int *flag;
    CHECK(cudaMalloc(&flag, sizeof(int)));
    CHECK(cudaMemset(flag, 0, sizeof(int)));
    CHECK(cudaDeviceSynchronize());
    // Both kernels are loaded before one of them waits.
    cudaFuncAttributes attributes;
    CHECK(cudaFuncGetAttributes(&attributes, waitFor));
    CHECK(cudaFuncGetAttributes(&attributes, set));

    std::atomic<bool> waiting{false};
    std::thread first([&] {
        waitFor<<<1, 1>>>(flag);
        CHECK(cudaGetLastError());
        waiting = true;
        CHECK(cudaStreamSynchronize(cudaStreamPerThread));
    });
    std::thread second([&] {
        while (!waiting) std::this_thread::yield();
        set<<<1, 1>>>(flag);
        CHECK(cudaGetLastError());
        CHECK(cudaStreamSynchronize(cudaStreamPerThread));
    });
    first.join();
    second.join();
    std::printf("one thread's kernel waited for the other's\n");

    std::thread workers[threads];
    for (int number = 0; number < threads; number++) workers[number] = std::thread(worker, number + 1);
    for (std::thread &thread : workers) thread.join();
    std::printf("%d threads, each in order\n", threads);

    CHECK(cudaFree(flag));
    std::printf("PASSED\n");
    return 0;
}
