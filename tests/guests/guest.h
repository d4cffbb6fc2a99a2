// What the guests share: where their directory is, a pseudo-random sequence, a checksum, and work that passes migration points.
#ifndef GUEST_H
#define GUEST_H
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef DATA
#define DATA "/data"
#endif
#define NOINLINE __attribute__((noinline))

// Verified by the guest itself: a wrong state ends it with code 70.
#define CHECK(cond)                                                                                                                \
    do {                                                                                                                           \
        if (!(cond)) {                                                                                                             \
            printf("line %d: not true: %s\n", __LINE__, #cond);                                                                    \
            exit(70);                                                                                                              \
        }                                                                                                                          \
    } while (0)

static uint32_t rng_state = 12345;
static inline uint32_t rng(void) {
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 17;
    rng_state ^= rng_state << 5;
    return rng_state;
}

static inline uint64_t mix(uint64_t h, uint64_t v) { return (h ^ v) * 0x9E3779B97F4A7C15ull + (h >> 29); }

// A few migration points that nothing optimises away.
static volatile uint32_t work_sink;
__attribute__((unused)) static NOINLINE void work(int n) {
    for (int i = 0; i < n; i++) work_sink = work_sink * 3 + (uint32_t)i;
}
#endif
