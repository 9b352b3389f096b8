// What a program can conclude must agree with what queries answer, at once and without a second question.
//
// A remote GPU could get wrong here: queries are best answered without asking the server, but then everything that
// tells a program of an end must have told the queries before it: synchronisations, also of another stream that waited,
// copies to the host, and frees.
#include "expect.h"

#include <cuda.h>

constexpr int count = 4096;
constexpr int rounds = 50;

__global__ void add(int *values, int amount) { values[blockIdx.x * blockDim.x + threadIdx.x] += amount; }

template <typename Function> static Function entry(const char *name) {
    cudaDriverEntryPointQueryResult found;
    void *place = nullptr;
    CHECK(cudaGetDriverEntryPointByVersion(name, &place, 12050, cudaEnableDefault, &found));
    EXPECT(found == cudaDriverEntryPointSuccess);
    return reinterpret_cast<Function>(place);
}

static void work(int *values, cudaStream_t stream) {
    for (int i = 0; i < 5; i++) add<<<count / 256, 256, 0, stream>>>(values, 1);
    CHECK(cudaGetLastError());
}

int main() {
    int *values, *others, *pinned;
    CHECK(cudaMalloc(&values, count * sizeof(int)));
    CHECK(cudaMalloc(&others, count * sizeof(int)));
    CHECK(cudaMallocHost(&pinned, count * sizeof(int)));
    CHECK(cudaMemset(values, 0, count * sizeof(int)));
    CHECK(cudaMemset(others, 0, count * sizeof(int)));
    CHECK(cudaDeviceSynchronize());
    cudaStream_t first, second, blocking;
    CHECK(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
    CHECK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    CHECK(cudaStreamCreate(&blocking));
    cudaEvent_t event, later;
    CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    CHECK(cudaEventCreateWithFlags(&later, cudaEventDisableTiming));

    for (int round = 0; round < rounds; round++) {
        // The stream was synchronised with, and so were its events.
        work(values, first);
        CHECK(cudaEventRecord(event, first));
        CHECK(cudaStreamSynchronize(first));
        CHECK(cudaEventQuery(event));
        CHECK(cudaStreamQuery(first));

        // Another stream waited for it.
        work(values, first);
        CHECK(cudaEventRecord(event, first));
        CHECK(cudaStreamWaitEvent(second, event, 0));
        work(others, second);
        CHECK(cudaStreamSynchronize(second));
        CHECK(cudaEventQuery(event));
        CHECK(cudaStreamQuery(first));
        CHECK(cudaStreamQuery(second));

        // A later event of the same stream is reached.
        work(values, first);
        CHECK(cudaEventRecord(event, first));
        work(values, first);
        CHECK(cudaEventRecord(later, first));
        CHECK(cudaEventSynchronize(later));
        CHECK(cudaEventQuery(event));
        CHECK(cudaStreamQuery(first));

        // A copy to the host on the legacy stream waits for blocking streams.
        work(values, blocking);
        CHECK(cudaEventRecord(event, blocking));
        CHECK(cudaMemcpy(pinned, values, count * sizeof(int), cudaMemcpyDeviceToHost));
        CHECK(cudaEventQuery(event));
        CHECK(cudaStreamQuery(blocking));
        CHECK(cudaStreamQuery(0));

        // So does one from pinned memory.
        work(values, blocking);
        CHECK(cudaEventRecord(event, blocking));
        CHECK(cudaMemcpy(others, pinned, count * sizeof(int), cudaMemcpyHostToDevice));
        CHECK(cudaEventQuery(event));
        CHECK(cudaStreamQuery(blocking));

        // A free waits for everything.
        int *gone;
        CHECK(cudaMalloc(&gone, count * sizeof(int)));
        work(values, first);
        CHECK(cudaEventRecord(event, first));
        CHECK(cudaFree(gone));
        CHECK(cudaEventQuery(event));
        CHECK(cudaStreamQuery(first));
    }
    // Each round adds 7 times 5: the last copy has seen all but the last two.
    EXPECT(pinned[0] == 5 * (7 * rounds - 2) && pinned[count - 1] == pinned[0]);
    std::printf("%d rounds without a doubt\n", rounds);

    // Every stream of the context waits, also one that was never used.
    const auto waitEvent = entry<decltype(&::cuCtxWaitEvent)>("cuCtxWaitEvent");
    const auto getCurrent = entry<decltype(&::cuCtxGetCurrent)>("cuCtxGetCurrent");
    CUcontext context;
    EXPECT(getCurrent(&context) == CUDA_SUCCESS);
    cudaStream_t unused;
    CHECK(cudaStreamCreateWithFlags(&unused, cudaStreamNonBlocking));
    work(values, first);
    CHECK(cudaEventRecord(event, first));
    EXPECT(waitEvent(context, event) == CUDA_SUCCESS);
    cudaError_t answer;
    do answer = cudaStreamQuery(unused);
    while (answer == cudaErrorNotReady);
    CHECK(answer);
    CHECK(cudaEventQuery(event));
    std::printf("a stream that was never used waited\n");

    (void)cudaGetLastError();
    for (cudaStream_t stream : {first, second, blocking, unused}) CHECK(cudaStreamDestroy(stream));
    CHECK(cudaEventDestroy(event));
    CHECK(cudaEventDestroy(later));
    CHECK(cudaFree(values));
    CHECK(cudaFree(others));
    CHECK(cudaFreeHost(pinned));
    std::printf("PASSED\n");
    return 0;
}
