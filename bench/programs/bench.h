// What the benchmark programs share: each kernel is run by name, timed by the program itself and printed as
// `NAME CHECKSUM NANOSECONDS`, so that start-up and output cost nothing.
#ifndef BENCH_H
#define BENCH_H
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct kernel { const char *name; uint64_t (*run)(int scale); int scale; };

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int bench_main(int argc, char **argv, const struct kernel *kernels, int count) {
    for (int i = 0; i < count; i++) {
        if (argc < 2) {
            printf("%s\n", kernels[i].name);
        } else if (strcmp(argv[1], kernels[i].name) == 0) {
            int scale = argc > 2 ? atoi(argv[2]) : kernels[i].scale;
            uint64_t start = now_ns();
            uint64_t sum = kernels[i].run(scale);
            uint64_t end = now_ns();
            printf("%s %016" PRIx64 " %" PRIu64 "\n", kernels[i].name, sum, end - start);
            return 0;
        }
    }
    return argc < 2 ? 0 : 2;
}
#define KERNELS(list) \
    int main(int argc, char **argv) { return bench_main(argc, argv, list, (int)(sizeof(list) / sizeof *(list))); }

static inline uint32_t xorshift(uint32_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 17;
    *s ^= *s << 5;
    return *s;
}
#endif
