// Kernels by name: right and wrong names, attributes, enumeration, and what is set on a kernel.
//
// A remote GPU could get wrong here: which names exist and what is known of them may be answered far from the driver.
// A wrong name must be refused at once, a set attribute must be seen at once and by launches, and an image with many
// kernels must behave like one with few.
#include "driver.h"
#include "expect.h"

#include <algorithm>
#include <string>
#include <vector>

// Kernel `store<n>` writes n plus its second argument. The first one also has variables and static shared memory.
static std::string image(int kernels) {
    std::string text = ".version 7.0\n.target sm_80\n.address_size 64\n.visible .global .align 4 .u32 counter = 41;\n";
    for (int i = 0; i < kernels; i++) {
        const std::string n = std::to_string(i);
        text += ".visible .entry store" + n + "(.param .u64 place, .param .u32 more)\n.maxntid 64, 1, 1\n{\n";
        if (i == 0) text += "    .shared .align 4 .b8 room[256];\n";
        text += "    .reg .b32 %r<3>;\n    .reg .b64 %a<3>;\n    ld.param.u64 %a1, [place];\n"
                "    cvta.to.global.u64 %a2, %a1;\n    ld.param.u32 %r1, [more];\n";
        if (i == 0) text += "    st.volatile.shared.u32 [room], %r1;\n    ld.volatile.shared.u32 %r1, [room];\n";
        text += "    add.u32 %r2, %r1, " + n + ";\n    st.global.u32 [%a2], %r2;\n    ret;\n}\n";
    }
    return text;
}

struct Calls {
    decltype(&::cuModuleGetFunctionCount) functionCount;
    decltype(&::cuModuleEnumerateFunctions) enumerateFunctions;
    decltype(&::cuModuleGetGlobal) moduleGetGlobal;
    decltype(&::cuFuncGetName) funcGetName;
    decltype(&::cuFuncGetAttribute) funcGetAttribute;
    decltype(&::cuFuncSetAttribute) funcSetAttribute;
    decltype(&::cuFuncGetParamInfo) funcGetParamInfo;
    decltype(&::cuOccupancyMaxActiveBlocksPerMultiprocessor) activeBlocks;
    decltype(&::cuLibraryLoadData) libraryLoadData;
    decltype(&::cuLibraryUnload) libraryUnload;
    decltype(&::cuLibraryGetKernel) libraryGetKernel;
    decltype(&::cuLibraryGetKernelCount) kernelCount;
    decltype(&::cuLibraryEnumerateKernels) enumerateKernels;
    decltype(&::cuLibraryGetModule) libraryGetModule;
    decltype(&::cuKernelGetFunction) kernelGetFunction;
    decltype(&::cuKernelGetName) kernelGetName;
    decltype(&::cuKernelSetAttribute) kernelSetAttribute;
    decltype(&::cuKernelGetAttribute) kernelGetAttribute;
};

static Calls resolve() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    Calls calls;
#define RESOLVE(field, name) \
    calls.field = reinterpret_cast<decltype(calls.field)>(dlsym(library, name)); \
    EXPECT(calls.field != nullptr)
    RESOLVE(functionCount, "cuModuleGetFunctionCount");
    RESOLVE(enumerateFunctions, "cuModuleEnumerateFunctions");
    RESOLVE(moduleGetGlobal, "cuModuleGetGlobal_v2");
    RESOLVE(funcGetName, "cuFuncGetName");
    RESOLVE(funcGetAttribute, "cuFuncGetAttribute");
    RESOLVE(funcSetAttribute, "cuFuncSetAttribute");
    RESOLVE(funcGetParamInfo, "cuFuncGetParamInfo");
    RESOLVE(activeBlocks, "cuOccupancyMaxActiveBlocksPerMultiprocessor");
    RESOLVE(libraryLoadData, "cuLibraryLoadData");
    RESOLVE(libraryUnload, "cuLibraryUnload");
    RESOLVE(libraryGetKernel, "cuLibraryGetKernel");
    RESOLVE(kernelCount, "cuLibraryGetKernelCount");
    RESOLVE(enumerateKernels, "cuLibraryEnumerateKernels");
    RESOLVE(libraryGetModule, "cuLibraryGetModule");
    RESOLVE(kernelGetFunction, "cuKernelGetFunction");
    RESOLVE(kernelGetName, "cuKernelGetName");
    RESOLVE(kernelSetAttribute, "cuKernelSetAttribute");
    RESOLVE(kernelGetAttribute, "cuKernelGetAttribute");
