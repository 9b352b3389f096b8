// Work on all GPUs that there are: from one thread, which goes from one to the next, and from a thread for each.
//
// Remote GPUs could get wrong here, above all where they are on several servers: handles and memory of one GPU are used while
// another is current; code and variables are there once for each GPU; memory is copied from one to another, also where they cannot
// reach each other; a stream of one waits for an event of another, and only for what that was recorded behind at the time.
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "expect.h"

constexpr int count = 10 << 20; // more than any copy's piece
constexpr size_t bytes = count * sizeof(int);

__device__ int offset;

__global__ void fill(int *values, int n, int from) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) values[i] = from + offset + i;
}

struct Gpu {
    int device;
    cudaStream_t stream;
    cudaEvent_t event;
    int *values;
};

static void launch(const Gpu &gpu, int n, int from) {
    fill<<<(n + 255) / 256, 256, 0, gpu.stream>>>(gpu.values, n, from);
    CHECK(cudaGetLastError());
}

static void make(Gpu &gpu, int device) {
    gpu.device = device;
    CHECK(cudaSetDevice(device));
    CHECK(cudaStreamCreateWithFlags(&gpu.stream, cudaStreamNonBlocking));
    CHECK(cudaEventCreateWithFlags(&gpu.event, cudaEventDisableTiming));
    CHECK(cudaMalloc(&gpu.values, bytes));
    int own = 1000 * device;
    CHECK(cudaMemcpyToSymbol(offset, &own, sizeof own));
}

static void expect_values(const Gpu &gpu, int n, int from) {
    std::vector<int> values(n);
    CHECK(cudaMemcpy(values.data(), gpu.values, n * sizeof(int), cudaMemcpyDeviceToHost));
    for (int i = 0; i < n; i++) EXPECT(values[i] == from + i);
}

static void identities(int devices) {
    for (int device = 0; device < devices; device++) {
        char address[32];
        CHECK(cudaDeviceGetPCIBusId(address, sizeof address, device));
        int found = -1;
        CHECK(cudaDeviceGetByPCIBusId(&found, address));
        EXPECT(found == device);
        cudaDeviceProp own, before;
        CHECK(cudaGetDeviceProperties(&own, device));
        EXPECT(own.multiProcessorCount > 0);
        if (device == 0) continue;
        CHECK(cudaGetDeviceProperties(&before, device - 1));
        EXPECT(std::memcmp(&own.uuid, &before.uuid, sizeof own.uuid) != 0);
    }
    std::printf("identities\n");
}

// Everything is asked for, waited for and given back while the first GPU is current.
static void from_outside(std::vector<Gpu> &gpus) {
    for (Gpu &gpu : gpus) {
        CHECK(cudaSetDevice(gpu.device));
        launch(gpu, count, 5);
        CHECK(cudaEventRecord(gpu.event, gpu.stream));
    }
    CHECK(cudaSetDevice(0));
    for (Gpu &gpu : gpus) {
        CHECK(cudaEventSynchronize(gpu.event));
        CHECK(cudaEventQuery(gpu.event));
        CHECK(cudaStreamSynchronize(gpu.stream));
        CHECK(cudaStreamQuery(gpu.stream));
        cudaPointerAttributes known;
        CHECK(cudaPointerGetAttributes(&known, gpu.values + 7));
        EXPECT(known.type == cudaMemoryTypeDevice && known.device == gpu.device);
        expect_values(gpu, count, 5 + 1000 * gpu.device);
        int *more;
        CHECK(cudaSetDevice(gpu.device));
        CHECK(cudaMalloc(&more, 1000));
        CHECK(cudaSetDevice(0));
        CHECK(cudaMemset(more, 1, 1000));
        CHECK(cudaFree(more));
    }
    std::printf("from outside\n");
}

static void clear(const Gpu &gpu) {
    CHECK(cudaSetDevice(gpu.device));
    CHECK(cudaMemset(gpu.values, 0, bytes));
    CHECK(cudaDeviceSynchronize()); // the streams here do not wait for the legacy one
}

