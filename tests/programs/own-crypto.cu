// A program with a libcrypto of its own, linked and in the global scope: the shim must neither take it nor hide it.
#include "guest.h"

#include <dlfcn.h>

extern "C" unsigned char *SHA256(const unsigned char *data, size_t length, unsigned char *digest);

static void expectDigest(decltype(&SHA256) digestOf) {
    unsigned char digest[32];
    digestOf(reinterpret_cast<const unsigned char *>("abc"), 3, digest);
    EXPECT(digest[0] == 0xba && digest[1] == 0x78 && digest[31] == 0xad);
}

int main() {
    expectDigest(SHA256);
    work();
    expectDigest(SHA256);
    void *library = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_GLOBAL);
    EXPECT(library != nullptr);
    expectDigest(reinterpret_cast<decltype(&SHA256)>(dlsym(library, "SHA256")));
    EXPECT(dlsym(RTLD_DEFAULT, "SHA256") == dlsym(library, "SHA256"));
    work();
    std::printf("PASSED\n");
    return 0;
}
