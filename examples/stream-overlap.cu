// Copies in, kernels and copies out overlap in four streams, tied together by events.
//
// A remote GPU could get wrong here: the order inside a stream, a wait for an event of another stream, the
// implicit order between the legacy default stream and blocking streams, pinned memory read or written at the
// wrong time, and the time between two events.
#include "expect.h"

constexpr int streams = 4;
constexpr int rounds = 6;
constexpr int count = 20000;

__global__ void scale(const int *in, int *out, int n, int factor) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = in[i] * factor + 1;
}

__global__ void accumulate(const int *values, long long *sums, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) sums[i] += values[i];
}

static int blocksFor(int n) { return (n + 255) / 256; }

// Each chunk goes through its own stream; the sums are made in one more stream that waits for all of them.
static void overlap() {
    int *in, *out; // pinned
    int *deviceIn, *deviceOut;
    long long *deviceSums;
    const size_t chunk = count * sizeof(int);
    CHECK(cudaMallocHost(&in, streams * chunk));
    CHECK(cudaMallocHost(&out, streams * chunk));
    CHECK(cudaMalloc(&deviceIn, streams * chunk));
    CHECK(cudaMalloc(&deviceOut, streams * chunk));
    CHECK(cudaMalloc(&deviceSums, count * sizeof(long long)));
    CHECK(cudaMemset(deviceSums, 0, count * sizeof(long long)));

    cudaStream_t workers[streams], summing;
    cudaEvent_t written[streams], summed, copied[streams];
    CHECK(cudaStreamCreateWithFlags(&summing, cudaStreamNonBlocking));
    CHECK(cudaEventCreateWithFlags(&summed, cudaEventDisableTiming));
    for (int s = 0; s < streams; s++) {
        CHECK(cudaStreamCreateWithFlags(&workers[s], cudaStreamNonBlocking));
        CHECK(cudaEventCreateWithFlags(&written[s], cudaEventDisableTiming));
        CHECK(cudaEventCreateWithFlags(&copied[s], cudaEventDisableTiming));
    }
    CHECK(cudaDeviceSynchronize()); // the memset above ran in another stream

    for (int round = 0; round < rounds; round++) {
        for (int s = 0; s < streams; s++) {
            int *mine = in + s * count;
            if (round > 0) CHECK(cudaEventSynchronize(copied[s])); // the copy that read `mine` is done
            for (int i = 0; i < count; i++) mine[i] = round * 1000 + s * 100 + i % 97;
            CHECK(cudaMemcpyAsync(deviceIn + s * count, mine, chunk, cudaMemcpyHostToDevice, workers[s]));
            CHECK(cudaStreamWaitEvent(workers[s], summed, 0)); // the last round's results were summed
            scale<<<blocksFor(count), 256, 0, workers[s]>>>(deviceIn + s * count, deviceOut + s * count, count, s + 2);
            CHECK(cudaGetLastError());
            CHECK(cudaEventRecord(written[s], workers[s]));
            CHECK(cudaMemcpyAsync(out + s * count, deviceOut + s * count, chunk, cudaMemcpyDeviceToHost, workers[s]));
            CHECK(cudaEventRecord(copied[s], workers[s]));
        }
        for (int s = 0; s < streams; s++) {
            CHECK(cudaStreamWaitEvent(summing, written[s], 0));
            accumulate<<<blocksFor(count), 256, 0, summing>>>(deviceOut + s * count, deviceSums, count);
            CHECK(cudaGetLastError());
        }
        CHECK(cudaEventRecord(summed, summing));
    }
    for (cudaStream_t worker : workers) CHECK(cudaStreamSynchronize(worker));

    long long *sums;
    CHECK(cudaMallocHost(&sums, count * sizeof(long long)));
    CHECK(cudaMemcpyAsync(sums, deviceSums, count * sizeof(long long), cudaMemcpyDeviceToHost, summing));
    CHECK(cudaStreamSynchronize(summing));
    long long total = 0;
    for (int i = 0; i < count; i++) {
        long long expected = 0;
        for (int s = 0; s < streams; s++) {
            int last = 0;
            for (int round = 0; round < rounds; round++) {
                last = (round * 1000 + s * 100 + i % 97) * (s + 2) + 1;
                expected += last;
            }
            EXPECT(out[s * count + i] == last);
        }
        EXPECT(sums[i] == expected);
        total += sums[i];
    }
    std::printf("%d streams, %d rounds: total %lld\n", streams, rounds, total);

    for (int s = 0; s < streams; s++) {
        CHECK(cudaStreamDestroy(workers[s]));
        CHECK(cudaEventDestroy(written[s]));
        CHECK(cudaEventDestroy(copied[s]));
    }
    CHECK(cudaStreamDestroy(summing));
    CHECK(cudaEventDestroy(summed));
    for (void *memory : {(void *)deviceIn, (void *)deviceOut, (void *)deviceSums}) CHECK(cudaFree(memory));
    for (void *memory : {(void *)in, (void *)out, (void *)sums}) CHECK(cudaFreeHost(memory));
}

