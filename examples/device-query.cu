// What a program sees of its GPUs: names, sizes, free memory.
#include "check.h"

int main() {
    int count = 0;
    const cudaError_t result = cudaGetDeviceCount(&count);
    if (result == cudaErrorNoDevice) {
        std::printf("no GPU\n");
        return 1;
    }
    CHECK(result);
    int driverVersion = 0;
    CHECK(cudaDriverGetVersion(&driverVersion));
    std::printf("GPUs: %d, driver interface %d.%d\n", count, driverVersion / 1000, driverVersion % 1000 / 10);
    for (int i = 0; i < count; i++) {
        cudaDeviceProp properties;
        CHECK(cudaGetDeviceProperties(&properties, i));
        CHECK(cudaSetDevice(i));
        size_t free = 0, total = 0;
        CHECK(cudaMemGetInfo(&free, &total));
        std::printf("GPU %d: %s\n", i, properties.name);
        std::printf("  compute capability  %d.%d\n", properties.major, properties.minor);
        std::printf("  multiprocessors     %d\n", properties.multiProcessorCount);
        std::printf("  memory              %zu MiB\n", properties.totalGlobalMem >> 20);
        std::printf("  memory, as counted  %zu MiB\n", total >> 20);
        std::printf("  PCI address         %04x:%02x:%02x\n", properties.pciDomainID, properties.pciBusID,
                    properties.pciDeviceID);
    }
    return 0;
}
