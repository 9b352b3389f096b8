// printf from kernels between printf of the host.
//
// A remote GPU could get wrong here: the text belongs on the client's standard output, in the order of the
// program: nothing before the synchronisation that waits for the kernel, all of it before what the host prints
// after that, through the same buffer as the host's own text.
#include "expect.h"

__global__ void hello(int number) { printf("  device: launch %d\n", number); }

__global__ void formats() {
    printf("  %d %5d|%-5d|%05d %u %x %X %o\n", -7, 42, 42, 42, 4000000000u, 48879, 48879, 8);
    printf("  %lld %llu %.3f %8.2f %e %g\n", -1234567890123ll, 12345678901234ull, 3.14159, 2.5, 12345.678, 0.5);
    printf("  %c %s %10s|%%\n", 'x', "text", "right");
    printf("  no arguments\n");
}

__global__ void inOrder() {
    // Threads take turns, so that there is only one right order.
    for (int turn = 0; turn < 4; turn++) {
        if (threadIdx.x == turn) printf("  thread %d of block %d\n", threadIdx.x, blockIdx.x);
        __syncthreads();
    }
}

int main() {
    std::printf("host: before\n");
    for (int number = 0; number < 3; number++) hello<<<1, 1>>>(number);
    CHECK(cudaGetLastError());
    CHECK(cudaDeviceSynchronize());
    std::printf("host: between\n");
    formats<<<1, 1>>>();
    CHECK(cudaDeviceSynchronize());
    std::printf("host: no end of line, ");
    inOrder<<<1, 4>>>();
    CHECK(cudaDeviceSynchronize());

    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    hello<<<1, 1, 0, stream>>>(100);
    CHECK(cudaStreamSynchronize(stream));
    std::printf("host: after the stream\n");
    CHECK(cudaStreamDestroy(stream));
    std::printf("PASSED\n");
    return 0;
}