#undef RESOLVE
    return calls;
}

struct Place {
    const Driver &driver;
    CUdeviceptr address;

    unsigned launch(CUfunction function, unsigned more, unsigned shared = 0) const {
        const unsigned nothing = ~0u;
        CHECK_DRIVER(driver.memcpyHtoD(address, &nothing, sizeof nothing));
        CUdeviceptr place = address;
        void *values[] = {&place, &more};
        CHECK_DRIVER(driver.launchKernel(function, 1, 1, 1, 1, 1, 1, shared, nullptr, values, nullptr));
        unsigned result = 0;
        CHECK_DRIVER(driver.memcpyDtoH(&result, address, sizeof result));
        return result;
    }

    CUresult tryLaunch(CUfunction function, unsigned threads, unsigned shared) const {
        CUdeviceptr place = address;
        unsigned more = 0;
        void *values[] = {&place, &more};
        return driver.launchKernel(function, 1, 1, 1, threads, 1, 1, shared, nullptr, values, nullptr);
    }
};

static void aboutFunction(const Calls &calls, const Place &place, CUfunction function, unsigned number) {
    const Driver &driver = place.driver;
    const char *name = nullptr;
    CHECK_DRIVER(calls.funcGetName(&name, function));
    EXPECT(name == "store" + std::to_string(number));
    int threads = 0, fixed = -1, dynamic = 0;
    CHECK_DRIVER(calls.funcGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function));
    CHECK_DRIVER(calls.funcGetAttribute(&fixed, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function));
    EXPECT(threads == 64 && fixed == (number == 0 ? 256 : 0));
    size_t offset = 0, size = 0;
    CHECK_DRIVER(calls.funcGetParamInfo(function, 1, &offset, &size));
    EXPECT(offset == 8 && size == 4);
    EXPECT(calls.funcGetParamInfo(function, 2, &offset, &size) == CUDA_ERROR_INVALID_VALUE);
    // More threads than the kernel was compiled for, then more shared memory than it may have.
    EXPECT(place.tryLaunch(function, 65, 0) != CUDA_SUCCESS);
    const int wanted = 64 << 10;
    EXPECT(place.tryLaunch(function, 1, wanted) == CUDA_ERROR_INVALID_VALUE);
    EXPECT(calls.funcSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 16 << 20) ==
           CUDA_ERROR_INVALID_VALUE);
    int before = 0, after = 0;
    CHECK_DRIVER(calls.activeBlocks(&before, function, 64, wanted / 4));
    CHECK_DRIVER(calls.funcSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, wanted));
    CHECK_DRIVER(calls.funcGetAttribute(&dynamic, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, function));
    EXPECT(dynamic == wanted);
    CHECK_DRIVER(calls.activeBlocks(&after, function, 64, wanted / 4));
    EXPECT(before > 0 && before == after);
    EXPECT(place.launch(function, 1000, wanted) == 1000 + number);
}