static void copies(std::vector<Gpu> &gpus) {
    const Gpu &first = gpus.front();
    CHECK(cudaSetDevice(first.device));
    launch(first, count, 11);
    CHECK(cudaStreamSynchronize(first.stream));
    for (size_t i = 1; i < gpus.size(); i++) {
        const Gpu &from = gpus[i - 1], &to = gpus[i];
        clear(to);
        CHECK(cudaSetDevice(first.device));
        switch (i % 4) {
        case 0: CHECK(cudaMemcpy(to.values, from.values, bytes, cudaMemcpyDeviceToDevice)); break;
        case 1: CHECK(cudaMemcpyPeer(to.values, to.device, from.values, from.device, bytes)); break;
        case 2: CHECK(cudaMemcpy(to.values, from.values, bytes, cudaMemcpyDefault)); break;
        case 3:
            CHECK(cudaMemcpyPeerAsync(to.values, to.device, from.values, from.device, bytes, from.stream));
            CHECK(cudaStreamSynchronize(from.stream));
            break;
        }
        expect_values(to, count, 11);
    }
    // In the order of a stream of the one that is copied to, and of the one that is copied from.
    const Gpu &last = gpus.back();
    for (const Gpu *of : {&last, &first}) {
        CHECK(cudaSetDevice(last.device));
        launch(last, count, 70);
        CHECK(cudaSetDevice(of->device));
        CHECK(cudaEventRecord(last.event, last.stream));
        CHECK(cudaStreamWaitEvent(of->stream, last.event, 0));
        CHECK(cudaMemcpyAsync(first.values, last.values, bytes, cudaMemcpyDefault, of->stream));
        CHECK(cudaStreamSynchronize(of->stream));
        expect_values(first, count, 70 + 1000 * last.device);
        clear(first);
    }
    std::printf("copies\n");
}

// A copy without a stream comes behind all that both sides have to do, whatever stream they do it in.
static void unsynchronised(std::vector<Gpu> &gpus) {
    for (size_t i = 0; i + 1 < gpus.size(); i++) {
        const Gpu &from = gpus[i + 1], &to = gpus[i];
        CHECK(cudaSetDevice(to.device));
        launch(to, count, 1);
        CHECK(cudaSetDevice(from.device));
        launch(from, count, 200);
        CHECK(cudaSetDevice(0));
        CHECK(cudaMemcpyPeer(to.values, to.device, from.values, from.device, bytes));
        expect_values(to, count, 200 + 1000 * from.device);
    }
    std::printf("unsynchronised\n");
}

static void peers(int devices) {
    for (int device = 0; device < devices; device++) {
        CHECK(cudaSetDevice(device));
        for (int peer = 0; peer < devices; peer++) {
            if (peer == device) continue;
            int can = -1;
            CHECK(cudaDeviceCanAccessPeer(&can, device, peer));
            cudaError_t enabled = cudaDeviceEnablePeerAccess(peer, 0);
            EXPECT(enabled == (can ? cudaSuccess : cudaErrorPeerAccessUnsupported));
            if (can) CHECK(cudaDeviceDisablePeerAccess(peer));
            (void)cudaGetLastError();
        }
    }
    std::printf("peers\n");
}

static void wait_for(void *flag) {
    while (!static_cast<std::atomic<bool> *>(flag)->load()) std::this_thread::yield();
}

