// Errors that end a context, and only that one: others go on beside it, and after a reset its device is as good as new.
//
// A remote GPU could get wrong here: an error that comes late, with the answer to something else, ends the context of whoever
// asked, or the one that was made after the reset; or who makes a context waits for himself.
#include "guest.h"

#include <atomic>
#include <thread>

constexpr size_t kBytes = 1 << 20;

__global__ void store(int *place, int value, int loops) {
    volatile int sum = 0;
    for (int i = 0; i < loops; i++) sum += i;
    *place = value;
}

// A kernel that fails, after a while.
void fail(cudaStream_t stream, int loops) { store<<<1, 1, 0, stream>>>(reinterpret_cast<int *>(8), 1, loops); }

void isWell(int *place) {
    for (int round = 1; round <= 3; round++) {
        int value = 0;
        store<<<1, 1>>>(place, round, 0);
        CHECK(cudaGetLastError());
        CHECK(cudaDeviceSynchronize());
        CHECK(cudaMemcpy(&value, place, sizeof value, cudaMemcpyDeviceToHost));
        EXPECT(value == round);
    }
}

// The second GPU's context ends; work that is queued there fails, too.
void besideAnother() {
    int *place;
    char *device, *pinned;
    cudaStream_t stream;
    CHECK(cudaSetDevice(0));
    CHECK(cudaMalloc(&place, sizeof(int)));
    isWell(place);
    for (int round = 0; round < 4; round++) {
        CHECK(cudaSetDevice(1));
        CHECK(cudaMalloc(&device, kBytes));
        CHECK(cudaMallocHost(&pinned, kBytes));
        isWell(reinterpret_cast<int *>(device));
        CHECK(cudaStreamCreate(&stream));
        fail(stream, 1000 * round);
        for (int more = 0; more < 20; more++) {
            (void)cudaMemcpyAsync(device, pinned, kBytes / 16, cudaMemcpyHostToDevice, stream);
            (void)cudaMemcpyAsync(pinned, device, kBytes / 16, cudaMemcpyDeviceToHost, stream);
            (void)cudaMemsetAsync(device, 1, kBytes, stream);
        }
        if (round % 2) usleep(20000);
        CHECK(cudaSetDevice(0));
        (void)cudaGetLastError();
        isWell(place);
        CHECK(cudaSetDevice(1));
        EXPECT(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
        EXPECT(cudaStreamQuery(stream) == cudaErrorIllegalAddress);
        CHECK(cudaSetDevice(0));
        (void)cudaGetLastError();
        isWell(place);
        CHECK(cudaSetDevice(1));
        CHECK(cudaDeviceReset());
    }
    CHECK(cudaSetDevice(0));
    CHECK(cudaFree(place));
}

// One error after the other, each with work behind it.
void resets() {
    for (int round = 0; round < 8; round++) {
        char *device, *pinned;
        cudaStream_t failing, other;
        CHECK(cudaMalloc(&device, kBytes));
        CHECK(cudaMallocHost(&pinned, kBytes));
        CHECK(cudaStreamCreateWithFlags(&failing, cudaStreamNonBlocking));
        CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
        CHECK(cudaDeviceSynchronize());
        fail(failing, 1000 * (round % 7));
        for (int more = 0; more < 6; more++) {
            cudaStream_t stream = round % 2 ? failing : other;
            (void)cudaMemcpyAsync(pinned, device, more % 2 ? kBytes : 4096, cudaMemcpyDeviceToHost, stream);
            (void)cudaMemsetAsync(device, 1, kBytes, other);
            (void)cudaMemcpyAsync(device, pinned, kBytes, cudaMemcpyHostToDevice, other);
        }
        EXPECT(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
        CHECK(cudaDeviceReset());
        (void)cudaGetLastError();
    }
}

// The same while several threads wait: each is told.
void threads() {
    for (int round = 0; round < 8; round++) {
        char *device, *pinned;
        cudaStream_t streams[3];
        CHECK(cudaMalloc(&device, kBytes));
        CHECK(cudaMallocHost(&pinned, kBytes));
        for (auto &stream : streams) CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        std::atomic<int> told{0};
        std::vector<std::thread> all;
        for (int index = 0; index < 3; index++) {
            all.emplace_back([&, index] {
                std::vector<char> pageable(kBytes);
                cudaError_t code = cudaSuccess;
                for (int step = 0; code == cudaSuccess; step++) {
                    if (step == 5 && index == 0) fail(streams[0], 1000 * round);
                    cudaStream_t stream = streams[index];
                    switch ((step + index + round) % 4) {
                    case 0: code = cudaMemcpyAsync(device, pinned, kBytes, cudaMemcpyHostToDevice, stream); break;
                    case 1: code = cudaMemcpyAsync(pageable.data(), device, kBytes, cudaMemcpyDeviceToHost, stream); break;
                    case 2: code = cudaStreamSynchronize(stream); break;
                    case 3:
                        while ((code = cudaStreamQuery(stream)) == cudaErrorNotReady) {
                        }
                    }
                }
                EXPECT(code == cudaErrorIllegalAddress);
                told++;
            });
        }
        for (auto &thread : all) thread.join();
        EXPECT(told == 3);
        EXPECT(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
        CHECK(cudaDeviceReset());
        (void)cudaGetLastError();
    }
}

int main() {
    besideAnother();
    std::printf("beside another: well\n");
    resets();
    std::printf("resets: well\n");
    threads();
    std::printf("threads: well\n");
    work();
    std::printf("PASSED\n");
    return 0;
}
