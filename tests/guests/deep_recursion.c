//! A deep native stack: every frame holds values of all four types that it needs again after its callee returned.
#include "guest.h"

static NOINLINE uint64_t down(int depth, uint32_t a, uint64_t b, float f, double d) {
    if (depth == 0) return mix(a, b);
    uint64_t r = down(depth - 1, a * 7 + 1, b ^ (uint64_t)depth << 20, f + 0.5f, d * 1.0001);
    return mix(r, a) ^ b ^ (uint64_t)(f * 8) ^ (uint64_t)(d * 1000);
}

int main(void) {
    printf("%016" PRIx64 "\n", down(400, 1, 2, 3, 4));
    printf("%016" PRIx64 "\n", down(90, 5, 6, 7, 8));
}
