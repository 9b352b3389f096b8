// Programs that have children: made by fork, raw clone, vfork and exec, posix_spawn and system, before, during and
// after the start of CUDA.
#include "guest.h"

#include <csignal>
#include <cuda.h>
#include <dlfcn.h>
#include <functional>
#include <spawn.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>

extern char **environ;

struct DriverCalls {
    decltype(&cuInit) init;
    decltype(&cuDeviceGetCount) count;
    decltype(&cuCtxSynchronize) synchronize;
    CUresult (*alloc)(CUdeviceptr *, size_t);
};

static DriverCalls driverCalls() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    EXPECT(library != nullptr);
    return {reinterpret_cast<decltype(&cuInit)>(dlsym(library, "cuInit")),
            reinterpret_cast<decltype(&cuDeviceGetCount)>(dlsym(library, "cuDeviceGetCount")),
            reinterpret_cast<decltype(&cuCtxSynchronize)>(dlsym(library, "cuCtxSynchronize")),
            reinterpret_cast<decltype(DriverCalls::alloc)>(dlsym(library, "cuMemAlloc_v2"))};
}

static void expectGood(pid_t child) {
    EXPECT(child > 0);
    int status = -1;
    EXPECT(waitpid(child, &status, 0) == child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void inFork(const std::function<void()> &body) {
    std::fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(60); // a child that hangs is a failure too
        body();
        std::exit(0); // with all handlers
    }
    expectGood(child);
}

static void inClone(const std::function<void()> &body) {
    std::fflush(stdout);
    long child = syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr);
    if (child == 0) {
        body();
        std::_Exit(0);
    }
    expectGood(static_cast<pid_t>(child));
}

static void expectNothingWorks(const DriverCalls &driver) {
    int count = 0;
    CUdeviceptr memory = 0;
    EXPECT(driver.init(0) == CUDA_ERROR_NOT_INITIALIZED);
    EXPECT(driver.count(&count) == CUDA_ERROR_NOT_INITIALIZED);
    EXPECT(driver.alloc(&memory, 16) == CUDA_ERROR_NOT_INITIALIZED);
    EXPECT(driver.synchronize() == CUDA_ERROR_NOT_INITIALIZED);
    // Neither is there anything of the parent's to disturb, nor to keep alive.
    for (int number : openDescriptors()) EXPECT(number <= 2 || !isSocket(number));
}

// A kernel that waits for a flag, so that the parent is in the middle of something.
struct Pending {
    int *flag;
    cudaStream_t busy, other;
    Pending() {
        CHECK(cudaMalloc(&flag, sizeof(int)));
        CHECK(cudaMemset(flag, 0, sizeof(int)));
        CHECK(cudaStreamCreateWithFlags(&busy, cudaStreamNonBlocking));
        CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
        untilSet<<<1, 1, 0, busy>>>(flag);
        CHECK(cudaGetLastError());
    }
    ~Pending() {
        CHECK(cudaMemsetAsync(flag, 1, sizeof(int), other));
        CHECK(cudaStreamSynchronize(busy));
    }
};

static void forks() {
    inFork([] { work(); }); // before the start: the child is a client of its own
    DriverCalls driver = driverCalls();
    work();
    {
        Pending pending;
        for (int round = 0; round < 5; round++) inFork([&] { expectNothingWorks(driver); });
        inFork([&] { inFork([&] { expectNothingWorks(driver); }); });
    }
    work();
    std::thread([&] { inFork([&] { expectNothingWorks(driver); }); }).join();
    work();
}

static void clones() {
    DriverCalls driver = driverCalls();
    inClone([] {});
    work();
    Pending pending;
    for (int round = 0; round < 5; round++) inClone([&] { expectNothingWorks(driver); });
}

static void runs(const char *self) {
    work();
    int *memory;
    CHECK(cudaMalloc(&memory, 4));
    Pending pending;
    for (int round = 0; round < 5; round++) {
        pid_t child = vfork();
        if (child == 0) {
            execl(self, self, "sockets", nullptr);
            _exit(9);
        }
        expectGood(child);
        char *const words[] = {const_cast<char *>(self), const_cast<char *>("work"), nullptr};
        EXPECT(posix_spawn(&child, self, nullptr, nullptr, words, environ) == 0);
        expectGood(child);
        EXPECT(std::system("exit 3") == 3 << 8);
        FILE *pipe = popen("echo heard", "r");
        char line[16] = "";
        EXPECT(pipe != nullptr && std::fgets(line, sizeof line, pipe) != nullptr && std::string(line) == "heard\n");
        EXPECT(pclose(pipe) == 0);
        CHECK(cudaMemsetAsync(memory, round, 4, pending.other));
        int value = -1;
        CHECK(cudaMemcpyAsync(&value, memory, 4, cudaMemcpyDeviceToHost, pending.other));
        CHECK(cudaStreamSynchronize(pending.other));
        EXPECT(value == round * 0x01010101);
    }
}

// A child made while another thread is in the middle of cuInit answers something, and does not hang.
static void race() {
    for (int round = 0; round < 12; round++) {
        inFork([&] {
            DriverCalls driver = driverCalls();
            std::thread starting([&] { EXPECT(driver.init(0) == CUDA_SUCCESS); });
            usleep(round * 700);
            for (int more = 0; more < 4; more++) {
                inFork([&] {
                    CUresult result = driver.init(0);
                    EXPECT(result == CUDA_ERROR_NOT_INITIALIZED || result == CUDA_SUCCESS);
                    int count = 0;
                    EXPECT(driver.count(&count) == result);
                    std::_Exit(0);
                });
                usleep(500);
            }
            starting.join();
            work();
        });
    }
}

// A process that dies with a child that lives on; the grandparent waits for the word to end.
static void orphan() {
    int ends[2];
    EXPECT(pipe(ends) == 0);
    pid_t client = fork();
    if (client == 0) {
        work();
        Pending pending;
        pid_t heir = fork();
        if (heir == 0) {
            close(ends[1]);
            char byte;
            (void)!read(ends[0], &byte, 1); // until the grandparent ends
            _exit(0);
        }
        std::printf("client %d heir %d\n", getpid(), heir);
        std::fflush(stdout);
        for (;;) pause();
    }
    int status = 0;
    EXPECT(waitpid(client, &status, 0) == client && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    std::printf("the client is dead\n");
    std::fflush(stdout);
    for (;;) pause();
}

int main(int, char **argv) {
    std::string mode = argv[1];
    if (mode == "sockets") {
        for (int number : openDescriptors()) EXPECT(number <= 2 || !isSocket(number));
        return 0;
    }
    if (mode == "work") {
        work();
        return 0;
    }
    if (mode == "forks") forks();
    if (mode == "clones") clones();
    if (mode == "runs") runs(argv[0]);
    if (mode == "race") race();
    if (mode == "orphan") orphan();
    std::printf("PASSED\n");
    return 0;
}
