// What the programs of tests/e2e/guest.test.ts share: work that verifies itself, and a look at the own process.
#pragma once

#include "../../examples/expect.h"

#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

__global__ void addOne(int *values, int count) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count) values[index] += 1;
}

__global__ void untilSet(const volatile int *flag) {
    while (*flag == 0) {
    }
}

__global__ void spin(long long cycles) {
    long long begin = clock64();
    while (clock64() - begin < cycles) {
    }
}

// A copy there, a kernel, a copy back: all numbers must be right.
inline void work(cudaStream_t stream = nullptr) {
    constexpr int count = 1000;
    std::vector<int> values(count);
    for (int i = 0; i < count; i++) values[i] = i;
    int *device;
    CHECK(cudaMalloc(&device, count * sizeof(int)));
    CHECK(cudaMemcpyAsync(device, values.data(), count * sizeof(int), cudaMemcpyHostToDevice, stream));
    addOne<<<(count + 127) / 128, 128, 0, stream>>>(device, count);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpyAsync(values.data(), device, count * sizeof(int), cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    CHECK(cudaFree(device));
    for (int i = 0; i < count; i++) EXPECT(values[i] == i + 1);
}

inline std::vector<int> numbersIn(const char *folder) {
    std::vector<int> numbers;
    DIR *directory = opendir(folder);
    EXPECT(directory != nullptr);
    int own = std::strstr(folder, "/fd") != nullptr ? dirfd(directory) : -1;
    while (dirent *entry = readdir(directory)) {
        if (entry->d_name[0] == '.') continue;
        int number = std::atoi(entry->d_name);
        if (number != own) numbers.push_back(number);
    }
    closedir(directory);
    return numbers;
}

inline std::vector<int> openDescriptors() { return numbersIn("/proc/self/fd"); }
inline std::vector<int> ownThreads() { return numbersIn("/proc/self/task"); }

inline bool isSocket(int descriptor) {
    struct stat status;
    return fstat(descriptor, &status) == 0 && S_ISSOCK(status.st_mode);
}

// A field of a file like /proc/self/status; empty when it is not there.
inline std::string field(const std::string &file, const char *name) {
    FILE *stream = std::fopen(file.c_str(), "r");
    if (stream == nullptr) return "";
    char line[512];
    std::string value;
    while (std::fgets(line, sizeof line, stream) != nullptr) {
        size_t length = std::strlen(name);
        if (std::strncmp(line, name, length) == 0 && line[length] == ':') {
            value = line + length + 1;
            value.erase(0, value.find_first_not_of(" \t"));
            value.erase(value.find_last_not_of(" \n") + 1);
        }
    }
    std::fclose(stream);
    return value;
}

inline long residentKib() { return std::atol(field("/proc/self/status", "VmRSS").c_str()); }
