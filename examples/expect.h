// What a self-checking example does with a wrong result: say what was expected, and end with exit code 1.
#pragma once

#include "check.h"

inline void expect(bool holds, const char *what, int line) {
    if (holds) return;
    std::printf("line %d: expected %s\nFAILED\n", line, what);
    std::fflush(stdout);
    std::_Exit(1); // other threads may still be at work
}

#define EXPECT(condition) expect((condition), #condition, __LINE__)
