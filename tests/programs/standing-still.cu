// One stream stands still with many long copies before it; another stream goes on, and ends the wait.
//
// A remote GPU could get wrong here: the memory through which copies pass is used up by those that stand still.
// usage: standing-still [COPIES]
#include "../../examples/expect.h"

#include <cstring>

__global__ void waitFor(const volatile int *flag) {
    while (*flag == 0) {
    }
}

int main(int argumentCount, char **arguments) {
    const int copies = argumentCount > 1 ? std::atoi(arguments[1]) : 80;
    constexpr size_t length = 4 << 20, other = 1 << 20;
    char *device, *source, *elsewhere, *landed;
    int *flag, *one;
    CHECK(cudaMalloc(&device, length));
    CHECK(cudaMalloc(&elsewhere, other));
    CHECK(cudaMalloc(&flag, sizeof(int)));
    CHECK(cudaMallocHost(&source, length));
    CHECK(cudaMallocHost(&landed, other));
    CHECK(cudaMallocHost(&one, sizeof(int)));
    std::memset(source, 3, length);
    *one = 1;
    CHECK(cudaMemset(flag, 0, sizeof(int)));
    CHECK(cudaMemset(elsewhere, 5, other));
    CHECK(cudaDeviceSynchronize());
    cudaStream_t still, goesOn;
    CHECK(cudaStreamCreateWithFlags(&still, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithFlags(&goesOn, cudaStreamNonBlocking));

    waitFor<<<1, 1, 0, still>>>(flag);
    CHECK(cudaGetLastError());
    for (int i = 0; i < copies; i++) CHECK(cudaMemcpyAsync(device, source, length, cudaMemcpyHostToDevice, still));
    CHECK(cudaMemcpyAsync(landed, elsewhere, other, cudaMemcpyDeviceToHost, goesOn));
    CHECK(cudaStreamSynchronize(goesOn));
    EXPECT(landed[0] == 5 && landed[other - 1] == 5);
    EXPECT(cudaStreamQuery(still) == cudaErrorNotReady);
    CHECK(cudaMemcpyAsync(flag, one, sizeof(int), cudaMemcpyHostToDevice, goesOn));
    CHECK(cudaDeviceSynchronize());
    CHECK(cudaMemcpy(landed, device + length - other, other, cudaMemcpyDeviceToHost));
    EXPECT(landed[0] == 3 && landed[other - 1] == 3);
    std::printf("%d copies stood still, another stream went on\nPASSED\n", copies);
    return 0;
}
