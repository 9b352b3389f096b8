// The driver API: PTX is loaded while the program runs, with the logs of the just-in-time compiler;
// then a malformed module shows what the error log says.
#include "driver.h"

#include <cstring>
#include <vector>

static const char *const scaleAndShift = R"(
.version 7.0
.target sm_80
.address_size 64

.visible .entry scaleAndShift(
    .param .u64 values,
    .param .u32 count,
    .param .s32 factor,
    .param .s32 offset
)
{
    .reg .pred %p;
    .reg .b32 %r<8>;
    .reg .b64 %address<4>;

    ld.param.u64 %address1, [values];
    ld.param.u32 %r1, [count];
    ld.param.s32 %r2, [factor];
    ld.param.s32 %r3, [offset];
    mov.u32 %r4, %ctaid.x;
    mov.u32 %r5, %ntid.x;
    mov.u32 %r6, %tid.x;
    mad.lo.s32 %r4, %r4, %r5, %r6;
    setp.ge.u32 %p, %r4, %r1;
    @%p bra done;
    cvta.to.global.u64 %address1, %address1;
    mul.wide.u32 %address2, %r4, 4;
    add.s64 %address3, %address1, %address2;
    ld.global.s32 %r7, [%address3];
    mad.lo.s32 %r7, %r7, %r2, %r3;
    st.global.s32 [%address3], %r7;
done:
    ret;
}
)";

// Line 9 multiplies without naming a third operand.
static const char *const malformed = R"(.version 7.0
.target sm_80
.address_size 64

.visible .entry broken()
{
    .reg .b32 %r<3>;
    mov.u32 %r1, 7;
    mul.lo.s32 %r2, %r1;
    ret;
}
)";

int main() {
    const Driver driver = openDriver();
    CHECK_DRIVER(driver.init(0));
    CUdevice device;
    CHECK_DRIVER(driver.deviceGet(&device, 0));
    char name[128];
    CHECK_DRIVER(driver.deviceGetName(name, sizeof name, device));
    CUcontext context;
    CHECK_DRIVER(driver.primaryCtxRetain(&context, device));
    CHECK_DRIVER(driver.ctxSetCurrent(context));
    std::printf("load-ptx: on %s\n", name);

    static LoadedModule loaded;
    loadModule(driver, scaleAndShift, loaded);
    if (loaded.result != CUDA_SUCCESS) {
        std::fprintf(stderr, "%s\n", loaded.error);
        CHECK_DRIVER(loaded.result);
    }
    std::printf("load-ptx: module loaded, error log %s\n", loaded.error[0] == '\0' ? "empty" : "not empty");

    const unsigned count = 1000;
    int factor = 3, offset = -5;
    std::vector<int> values(count), results(count);
    for (unsigned i = 0; i < count; i++) values[i] = static_cast<int>(i) - 500;
    CUfunction kernel;
    CHECK_DRIVER(driver.moduleGetFunction(&kernel, loaded.module, "scaleAndShift"));
    CUdeviceptr deviceValues;
    CHECK_DRIVER(driver.memAlloc(&deviceValues, count * sizeof(int)));
    CHECK_DRIVER(driver.memcpyHtoD(deviceValues, values.data(), count * sizeof(int)));
    unsigned parameterCount = count;
    void *parameters[] = {&deviceValues, &parameterCount, &factor, &offset};
    CHECK_DRIVER(driver.launchKernel(kernel, (count + 127) / 128, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr));
    CHECK_DRIVER(driver.ctxSynchronize());
    CHECK_DRIVER(driver.memcpyDtoH(results.data(), deviceValues, count * sizeof(int)));
    CHECK_DRIVER(driver.memFree(deviceValues));
    CHECK_DRIVER(driver.moduleUnload(loaded.module));
    for (unsigned i = 0; i < count; i++) {
        if (results[i] != values[i] * factor + offset) {
            std::printf("load-ptx: element %u is %d, expected %d\nFAILED\n", i, results[i], values[i] * factor + offset);
            return 1;
        }
    }
    std::printf("load-ptx: %u elements equal to the host's\n", count);

    loadModule(driver, malformed, loaded);
    std::printf("load-ptx: malformed module: %s\n", errorName(driver, loaded.result));
    std::printf("load-ptx: error log:\n%s\n", loaded.error);
    const bool refused = loaded.result == CUDA_ERROR_INVALID_PTX && std::strstr(loaded.error, "line 9") != nullptr;
    CHECK_DRIVER(driver.primaryCtxRelease(device));
    std::printf(refused ? "PASSED\n" : "FAILED\n");
    return refused ? 0 : 1;
}
