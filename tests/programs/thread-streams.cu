// Threads that end: with streams of the program's that live on, and with their own default streams, which do not.
#include "guest.h"

#include <iostream>
#include <thread>

int main(int argc, char **argv) {
    int rounds = argc > 1 ? std::atoi(argv[1]) : 2;
    int *values;
    CHECK(cudaMalloc(&values, sizeof(int)));
    CHECK(cudaMemset(values, 0, sizeof(int)));
    CHECK(cudaDeviceSynchronize());
    int expected = 0;
    for (int round = 0; round < rounds; round++) {
        for (int part = 0; part < 100; part++) {
            std::vector<std::thread> threads;
            std::vector<cudaStream_t> left(4);
            for (int i = 0; i < 4; i++) {
                threads.emplace_back([&, i] {
                    // Nobody waits for it here: the work of a thread that ended is done all the same.
                    for (int more = 0; more < 3; more++) addOne<<<1, 1, 0, cudaStreamLegacy>>>(values, 1);
                    addOne<<<1, 1, 0, cudaStreamPerThread>>>(values, 0);
                    CHECK(cudaGetLastError());
                    CHECK(cudaStreamCreateWithFlags(&left[i], cudaStreamNonBlocking));
                    spin<<<1, 1, 0, left[i]>>>(1000);
                    CHECK(cudaGetLastError());
                });
                expected += 3;
            }
            for (auto &thread : threads) thread.join();
            for (auto stream : left) {
                work(stream);
                CHECK(cudaStreamDestroy(stream));
            }
        }
        CHECK(cudaDeviceSynchronize());
        int value = 0;
        CHECK(cudaMemcpy(&value, values, sizeof value, cudaMemcpyDeviceToHost));
        EXPECT(value == expected);
        std::printf("round %d\n", round);
        std::fflush(stdout);
        std::string word;
        if (argc > 2) std::getline(std::cin, word);
    }
    std::printf("PASSED\n");
    return 0;
}
