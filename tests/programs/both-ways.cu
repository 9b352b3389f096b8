// Bulk copies in both directions at once, from two threads; then an exit while much is still on its way.
//
// A remote GPU could get wrong here: both ends send and neither reads, or the exit waits for bytes that nobody takes.
#include "../../examples/check.h"

#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

constexpr size_t bytes = 24 << 20;
constexpr int rounds = 12;

__global__ void spin(const volatile int *flag) {
    while (*flag == 0) {
    }
}

int main(int argc, char **argv) {
    unsigned char *up, *down;
    CHECK(cudaMalloc(&up, bytes));
    CHECK(cudaMalloc(&down, bytes));
    CHECK(cudaMemset(down, 7, bytes));
    if (argc > 1 && !std::strcmp(argv[1], "exit")) {
        int *flag;
        CHECK(cudaMalloc(&flag, sizeof(int)));
        CHECK(cudaMemset(flag, 0, sizeof(int)));
        cudaStream_t stream;
        CHECK(cudaStreamCreate(&stream));
        spin<<<1, 1, 0, stream>>>(flag);
        unsigned char *pinned;
        CHECK(cudaMallocHost(&pinned, bytes));
        for (int i = 0; i < rounds; i++) CHECK(cudaMemcpyAsync(up, pinned, bytes, cudaMemcpyHostToDevice, stream));
        std::printf("leaving\n");
        std::exit(3);
    }
    std::thread sender([&] {
        std::vector<unsigned char> data(bytes, 9);
        for (int i = 0; i < rounds; i++) CHECK(cudaMemcpy(up, data.data(), bytes, cudaMemcpyHostToDevice));
    });
    std::thread receiver([&] {
        std::vector<unsigned char> data(bytes);
        for (int i = 0; i < rounds; i++) {
            CHECK(cudaMemcpy(data.data(), down, bytes, cudaMemcpyDeviceToHost));
            if (data[0] != 7 || data[bytes - 1] != 7) {
                std::printf("round %d: wrong bytes\nFAILED\n", i);
                std::exit(1);
            }
        }
    });
    sender.join();
    receiver.join();
    std::vector<unsigned char> data(bytes);
    CHECK(cudaMemcpy(data.data(), up, bytes, cudaMemcpyDeviceToHost));
    for (unsigned char value : data) {
        if (value != 9) {
            std::printf("wrong bytes at the end\nFAILED\n");
            return 1;
        }
    }
    std::printf("%d rounds of %zu MiB each way\nPASSED\n", rounds, bytes >> 20);
}
