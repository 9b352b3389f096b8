// Opens and closes libcuda.so.1 again and again: what was started lives on, and nothing gathers.
#include "guest.h"

#include <cuda.h>
#include <dlfcn.h>

int main() {
    size_t threads = 0, descriptors = 0;
    for (int round = 0; round < 200; round++) {
        void *library = dlopen("libcuda.so.1", RTLD_NOW | (round % 2 == 0 ? RTLD_LOCAL : RTLD_GLOBAL));
        EXPECT(library != nullptr);
        auto init = reinterpret_cast<decltype(&cuInit)>(dlsym(library, "cuInit"));
        auto count = reinterpret_cast<decltype(&cuDeviceGetCount)>(dlsym(library, "cuDeviceGetCount"));
        int devices = 0;
        EXPECT(init(0) == CUDA_SUCCESS);
        EXPECT(count(&devices) == CUDA_SUCCESS && devices > 0);
        EXPECT(dlclose(library) == 0);
        if (round == 0) threads = ownThreads().size(), descriptors = openDescriptors().size();
    }
    EXPECT(ownThreads().size() == threads);
    EXPECT(openDescriptors().size() == descriptors);
    work();
    std::printf("PASSED\n");
    return 0;
}