static void events(std::vector<Gpu> &gpus) {
    for (size_t i = 0; i < gpus.size(); i++) {
        const Gpu &one = gpus[i], &other = gpus[(i + 1) % gpus.size()];
        if (one.device == other.device) break;
        std::atomic<bool> first{false}, second{false};
        CHECK(cudaSetDevice(one.device));
        CHECK(cudaLaunchHostFunc(one.stream, wait_for, &first));
        CHECK(cudaEventRecord(one.event, one.stream));
        CHECK(cudaSetDevice(other.device));
        CHECK(cudaStreamWaitEvent(other.stream, one.event, 0));
        CHECK(cudaEventRecord(other.event, other.stream));
        for (int look = 0; look < 20; look++) {
            EXPECT(cudaEventQuery(other.event) == cudaErrorNotReady);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        // Recorded again behind something that is not done: who waits already does not wait for that.
        CHECK(cudaSetDevice(one.device));
        CHECK(cudaLaunchHostFunc(one.stream, wait_for, &second));
        CHECK(cudaEventRecord(one.event, one.stream));
        first = true;
        CHECK(cudaEventSynchronize(other.event));
        EXPECT(cudaEventQuery(one.event) == cudaErrorNotReady);
        second = true;
        CHECK(cudaStreamSynchronize(one.stream));
    }
    std::printf("events\n");
}

// Who waits for what is done does not wait behind who waits for what is not.
static void gates(std::vector<Gpu> &gpus) {
    for (size_t i = 0; i < gpus.size(); i++) {
        const Gpu &here = gpus[i], &there = gpus[(i + 1) % gpus.size()];
        if (here.device == there.device) break;
        std::atomic<bool> gate{false};
        cudaStream_t beside_here, beside_there;
        cudaEvent_t soon;
        int *pinned;
        CHECK(cudaSetDevice(here.device));
        CHECK(cudaStreamCreateWithFlags(&beside_here, cudaStreamNonBlocking));
        CHECK(cudaMallocHost(&pinned, bytes));
        CHECK(cudaSetDevice(there.device));
        CHECK(cudaStreamCreateWithFlags(&beside_there, cudaStreamNonBlocking));
        CHECK(cudaEventCreateWithFlags(&soon, cudaEventDisableTiming));
        CHECK(cudaMemsetAsync(there.values, 0, bytes, there.stream));
        CHECK(cudaStreamSynchronize(there.stream));
        CHECK(cudaLaunchHostFunc(there.stream, wait_for, &gate));
        // Memory that was pinned for another GPU: what is behind the gate is queued, both ways.
        for (int k = 0; k < count; k++) pinned[k] = 1;
        CHECK(cudaMemcpyAsync(there.values, pinned, bytes, cudaMemcpyHostToDevice, there.stream));
        CHECK(cudaMemcpyAsync(pinned, there.values, bytes / 2, cudaMemcpyDeviceToHost, there.stream));
        CHECK(cudaEventRecord(there.event, there.stream));
        fill<<<1, 32, 0, beside_there>>>(there.values + count - 32, 32, 0);
        CHECK(cudaGetLastError());
        CHECK(cudaEventRecord(soon, beside_there));
        CHECK(cudaSetDevice(here.device));
        CHECK(cudaStreamWaitEvent(here.stream, there.event, 0));
        CHECK(cudaEventRecord(here.event, here.stream));
        CHECK(cudaStreamWaitEvent(beside_here, soon, 0));
        CHECK(cudaStreamSynchronize(beside_here));
        EXPECT(cudaEventQuery(here.event) == cudaErrorNotReady);
        for (int k = 0; k < count; k++) pinned[k] = k; // read when the stream gets there
        gate = true;
        CHECK(cudaStreamSynchronize(here.stream));
        for (int k = 0; k < count; k++) EXPECT(pinned[k] == k);
        expect_values(there, count, 0);
        CHECK(cudaStreamDestroy(beside_here));
        CHECK(cudaStreamDestroy(beside_there));
        CHECK(cudaEventDestroy(soon));
        CHECK(cudaFreeHost(pinned));
    }
    std::printf("gates\n");
}

// Neighbours exchange values round by round: streams that compute wait for streams that copy, across GPUs, and the host for none.
static void exchange(std::vector<Gpu> &gpus) {
    constexpr int rounds = 30, n = 1000;
    if (gpus.size() < 2) {
        std::printf("exchange\n");
        return;
    }
    struct Side {
        cudaStream_t copies;
        cudaEvent_t computed, copied;
        int *inbox, *outbox;
    };
    std::vector<Side> sides(gpus.size());
    for (size_t i = 0; i < gpus.size(); i++) {
        Side &side = sides[i];
        CHECK(cudaSetDevice(gpus[i].device));
        CHECK(cudaStreamCreateWithFlags(&side.copies, cudaStreamNonBlocking));
        CHECK(cudaEventCreateWithFlags(&side.computed, cudaEventDisableTiming));
        CHECK(cudaEventCreateWithFlags(&side.copied, cudaEventDisableTiming));
        CHECK(cudaMallocHost(&side.outbox, n * sizeof(int)));
        CHECK(cudaMalloc(&side.inbox, n * sizeof(int)));
    }
    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < gpus.size(); i++) {
            CHECK(cudaSetDevice(gpus[i].device));
            // What the neighbour has not fetched must stay.
            CHECK(cudaStreamWaitEvent(gpus[i].stream, sides[(i + 1) % gpus.size()].copied, 0));
            launch(gpus[i], n, round);
            CHECK(cudaMemcpyAsync(sides[i].outbox, gpus[i].values, n * sizeof(int), cudaMemcpyDeviceToHost, gpus[i].stream));
            CHECK(cudaEventRecord(sides[i].computed, gpus[i].stream));
        }
        for (size_t i = 0; i < gpus.size(); i++) {
            const size_t before = (i + gpus.size() - 1) % gpus.size();
            CHECK(cudaSetDevice(gpus[i].device));
            CHECK(cudaStreamWaitEvent(sides[i].copies, sides[before].computed, 0));
            CHECK(cudaMemcpyAsync(sides[i].inbox, sides[before].outbox, n * sizeof(int), cudaMemcpyHostToDevice, sides[i].copies));
            CHECK(cudaEventRecord(sides[i].copied, sides[i].copies));
        }
    }
    for (size_t i = 0; i < gpus.size(); i++) {
        const size_t before = (i + gpus.size() - 1) % gpus.size();
        CHECK(cudaSetDevice(gpus[i].device));
        CHECK(cudaStreamSynchronize(sides[i].copies));
        std::vector<int> values(n);
        CHECK(cudaMemcpy(values.data(), sides[i].inbox, n * sizeof(int), cudaMemcpyDeviceToHost));
        for (int k = 0; k < n; k++) EXPECT(values[k] == rounds - 1 + 1000 * gpus[before].device + k);
    }
    CHECK(cudaSetDevice(0));
    for (Side &side : sides) {
        CHECK(cudaStreamDestroy(side.copies));
        CHECK(cudaEventDestroy(side.computed));
        CHECK(cudaEventDestroy(side.copied));
        CHECK(cudaFreeHost(side.outbox));
        CHECK(cudaFree(side.inbox));
    }
    std::printf("exchange\n");
}

