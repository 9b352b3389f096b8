// What programs ask that only want to know whether there are GPUs: nothing of it needs one.
#include "../../examples/check.h"

int main() {
    int count = 0;
    CHECK(cudaGetDeviceCount(&count));
    for (int i = 0; i < count; i++) {
        cudaDeviceProp properties;
        CHECK(cudaGetDeviceProperties(&properties, i));
        std::printf("GPU %d: %s, %zu MiB, %d.%d, %04x:%02x:%02x, ", i, properties.name, properties.totalGlobalMem >> 20,
                    properties.major, properties.minor, properties.pciDomainID, properties.pciBusID,
                    properties.pciDeviceID);
        for (char byte : properties.uuid.bytes) std::printf("%02x", static_cast<unsigned char>(byte));
        std::printf("\n");
    }
    // As programs do that leave a GPU as they found it.
    CHECK(cudaDeviceReset());
    return 0;
}
