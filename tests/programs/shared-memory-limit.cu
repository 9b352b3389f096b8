// Two processes share a GPU: one takes all memory, the other is refused; what the one frees the other gets, and back.
// The first process starts the second as `PROGRAM second`, which reads what to do from its stdin.
#include "../../examples/expect.h"

#include <cstring>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

__global__ void mark(unsigned *first, unsigned *last, unsigned value) {
    *first = value;
    *last = value;
}

static size_t bytes;
static std::vector<unsigned *> blocks;

static bool allocate() {
    unsigned *block = nullptr;
    const cudaError_t answer = cudaMalloc(&block, bytes);
    if (answer != cudaSuccess) {
        EXPECT(answer == cudaErrorMemoryAllocation);
        (void)cudaGetLastError();
        return false;
    }
    mark<<<1, 1>>>(block, block + bytes / sizeof(unsigned) - 1, static_cast<unsigned>(blocks.size()));
    CHECK(cudaGetLastError());
    blocks.push_back(block);
    return true;
}

static void release(size_t count) {
    for (; count > 0; count--) {
        CHECK(cudaFree(blocks.back()));
        blocks.pop_back();
    }
}

/// What was freed is everybody's when this is answered.
static void settle() {
    size_t free = 0, total = 0;
    CHECK(cudaMemGetInfo(&free, &total));
}

static void verify() {
    for (size_t i = 0; i < blocks.size(); i++) {
        unsigned value = 0;
        CHECK(cudaMemcpy(&value, blocks[i] + bytes / sizeof(unsigned) - 1, sizeof value, cudaMemcpyDeviceToHost));
        EXPECT(value == i);
    }
}

static void start() {
    size_t free = 0, total = 0;
    CHECK(cudaMemGetInfo(&free, &total));
    // More than anybody may keep for later.
    bytes = total / 12 / 4096 * 4096;
}

static int second() {
    start();
    for (int word = 0; (word = std::getchar()) != EOF;) {
        if (word == 'r') EXPECT(!allocate());
        if (word == 'a') EXPECT(allocate());
        if (word == 'f') {
            release(blocks.size());
            settle();
        }
        if (word == 'v') verify();
        if (word == '\n') {
            std::printf(".");
            std::fflush(stdout);
        }
    }
    return 0;
}

static int to[2], from[2];

static void tell(const char *what) {
    EXPECT(write(to[1], what, std::strlen(what)) == static_cast<ssize_t>(std::strlen(what)));
    char answer = 0;
    EXPECT(read(from[0], &answer, 1) == 1 && answer == '.');
}

int main(int count, char **arguments) {
    if (count > 1) return second();
    EXPECT(pipe(to) == 0 && pipe(from) == 0);
    const pid_t child = fork();
    if (child == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[1]);
        execl(arguments[0], arguments[0], "second", static_cast<char *>(nullptr));
        _exit(127);
    }
    tell("\n");
    start();
    for (int round = 0; round < 3; round++) {
        while (allocate()) {}
        EXPECT(blocks.size() >= 8);
        verify();
        tell("r\n");
        std::printf("round %d: one has all, the other is refused\n", round);
        release(blocks.size() / 2);
        settle();
        tell("aaav\n");
        verify();
        std::printf("round %d: the other has what was freed\n", round);
        tell("vf\n");
    }
    while (allocate()) {}
    EXPECT(blocks.size() >= 8);
    close(to[1]);
    int status = 0;
    EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    std::printf("PASSED\n");
    return 0;
}
