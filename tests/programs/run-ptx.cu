// Loads a PTX file, gets one kernel without parameters, runs it; prints what failed and the error log.
// usage: run-ptx FILE KERNEL
#include "../../examples/driver.h"

#include <fstream>
#include <iterator>
#include <string>

int main(int count, char **arguments) {
    if (count != 3) return 64;
    std::ifstream file(arguments[1]);
    const std::string ptx((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());

    const Driver driver = openDriver();
    CHECK_DRIVER(driver.init(0));
    CUdevice device;
    CHECK_DRIVER(driver.deviceGet(&device, 0));
    CUcontext context;
    CHECK_DRIVER(driver.primaryCtxRetain(&context, device));
    CHECK_DRIVER(driver.ctxSetCurrent(context));

    static LoadedModule loaded;
    loadModule(driver, ptx.c_str(), loaded);
    std::printf("load: %s\n", errorName(driver, loaded.result));
    std::printf("log: %s\n", loaded.error);
    if (loaded.result != CUDA_SUCCESS) return 1;

    CUfunction kernel = nullptr;
    CUresult result = driver.moduleGetFunction(&kernel, loaded.module, arguments[2]);
    std::printf("get: %s\n", errorName(driver, result));
    if (result == CUDA_SUCCESS) {
        result = driver.launchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr);
        std::printf("launch: %s\n", errorName(driver, result));
    }
    if (result == CUDA_SUCCESS) {
        result = driver.ctxSynchronize();
        std::printf("synchronize: %s\n", errorName(driver, result));
    }
    return result == CUDA_SUCCESS ? 0 : 1;
}
