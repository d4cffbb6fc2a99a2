//! Locals of all four types, live across calls and around loops.
#include "guest.h"

static NOINLINE void step(void) { work(1); }

int main(void) {
    uint32_t i = 7;
    uint64_t l = 0x123456789abcdefull;
    float f = 1.25f;
    double d = 3.5;
    for (int n = 0; n < 40; n++) {
        uint32_t i2 = i * 3 + 1;
        uint64_t l2 = l << 1 | l >> 63;
        float f2 = f * 1.125f - 1;
        double d2 = d / 1.0625 + 2;
        step();
        i ^= i2;
        step();
        l += l2;
        f = f2 > 1000 ? 1 : f2;
        step();
        d = d2 + f;
    }
    printf("%08x %016" PRIx64 " %a %a\n", i, l, (double)f, d);
}
