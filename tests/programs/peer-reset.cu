// A device is reset whose memory another one has used: access to it ends with its context, and can be enabled anew.
#include "../../examples/expect.h"

__global__ void add(unsigned *place, unsigned value) { *place += value; }

int main() {
    for (int round = 0; round < 3; round++) {
        unsigned *there = nullptr, result = 0;
        CHECK(cudaSetDevice(1));
        CHECK(cudaMalloc(&there, round % 2 ? 4 : 40 << 20));
        CHECK(cudaMemset(there, 0, sizeof *there));
        CHECK(cudaDeviceSynchronize());
        CHECK(cudaSetDevice(0));
        CHECK(cudaDeviceEnablePeerAccess(1, 0));
        EXPECT(cudaDeviceEnablePeerAccess(1, 0) == cudaErrorPeerAccessAlreadyEnabled);
        (void)cudaGetLastError();
        add<<<1, 1>>>(there, 5);
        CHECK(cudaDeviceSynchronize());
        CHECK(cudaMemcpy(&result, there, sizeof result, cudaMemcpyDefault));
        EXPECT(result == 5);
        // The last time with access, which a new context must not inherit.
        CHECK(cudaSetDevice(1));
        CHECK(cudaDeviceReset());
        std::printf("used, and reset\n");
    }
    unsigned *there = nullptr;
    CHECK(cudaMalloc(&there, 4));
    CHECK(cudaSetDevice(0));
    EXPECT(cudaDeviceDisablePeerAccess(1) == cudaErrorPeerAccessNotEnabled);
    (void)cudaGetLastError();
    add<<<1, 1>>>(there, 5);
    EXPECT(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
    std::printf("not enabled: an illegal address\nPASSED\n");
    return 0;
}
