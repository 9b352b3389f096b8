// Programs that use nearly all their descriptors, that take numbers they never got, or that close all of them.
#include "guest.h"

#include <algorithm>
#include <cuda.h>
#include <dlfcn.h>
#include <sys/resource.h>

constexpr int allowed = 64;

static void allowFew() {
    rlimit limit{allowed, allowed};
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static void openUntil(int count) {
    while (static_cast<int>(openDescriptors().size()) < count) EXPECT(open("/dev/null", O_RDONLY) >= 0);
}

static std::vector<int> without(const std::vector<int> &all, const std::vector<int> &known) {
    std::vector<int> left;
    std::copy_if(all.begin(), all.end(), std::back_inserter(left),
                 [&](int number) { return std::find(known.begin(), known.end(), number) == known.end(); });
    return left;
}

// 60 of 64 are in use: everything works, and it costs one number.
static void nearlyAll() {
    allowFew();
    openUntil(60);
    auto before = openDescriptors();
    work();
    auto more = without(openDescriptors(), before);
    std::printf("new descriptors: %zu\n", more.size());
    for (int number : more) EXPECT((fcntl(number, F_GETFD) & FD_CLOEXEC) != 0);
    for (int round = 0; round < 100; round++) work();
    EXPECT(without(openDescriptors(), before).size() == more.size());
}

// All are in use: cuInit says so, and works once there is room.
static void all() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    EXPECT(library != nullptr);
    auto init = reinterpret_cast<decltype(&cuInit)>(dlsym(library, "cuInit"));
    allowFew();
    std::vector<int> opened;
    for (int number; (number = open("/dev/null", O_RDONLY)) >= 0;) opened.push_back(number);
    for (int round = 0; round < 3; round++) std::printf("cuInit: %d\n", init(0));
    // One is left for each step, then two.
    for (int room = 0; room < 4; room++) {
        close(opened.back());
        opened.pop_back();
    }
    EXPECT(init(0) == CUDA_SUCCESS);
    work();
}

// The program puts its own files on numbers that it takes to be free.
static void taken() {
    work();
    auto used = openDescriptors();
    int target = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    EXPECT(target >= 0);
    for (int number = 3; number < 200; number++)
        if (number != target) EXPECT(dup2(target, number) == number);
    for (int round = 0; round < 100; round++) work();
    struct stat status;
    EXPECT(fstat(target, &status) == 0 && status.st_size == 0);
}

// As daemons do it.
static void closed() {
    int *memory;
    CHECK(cudaMalloc(&memory, 1 << 20));
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaDeviceSynchronize());
    spin<<<1, 1, 0, stream>>>(1000);
    for (int number = 3; number < 1024; number++) close(number);
    // The same numbers mean files of the program's from here on.
    int target = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    for (int number = 3; number < 1024; number++)
        if (number != target) EXPECT(dup2(target, number) == number);
    for (int round = 0; round < 2; round++) {
        std::printf("synchronize: %s\n", cudaGetErrorName(cudaDeviceSynchronize()));
        std::printf("malloc: %s\n", cudaGetErrorName(cudaMalloc(&memory, 16)));
        std::printf("stream: %s\n", cudaGetErrorName(cudaStreamSynchronize(stream)));
    }
    struct stat status;
    EXPECT(fstat(target, &status) == 0 && status.st_size == 0);
}

int main(int, char **argv) {
    std::string mode = argv[1];
    if (mode == "nearly-all") nearlyAll();
    if (mode == "all") all();
    if (mode == "taken") taken();
    if (mode == "closed") closed();
    std::printf("PASSED\n");
    return 0;
}
