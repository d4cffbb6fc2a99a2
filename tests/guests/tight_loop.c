//! A tight loop without calls: only its polls can stop it.
#include "guest.h"

int main(void) {
    uint32_t a = 1, b = 2;
    uint64_t c = 3;
    for (volatile int i = 0; i < 3000; i++) {
        a = a * 1664525 + 1013904223;
        b ^= a >> 7;
        c += (uint64_t)a * b;
    }
    printf("%08x %08x %016" PRIx64 "\n", a, b, c);
}
