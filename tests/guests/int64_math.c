//! Division, remainder, shifts, rotations and bit counting on 64 bits, with values kept across calls.
#include "guest.h"

static NOINLINE uint64_t next(void) { return (uint64_t)rng() << 32 | rng(); }

int main(void) {
    uint64_t h = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t a = next(), b = next() >> (i % 60) | 1;
        int64_t sa = (int64_t)a, sb = (int64_t)b;
        work(1);
        h = mix(h, a / b);
        h = mix(h, a % b);
        h = mix(h, (uint64_t)(sb == -1 ? sa : sa / sb));
        h = mix(h, (uint64_t)(sa >> (i % 64)));
        work(1);
        h = mix(h, (uint64_t)__builtin_clzll(b) << 20 | (uint64_t)__builtin_ctzll(b) << 10 | (uint64_t)__builtin_popcountll(a));
        h = mix(h, a << (i % 64) | a >> (63 - i % 64));
        h = mix(h, (uint64_t)(int64_t)(int8_t)a ^ (uint64_t)(int64_t)(int16_t)b ^ (uint64_t)(int64_t)(int32_t)(a ^ b));
    }
    printf("%016" PRIx64 "\n", h);
}
