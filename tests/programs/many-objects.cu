// 10,000 streams and 10,000 events, many of them at once, again and again: nothing grows with the repetitions.
#include "guest.h"

#include <cuda.h>
#include <dlfcn.h>
#include <iostream>

constexpr int streamsAtOnce = 1000, eventsAtOnce = 10000;

static void streamsAndEvents() {
    int *values;
    CHECK(cudaMalloc(&values, sizeof(int)));
    CHECK(cudaMemset(values, 0, sizeof(int)));
    CHECK(cudaDeviceSynchronize()); // non-blocking streams do not wait for the legacy stream
    std::vector<cudaEvent_t> events(eventsAtOnce);
    for (auto &event : events) CHECK(cudaEventCreate(&event));
    int launches = 0;
    for (int part = 0; part < 10000 / streamsAtOnce; part++) {
        std::vector<cudaStream_t> streams(streamsAtOnce);
        for (auto &stream : streams)
            CHECK(cudaStreamCreateWithFlags(&stream, launches++ % 2 == 0 ? cudaStreamDefault : cudaStreamNonBlocking));
        for (int i = 0; i < streamsAtOnce; i++) {
            // One after the other: each waits for the stream before.
            if (i > 0) CHECK(cudaStreamWaitEvent(streams[i], events[part * streamsAtOnce + i - 1], 0));
            if (i % 100 == 0) addOne<<<1, 1, 0, streams[i]>>>(values, 1);
            CHECK(cudaEventRecord(events[part * streamsAtOnce + i], streams[i]));
        }
        CHECK(cudaStreamSynchronize(streams.back()));
        for (int i = 0; i < streamsAtOnce; i += 200) CHECK(cudaEventSynchronize(events[part * streamsAtOnce + i]));
        for (auto stream : streams) CHECK(cudaStreamDestroy(stream));
    }
    CHECK(cudaDeviceSynchronize());
    for (auto event : events) CHECK(cudaEventQuery(event));
    for (auto event : events) CHECK(cudaEventDestroy(event));
    int value = 0;
    CHECK(cudaMemcpy(&value, values, sizeof value, cudaMemcpyDeviceToHost));
    EXPECT(value == 10000 / 100);
    CHECK(cudaFree(values));
}

// Objects that go with their context instead of one by one.
static void contexts() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    auto create = reinterpret_cast<CUresult (*)(CUcontext *, unsigned, CUdevice)>(dlsym(library, "cuCtxCreate_v2"));
    auto destroy = reinterpret_cast<CUresult (*)(CUcontext)>(dlsym(library, "cuCtxDestroy_v2"));
    for (int round = 0; round < 20; round++) {
        CUcontext context;
        EXPECT(create(&context, 0, 0) == CUDA_SUCCESS);
        std::vector<cudaStream_t> streams(50);
        std::vector<cudaEvent_t> events(500);
        for (auto &stream : streams) CHECK(cudaStreamCreate(&stream));
        for (auto &event : events) CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
        for (int i = 0; i < 500; i++) CHECK(cudaEventRecord(events[i], streams[i % 50]));
        CHECK(cudaDeviceSynchronize());
        EXPECT(destroy(context) == CUDA_SUCCESS);
    }
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? std::atoi(argv[1]) : 4;
    long resident = 0;
    size_t descriptors = 0, threads = 0;
    for (int round = 0; round < rounds; round++) {
        streamsAndEvents();
        contexts();
        std::printf("round %d\n", round);
        std::fflush(stdout);
        // The test looks at the worker meanwhile, and says when it goes on.
        std::string word;
        if (argc > 2) std::getline(std::cin, word);
        if (round == 0) resident = residentKib(), descriptors = openDescriptors().size(), threads = ownThreads().size();
    }
    EXPECT(openDescriptors().size() == descriptors);
    if (argc > 2) EXPECT(ownThreads().size() == threads); // the simulated GPU alone has its threads here
    // What the later rounds keep of their objects would be megabytes.
    if (argc > 2) EXPECT(residentKib() - resident < 1024);
    std::printf("PASSED\n");
    return 0;
}
