// What every example does with an error: say which call failed, and end with exit code 1.
#pragma once

#include <cstdio>
#include <cstdlib>

#include <cuda_runtime.h>

inline void check(cudaError_t result, const char *call, int line) {
    if (result == cudaSuccess) return;
    std::fprintf(stderr, "line %d: %s: %s (%s)\n", line, call, cudaGetErrorName(result), cudaGetErrorString(result));
    std::exit(1);
}

#define CHECK(call) check((call), #call, __LINE__)
