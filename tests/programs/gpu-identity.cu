// What CUDA says of who its GPUs are, a line of JSON each. `hold N` then takes N MiB of each, says so, and waits until
// its standard input ends.
#include <cstdlib>
#include <cstring>

#include "../../examples/check.h"

int main(int count, char** words) {
    int devices = 0;
    CHECK(cudaGetDeviceCount(&devices));
    for (int device = 0; device < devices; device++) {
        cudaDeviceProp properties;
        CHECK(cudaGetDeviceProperties(&properties, device));
        char address[32];
        CHECK(cudaDeviceGetPCIBusId(address, sizeof address, device));
        std::printf("{\"name\": \"%s\", \"uuid\": \"GPU-", properties.name);
        for (int i = 0; i < 16; i++) {
            std::printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                        static_cast<unsigned char>(properties.uuid.bytes[i]));
        }
        std::printf("\", \"pci\": \"%s\", \"memory\": %zu, \"capability\": \"%d.%d\"}\n", address,
                    properties.totalGlobalMem, properties.major, properties.minor);
    }
    if (count == 3 && std::strcmp(words[1], "hold") == 0) {
        for (int device = 0; device < devices; device++) {
            void* memory = nullptr;
            CHECK(cudaSetDevice(device));
            CHECK(cudaMalloc(&memory, static_cast<size_t>(std::atoi(words[2])) << 20));
            CHECK(cudaMemset(memory, 1, 1));
            CHECK(cudaDeviceSynchronize());
        }
        std::printf("holds\n");
        std::fflush(stdout);
        while (std::getchar() != EOF) {
        }
    }
    return 0;
}
