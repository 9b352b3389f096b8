// A program with handlers, masks and timers of its own finds them as it left them, and signals reach its own threads.
#include "guest.h"

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <thread>

static const int handled[] = {SIGPIPE, SIGCHLD, SIGSEGV, SIGBUS, SIGFPE, SIGUSR1, SIGALRM, SIGTERM};
static std::atomic<int> counts[65];
static std::atomic<bool> onForeignThread{false};
static std::atomic<int> programThreads[8];
static sigjmp_buf afterFault;

static void handler(int signal, siginfo_t *, void *) {
    counts[signal]++;
    int self = static_cast<int>(syscall(SYS_gettid));
    bool known = false;
    for (auto &thread : programThreads) known = known || thread == self;
    if (!known) onForeignThread = true;
    if (signal == SIGSEGV) siglongjmp(afterFault, 1);
}

static struct sigaction before[65];
static sigset_t maskBefore;

static void install() {
    for (int signal : handled) {
        struct sigaction action = {};
        action.sa_sigaction = handler;
        // No SA_RESTART: whoever is interrupted must go on by itself.
        action.sa_flags = SA_SIGINFO | (signal == SIGCHLD ? SA_NOCLDSTOP : 0);
        sigaddset(&action.sa_mask, SIGUSR2);
        EXPECT(sigaction(signal, &action, nullptr) == 0);
    }
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigaddset(&blocked, SIGWINCH);
    EXPECT(pthread_sigmask(SIG_BLOCK, &blocked, nullptr) == 0);
    for (int signal = 1; signal < 65; signal++) sigaction(signal, nullptr, &before[signal]);
    pthread_sigmask(SIG_SETMASK, nullptr, &maskBefore);
}

static void expectUntouched() {
    for (int signal = 1; signal < 65; signal++) {
        struct sigaction now;
        if (sigaction(signal, nullptr, &now) != 0) continue;
        EXPECT(now.sa_sigaction == before[signal].sa_sigaction);
        // The C library notes its own way back there (SA_RESTORER) when it puts a handler back, as in system().
        EXPECT((now.sa_flags & ~0x04000000) == (before[signal].sa_flags & ~0x04000000));
        EXPECT(std::memcmp(&now.sa_mask, &before[signal].sa_mask, 8) == 0);
    }
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    EXPECT(std::memcmp(&mask, &maskBefore, 8) == 0);
}

// All but KILL, STOP and the two that the C library keeps for itself.
static void expectForeignThreadsBlockAll() {
    constexpr unsigned long long blockable = ~0ull & ~(1ull << (SIGKILL - 1)) & ~(1ull << (SIGSTOP - 1)) & ~(3ull << 31);
    int foreign = 0;
    for (int thread : ownThreads()) {
        bool known = false;
        for (auto &own : programThreads) known = known || own == thread;
        if (known) continue;
        std::string blocked = field("/proc/self/task/" + std::to_string(thread) + "/status", "SigBlk");
        if (blocked.empty()) continue;
        foreign++;
        EXPECT((std::stoull(blocked, nullptr, 16) & blockable) == blockable);
    }
    EXPECT(foreign > 0);
}

static void startTimer(int microseconds) {
    itimerval timer{{0, microseconds}, {0, microseconds}};
    EXPECT(setitimer(ITIMER_REAL, &timer, nullptr) == 0);
}

static void expectAllWork() {
    // Interrupted again and again, no call fails.
    startTimer(500);
    for (int round = 0; round < 20; round++) {
        spin<<<1, 1>>>(1000000);
        work();
        CHECK(cudaDeviceSynchronize());
        void *pinned;
        CHECK(cudaMallocHost(&pinned, 1 << 20));
        CHECK(cudaFreeHost(pinned));
    }
    startTimer(0);
    EXPECT(counts[SIGALRM] > 0);

    // Sent to the process, on a thread of the program's.
    for (int round = 0; round < 100; round++) EXPECT(kill(getpid(), SIGUSR1) == 0);
    EXPECT(counts[SIGUSR1] > 0);
    if (sigsetjmp(afterFault, 1) == 0) *static_cast<volatile int *>(nullptr) = 1;
    EXPECT(counts[SIGSEGV] == 1);
    int ends[2];
    EXPECT(pipe(ends) == 0 && close(ends[0]) == 0);
    EXPECT(write(ends[1], "x", 1) == -1 && counts[SIGPIPE] == 1);
    EXPECT(std::system("exit 0") == 0);
    EXPECT(!onForeignThread);
}

// The far end goes away: an error, and no signal.
static int untilLost() {
    int *memory;
    CHECK(cudaMalloc(&memory, 1 << 20));
    std::printf("working\n");
    std::fflush(stdout);
    cudaError_t error = cudaSuccess;
    while (error == cudaSuccess) {
        for (int round = 0; round < 1000 && error == cudaSuccess; round++) error = cudaMemsetAsync(memory, 1, 1 << 10);
        if (error == cudaSuccess) error = cudaDeviceSynchronize();
    }
    std::printf("%s\n", cudaGetErrorName(error));
    EXPECT(counts[SIGPIPE] == 0);
    expectUntouched();
    return 0;
}

static void atEnd() {
    expectUntouched();
    std::printf("untouched at exit\n");
}

int main(int argc, char **) {
    programThreads[0] = static_cast<int>(syscall(SYS_gettid));
    install();
    std::atexit(atEnd);
    CHECK(cudaFree(nullptr));
    expectUntouched();
    if (argc > 1) return untilLost();
    expectAllWork();
    CHECK(cudaLaunchHostFunc(nullptr, [](void *) {}, nullptr)); // starts the last of our threads
    CHECK(cudaDeviceSynchronize());
    expectForeignThreadsBlockAll();
    std::thread other([] {
        programThreads[1] = static_cast<int>(syscall(SYS_gettid));
        work();
        expectUntouched();
    });
    other.join();
    expectUntouched();
    CHECK(cudaDeviceReset());
    expectUntouched();
    std::printf("PASSED\n");
    return 0;
}
