// Data of every length around the limits at which they travel otherwise, by several threads at once, in every way there
// is, while another thread launches and waits: each checks all of its own bytes.
#include "../../examples/check.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

constexpr size_t kib = 1 << 10;
constexpr size_t sizes[] = {64 * kib - 1, 64 * kib,       128 * kib - 1, 128 * kib,      128 * kib + 1,
                            1 << 20,      4096 * kib - 1, 4096 * kib,    4096 * kib + 1, (9 << 20) + 77};

static void fail(const char *what, size_t size, size_t at) {
    std::printf("%s of %zu bytes: byte %zu is wrong\nFAILED\n", what, size, at);
    std::exit(1);
}

static unsigned char byteAt(size_t index, unsigned seed) {
    return (unsigned char)((index * 2654435761u + seed * 97u) >> 13);
}

static void fill(unsigned char *bytes, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++) bytes[i] = byteAt(i, seed);
}

static void compare(const char *what, const unsigned char *bytes, size_t size, unsigned seed) {
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != byteAt(i, seed)) fail(what, size, i);
    }
}

struct Filling {
    unsigned char *bytes;
    size_t size;
    unsigned seed;
};

static void CUDART_CB fillLater(void *argument) {
    auto *filling = static_cast<Filling *>(argument);
    fill(filling->bytes, filling->size, filling->seed);
}

static void pageable(unsigned seed) {
    for (size_t size : sizes) {
        std::vector<unsigned char> out(size), back(size);
        unsigned char *device;
        CHECK(cudaMalloc(&device, size));
        fill(out.data(), size, seed);
        CHECK(cudaMemcpy(device, out.data(), size, cudaMemcpyHostToDevice));
        std::memset(out.data(), 0, size);
        CHECK(cudaMemcpy(back.data(), device, size, cudaMemcpyDeviceToHost));
        compare("a pageable copy", back.data(), size, seed);
        CHECK(cudaFree(device));
    }
}

static void pinned(unsigned seed) {
    cudaStream_t up, down;
    cudaEvent_t there;
    CHECK(cudaStreamCreateWithFlags(&up, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithFlags(&down, cudaStreamNonBlocking));
    CHECK(cudaEventCreateWithFlags(&there, cudaEventDisableTiming));
    for (size_t size : sizes) {
        unsigned char *out, *back, *device;
        CHECK(cudaMallocHost(&out, size));
        CHECK(cudaMallocHost(&back, size));
        CHECK(cudaMalloc(&device, size));
        // Filled by a host function when the stream is there: the bytes are asked for then.
        Filling filling{out, size, seed + 1};
        CHECK(cudaLaunchHostFunc(up, fillLater, &filling));
        CHECK(cudaMemcpyAsync(device, out, size, cudaMemcpyHostToDevice, up));
        CHECK(cudaEventRecord(there, up));
        CHECK(cudaStreamWaitEvent(down, there, 0));
        CHECK(cudaMemcpyAsync(back, device, size, cudaMemcpyDeviceToHost, down));
        CHECK(cudaEventRecord(there, down));
        while (cudaEventQuery(there) == cudaErrorNotReady) {
        }
        compare("a pinned copy", back, size, seed + 1);
        CHECK(cudaFreeHost(out));
        CHECK(cudaFreeHost(back));
        CHECK(cudaFree(device));
    }
    CHECK(cudaEventDestroy(there));
    CHECK(cudaStreamDestroy(up));
    CHECK(cudaStreamDestroy(down));
}

static void rectangles(unsigned seed) {
    constexpr size_t width = 3000, pitch = 4096, rows = 1500;
    std::vector<unsigned char> out(width * rows), back(pitch * rows, 0xEE);
    unsigned char *device;
    size_t devicePitch;
    CHECK(cudaMallocPitch(&device, &devicePitch, width, rows));
    fill(out.data(), out.size(), seed);
    CHECK(cudaMemcpy2D(device, devicePitch, out.data(), width, width, rows, cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy2D(back.data(), pitch, device, devicePitch, width, rows, cudaMemcpyDeviceToHost));
    for (size_t row = 0; row < rows; row++) {
        if (std::memcmp(&back[row * pitch], &out[row * width], width) != 0) fail("a rectangle", width * rows, row * width);
        if (row + 1 < rows && back[row * pitch + width] != 0xEE) fail("beside a rectangle", width * rows, row * width);
    }
    CHECK(cudaFree(device));
}

__global__ void count(unsigned *counter) { atomicAdd(counter, 1); }

// usage: long-data [ROUNDS]
int main(int argumentCount, char **arguments) {
    const int rounds = argumentCount > 1 ? std::atoi(arguments[1]) : 3;
    std::atomic<bool> done{false};
    unsigned launches = 0;
    std::thread launcher([&] {
        cudaStream_t stream;
        unsigned *counter, *counted;
        CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        CHECK(cudaMalloc(&counter, sizeof *counter));
        CHECK(cudaMallocHost(&counted, sizeof *counted));
        CHECK(cudaMemsetAsync(counter, 0, sizeof *counter, stream));
        while (!done) {
            count<<<1, 32, 0, stream>>>(counter);
            launches++;
            CHECK(cudaMemcpyAsync(counted, counter, sizeof *counted, cudaMemcpyDeviceToHost, stream));
            CHECK(cudaStreamSynchronize(stream));
            if (*counted != 32 * launches) {
                std::printf("%u threads counted after %u launches\nFAILED\n", *counted, launches);
                std::exit(1);
            }
        }
        CHECK(cudaFreeHost(counted));
        CHECK(cudaFree(counter));
        CHECK(cudaStreamDestroy(stream));
    });
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < 2; thread++) {
        threads.emplace_back([rounds, thread] {
            for (int round = 0; round < rounds; round++) {
                pageable(100 * thread + round);
                pinned(100 * thread + round);
                rectangles(100 * thread + round);
            }
        });
    }
    for (std::thread &thread : threads) thread.join();
    done = true;
    launcher.join();
    std::printf("%d rounds, launches beside them: %s\nPASSED\n", rounds, launches > 0 ? "yes" : "no");
}
