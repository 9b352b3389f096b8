// A driver that a client has taken over: the simulated GPU's libcuda, but for the first launch of a kernel, at which it
// tries what an attacker would. How each attempt ends it writes to a file that it opened when it was loaded.
//
// FARPOOL_SIMGPU_HOSTILE_REPORT  that file
// FARPOOL_SIMGPU_HOSTILE_SECRET  a file that the user may read, and no worker
// FARPOOL_SIMGPU_STATE           a file in the pool's folder, where its manager's socket is: that trusts whoever opens it

#include <arpa/inet.h>
#include <cuda.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <mutex>
#include <string>

namespace {

int report = -1;

__attribute__((constructor)) void open_report() {
    const char *path = getenv("FARPOOL_SIMGPU_HOSTILE_REPORT");
    if (path != nullptr) report = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

void tell(const char *attempt, bool done) {
    int error = errno;
    dprintf(report, "%s: %s\n", attempt, done ? "done" : strerror(error));
}

const char *variable(const char *name) {
    const char *value = getenv(name);
    return value == nullptr ? "" : value;
}

bool connects(int family, const sockaddr *address, socklen_t length) {
    int socket_ = socket(family, SOCK_STREAM, 0);
    bool done = socket_ >= 0 && connect(socket_, address, length) == 0;
    int error = errno;
    if (socket_ >= 0) close(socket_);
    errno = error;
    return done;
}

bool executes(const char *program) {
    char *words[] = {const_cast<char *>(program), nullptr};
    char *none[] = {nullptr};
    pid_t pid = 0;
    errno = posix_spawn(&pid, program, nullptr, nullptr, words, none);
    if (errno != 0) return false;
    waitpid(pid, nullptr, 0);
    return true;
}

void attack() {
    const char *secret = variable("FARPOOL_SIMGPU_HOSTILE_SECRET");
    tell("read a secret", open(secret, O_RDONLY) >= 0);
    tell("write a secret", open(secret, O_WRONLY | O_APPEND) >= 0);
    tell("change a mode", chmod(secret, 0644) == 0);
    char memory[64];
    snprintf(memory, sizeof memory, "/proc/%d/environ", getppid());
    tell("read the parent's environment", open(memory, O_RDONLY) >= 0);
    tell("execute", executes("/bin/true"));
    pid_t child = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    if (child == 0) _exit(0);
    tell("fork", child > 0);
    if (child > 0) waitpid(child, nullptr, 0);
    sockaddr_un local = {};
    local.sun_family = AF_UNIX;
    std::string state = variable("FARPOOL_SIMGPU_STATE");
    std::string manager = state.substr(0, state.rfind('/')) + "/run/manager.sock";
    strncpy(local.sun_path, manager.c_str(), sizeof local.sun_path - 1);
    tell("connect to the manager", connects(AF_UNIX, reinterpret_cast<sockaddr *>(&local), sizeof local));
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    tell("listen", listener >= 0 && listen(listener, 1) == 0);
    // URG is ignored by whoever does not want it.
    tell("signal the parent", kill(getppid(), SIGURG) == 0);
    // Last, because it is deadly. Of nothing, nothing is read.
    tell("read the parent's memory", process_vm_readv(getppid(), nullptr, 0, nullptr, 0, 0) == 0);
}

}  // namespace

extern "C" CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                                   unsigned int block_x, unsigned int block_y, unsigned int block_z,
                                   unsigned int shared_bytes, CUstream stream, void **parameters, void **extra) {
    static std::once_flag once;
    std::call_once(once, attack);
    static auto launch = reinterpret_cast<decltype(&cuLaunchKernel)>(dlsym(RTLD_NEXT, "cuLaunchKernel"));
    return launch(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, parameters, extra);
}
