// Two CUDA runtimes in one process: the program's own and one inside a library that it opens.
#include "guest.h"

#include <dlfcn.h>

__device__ int counter;

__global__ void count() { atomicAdd(&counter, 2); }

int main(int, char **argv) {
    int *shared, value = 40;
    CHECK(cudaMalloc(&shared, sizeof(int)));
    CHECK(cudaMemcpy(shared, &value, sizeof value, cudaMemcpyHostToDevice));
    for (int round = 1; round <= 3; round++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) std::printf("%s\n", dlerror());
        EXPECT(library != nullptr);
        auto countInSecond = reinterpret_cast<int (*)(int *, int)>(dlsym(library, "countInSecond"));
        auto runtimeOfSecond = reinterpret_cast<const void *(*)()>(dlsym(library, "runtimeOfSecond"));
        EXPECT(runtimeOfSecond() != reinterpret_cast<const void *>(&cudaGetErrorName));
        int before = countInSecond(shared, 0);
        EXPECT(countInSecond(shared, round) == before + 32 * round);
        for (int more = 0; more < round; more++) count<<<1, 32>>>();
        int total = -1;
        CHECK(cudaMemcpyFromSymbol(&total, counter, sizeof total));
        EXPECT(total == 64 * round * (round + 1) / 2);
        CHECK(cudaMemcpy(&value, shared, sizeof value, cudaMemcpyDeviceToHost));
        EXPECT(value == 40 + 2 * round);
        work();
        EXPECT(dlclose(library) == 0);
    }
    CHECK(cudaFree(shared));
    std::printf("PASSED\n");
    return 0;
}