// No events: a blocking stream and the legacy default stream wait for one another by themselves.
static void legacyOrder() {
    int *values;
    CHECK(cudaMalloc(&values, count * sizeof(int)));
    cudaStream_t first, second;
    CHECK(cudaStreamCreate(&first));
    CHECK(cudaStreamCreate(&second));
    CHECK(cudaMemset(values, 0, count * sizeof(int)));
    for (int round = 0; round < 20; round++) {
        scale<<<blocksFor(count), 256, 0, first>>>(values, values, count, 1);  // + 1
        scale<<<blocksFor(count), 256>>>(values, values, count, 2);            // × 2 + 1, in the legacy stream
        scale<<<blocksFor(count), 256, 0, second>>>(values, values, count, 1); // + 1
        scale<<<blocksFor(count), 256>>>(values, values, count, 1);            // + 1, in the legacy stream
        CHECK(cudaGetLastError());
    }
    int expected = 0;
    for (int round = 0; round < 20; round++) expected = (expected + 1) * 2 + 1 + 1 + 1;
    int *result = new int[count];
    CHECK(cudaMemcpy(result, values, count * sizeof(int), cudaMemcpyDeviceToHost));
    for (int i = 0; i < count; i++) EXPECT(result[i] == expected);
    std::printf("legacy default stream: %d\n", expected);
    delete[] result;
    CHECK(cudaStreamDestroy(first));
    CHECK(cudaStreamDestroy(second));
    CHECK(cudaFree(values));
}

static void timing() {
    cudaEvent_t start, middle, end;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&middle));
    CHECK(cudaEventCreate(&end));
    int *values;
    CHECK(cudaMalloc(&values, count * sizeof(int)));
    CHECK(cudaMemset(values, 0, count * sizeof(int)));
    CHECK(cudaEventRecord(start));
    scale<<<blocksFor(count), 256>>>(values, values, count, 1);
    CHECK(cudaEventRecord(middle));
    for (int i = 0; i < 5; i++) scale<<<blocksFor(count), 256>>>(values, values, count, 1);
    CHECK(cudaEventRecord(end));
    CHECK(cudaEventSynchronize(end));
    float half, whole;
    CHECK(cudaEventElapsedTime(&half, start, middle));
    CHECK(cudaEventElapsedTime(&whole, start, end));
    EXPECT(half > 0.0f && whole > half && whole < 60000.0f);
    std::printf("events: in order\n");
    for (cudaEvent_t event : {start, middle, end}) CHECK(cudaEventDestroy(event));
    CHECK(cudaFree(values));
}

int main() {
    overlap();
    legacyOrder();
    timing();
    std::printf("PASSED\n");
    return 0;
}