static void graphs(std::vector<Gpu> &gpus) {
    std::vector<cudaGraphExec_t> ready;
    for (Gpu &gpu : gpus) {
        CHECK(cudaSetDevice(gpu.device));
        cudaGraph_t graph;
        CHECK(cudaStreamBeginCapture(gpu.stream, cudaStreamCaptureModeThreadLocal));
        CHECK(cudaMemsetAsync(gpu.values, 0, bytes, gpu.stream));
        launch(gpu, 1000, 3);
        CHECK(cudaStreamEndCapture(gpu.stream, &graph));
        // Made executable, like everything else here, while another GPU is current.
        CHECK(cudaSetDevice(0));
        cudaGraphExec_t made;
        CHECK(cudaGraphInstantiate(&made, graph, 0));
        CHECK(cudaGraphDestroy(graph));
        ready.push_back(made);
    }
    for (size_t i = 0; i < gpus.size(); i++) {
        CHECK(cudaSetDevice(gpus[i].device));
        for (int again = 0; again < 3; again++) CHECK(cudaGraphLaunch(ready[i], gpus[i].stream));
    }
    CHECK(cudaSetDevice(0));
    for (size_t i = 0; i < gpus.size(); i++) {
        CHECK(cudaStreamSynchronize(gpus[i].stream));
        expect_values(gpus[i], 1000, 3 + 1000 * gpus[i].device);
        CHECK(cudaGraphExecDestroy(ready[i]));
    }
    std::printf("graphs\n");
}

static void work(int device) {
    CHECK(cudaSetDevice(device));
    Gpu gpu{device, nullptr, nullptr, nullptr};
    CHECK(cudaStreamCreateWithFlags(&gpu.stream, cudaStreamNonBlocking));
    for (int round = 0; round < 30; round++) {
        const int n = 1000 + 100 * round;
        CHECK(cudaMallocAsync(&gpu.values, n * sizeof(int), gpu.stream));
        launch(gpu, n, round);
        CHECK(cudaStreamSynchronize(gpu.stream));
        expect_values(gpu, n, round + 1000 * device);
        CHECK(cudaFreeAsync(gpu.values, gpu.stream));
    }
    size_t free_bytes, total;
    CHECK(cudaMemGetInfo(&free_bytes, &total));
    EXPECT(free_bytes <= total);
    CHECK(cudaStreamDestroy(gpu.stream));
}

int main() {
    int devices = 0;
    CHECK(cudaGetDeviceCount(&devices));
    identities(devices);
    std::vector<Gpu> gpus(devices);
    for (int device = 0; device < devices; device++) make(gpus[device], device);
    from_outside(gpus);
    copies(gpus);
    unsynchronised(gpus);
    peers(devices);
    events(gpus);
    gates(gpus);
    exchange(gpus);
    graphs(gpus);
    std::vector<std::thread> threads;
    for (int device = 0; device < devices; device++) threads.emplace_back(work, device);
    for (std::thread &thread : threads) thread.join();
    std::printf("threads\n");

    CHECK(cudaSetDevice(0));
    for (Gpu &gpu : gpus) {
        CHECK(cudaStreamDestroy(gpu.stream));
        CHECK(cudaEventDestroy(gpu.event));
        CHECK(cudaFree(gpu.values));
    }
    CHECK(cudaDeviceSynchronize());
    std::printf("PASSED\n");
    return 0;
}
