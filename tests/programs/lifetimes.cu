// Programs that end in other ways than by returning, or whose network does.
// usage: lifetimes fork             a child lives on and keeps what it inherited
//        lifetimes exec PROGRAM     becomes another program when a line is read
//        lifetimes outage [polls]   computes, and after each line that is read once more, timing the first call; or copies
//                                   without waiting and asks an event until it is over
#include "../../examples/expect.h"

#include <chrono>
#include <cstring>
#include <unistd.h>

__global__ void count(unsigned *counter) { *counter += 1; }

static constexpr size_t held = 64 << 20;

static void say(const char *word, long number) {
    std::printf("%s %ld\n", word, number);
    std::fflush(stdout);
}

static bool waitForLine() {
    char line[64];
    return std::fgets(line, sizeof line, stdin) != nullptr;
}

static int livesOnInAChild() {
    pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
        alarm(100); // whoever forgot it finds it gone
        for (;;) pause();
    }
    say("child", child);
    alarm(100);
    for (;;) pause();
}

/** Copies the counter, and the memory behind it, without ever waiting in a call. */
static cudaError_t poll(const unsigned *counter, unsigned *counted) {
    static constexpr size_t much = 1 << 20;
    static unsigned *pinned = nullptr;
    static cudaEvent_t event = nullptr;
    if (pinned == nullptr) {
        CHECK(cudaMallocHost(&pinned, much));
        CHECK(cudaEventCreate(&event));
    }
    cudaError_t result = cudaMemcpyAsync(pinned, counter, much, cudaMemcpyDeviceToHost, nullptr);
    if (result == cudaSuccess) result = cudaEventRecord(event, nullptr);
    if (result == cudaSuccess) {
        while ((result = cudaEventQuery(event)) == cudaErrorNotReady) {
        }
    }
    *counted = *pinned;
    return result;
}

static int outage(unsigned *counter, bool polls) {
    for (unsigned round = 1;; round++) {
        auto start = std::chrono::steady_clock::now();
        count<<<1, 1>>>(counter);
        unsigned counted = 0;
        cudaError_t result = polls ? poll(counter, &counted)
                                   : cudaMemcpy(&counted, counter, sizeof counted, cudaMemcpyDeviceToHost);
        std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
        if (result == cudaSuccess) {
            EXPECT(counted == round);
        } else {
            std::printf("failed with %s after %.3f s\n", cudaGetErrorName(result), time.count());
            EXPECT(time.count() < 5);
            // For good: every call, at once.
            EXPECT(cudaDeviceSynchronize() == result);
            EXPECT(cudaMemset(counter, 0, sizeof counted) == result);
            std::printf("PASSED\n");
            return 0;
        }
        say("round", round);
        if (!waitForLine()) break;
    }
    std::printf("PASSED\n");
    return 0;
}

int main(int argumentCount, char **arguments) {
    EXPECT(argumentCount > 1);
    unsigned *counter = nullptr;
    CHECK(cudaMalloc(&counter, held));
    CHECK(cudaMemset(counter, 0, held));
    CHECK(cudaDeviceSynchronize());
    if (std::strcmp(arguments[1], "outage") == 0) return outage(counter, argumentCount > 2);
    say("holding", getpid());
    if (std::strcmp(arguments[1], "fork") == 0) return livesOnInAChild();
    EXPECT(std::strcmp(arguments[1], "exec") == 0 && argumentCount > 2);
    EXPECT(waitForLine());
    execv(arguments[2], arguments + 2);
    EXPECT(!"execv returned");
}