static void modules(const Calls &calls, const Place &place, int kernels) {
    const Driver &driver = place.driver;
    const std::string text = image(kernels);
    CUmodule module = nullptr;
    CHECK_DRIVER(driver.moduleLoadDataEx(&module, text.c_str(), 0, nullptr, nullptr));
    CUfunction function = nullptr, again = nullptr;
    for (const char *wrong : {"", "store", "Store0", "store0 ", "counter", "store99999"})
        EXPECT(driver.moduleGetFunction(&function, module, wrong) == CUDA_ERROR_NOT_FOUND);
    for (int i = 0; i < kernels; i += kernels / 2) {
        const std::string name = "store" + std::to_string(i);
        CHECK_DRIVER(driver.moduleGetFunction(&function, module, name.c_str()));
        CHECK_DRIVER(driver.moduleGetFunction(&again, module, name.c_str()));
        EXPECT(function == again);
        aboutFunction(calls, place, function, static_cast<unsigned>(i));
    }
    CUdeviceptr counter = 0;
    size_t bytes = 0;
    CHECK_DRIVER(calls.moduleGetGlobal(&counter, &bytes, module, "counter"));
    EXPECT(counter != 0 && bytes == 4);
    EXPECT(calls.moduleGetGlobal(&counter, &bytes, module, "store0") == CUDA_ERROR_NOT_FOUND);

    unsigned count = 0;
    CHECK_DRIVER(calls.functionCount(&count, module));
    EXPECT(count == static_cast<unsigned>(kernels));
    std::vector<CUfunction> all(std::min(count, 8u)); // the first ones
    CHECK_DRIVER(calls.enumerateFunctions(all.data(), static_cast<unsigned>(all.size()), module));
    std::vector<std::string> names;
    for (CUfunction each : all) {
        const char *name = nullptr;
        CHECK_DRIVER(calls.funcGetName(&name, each));
        names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    EXPECT(std::unique(names.begin(), names.end()) == names.end());
    CHECK_DRIVER(driver.moduleGetFunction(&function, module, names.back().c_str()));
    EXPECT(std::find(all.begin(), all.end(), function) != all.end());
    CHECK_DRIVER(driver.moduleUnload(module));
    EXPECT(driver.moduleGetFunction(&function, module, "store0") != CUDA_SUCCESS);
    std::printf("module of %d kernels: PASSED\n", kernels);
}

static void libraries(const Calls &calls, const Place &place, int kernels) {
    const Driver &driver = place.driver;
    const std::string text = image(kernels);
    CUlibrary library = nullptr;
    CHECK_DRIVER(calls.libraryLoadData(&library, text.c_str(), nullptr, nullptr, 0, nullptr, nullptr, 0));
    CUkernel kernel = nullptr;
    EXPECT(calls.libraryGetKernel(&kernel, library, "nothing") == CUDA_ERROR_NOT_FOUND);
    CHECK_DRIVER(calls.libraryGetKernel(&kernel, library, "store1"));
    const char *name = nullptr;
    CHECK_DRIVER(calls.kernelGetName(&name, kernel));
    EXPECT(std::string(name) == "store1");
    unsigned count = 0;
    CHECK_DRIVER(calls.kernelCount(&count, library));
    EXPECT(count == static_cast<unsigned>(kernels));
    std::vector<CUkernel> all(std::min(count, 8u)); // the first ones
    CHECK_DRIVER(calls.enumerateKernels(all.data(), static_cast<unsigned>(all.size()), library));
    for (CUkernel each : all) {
        CUkernel found = nullptr;
        CHECK_DRIVER(calls.kernelGetName(&name, each));
        CHECK_DRIVER(calls.libraryGetKernel(&found, library, name));
        EXPECT(found == each);
    }

    // A kernel is launched as it is, and as the function that it becomes in this context.
    EXPECT(place.launch(reinterpret_cast<CUfunction>(kernel), 5) == 6);
    const int wanted = 60 << 10;
    CHECK_DRIVER(calls.kernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, wanted, kernel, 0));
    int seen = 0;
    CHECK_DRIVER(calls.kernelGetAttribute(&seen, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kernel, 0));
    EXPECT(seen == wanted);
    CUfunction function = nullptr;
    CHECK_DRIVER(calls.kernelGetFunction(&function, kernel));
    CHECK_DRIVER(calls.funcGetAttribute(&seen, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, function));
    EXPECT(seen == wanted);
    EXPECT(place.launch(function, 7, wanted) == 8);

    CUmodule module = nullptr;
    CHECK_DRIVER(calls.libraryGetModule(&module, library));
    EXPECT(driver.moduleGetFunction(&function, module, "nothing") == CUDA_ERROR_NOT_FOUND);
    CHECK_DRIVER(driver.moduleGetFunction(&function, module, "store0"));
    EXPECT(place.launch(function, 3) == 3);
    CHECK_DRIVER(calls.libraryUnload(library));
    std::printf("library of %d kernels: PASSED\n", kernels);
}

int main() {
    const Driver driver = openDriver();
    const Calls calls = resolve();
    CHECK_DRIVER(driver.init(0));
    CUdevice device;
    CUcontext context;
    CHECK_DRIVER(driver.deviceGet(&device, 0));
    CHECK_DRIVER(driver.primaryCtxRetain(&context, device));
    CHECK_DRIVER(driver.ctxSetCurrent(context));
    Place place{driver, 0};
    CHECK_DRIVER(driver.memAlloc(&place.address, sizeof(unsigned)));
    // Up to 64 kernels a remote GPU may describe all; of more it should not.
    for (int kernels : {3, 80}) {
        modules(calls, place, kernels);
        libraries(calls, place, kernels);
    }
    CHECK_DRIVER(driver.memFree(place.address));
    CHECK_DRIVER(driver.primaryCtxRelease(device));
    std::printf("PASSED\n");
    return 0;
}
