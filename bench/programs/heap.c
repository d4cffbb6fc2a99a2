// A program with a heap of the given number of MiB, of which it changes so many MiB a second, for so many steps of 10 ms: what
// `ci/bench --migrate` moves. A line of output for every 100 steps tells a checksum of what the steps have read and written;
// another one the longest time between two steps so far, in microseconds: how long the program stood still, as it saw it itself.
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PAGE 4096
#define STEP_US 10000

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int main(int argc, char **argv) {
    size_t size = (size_t)atoi(argc > 1 ? argv[1] : "1") << 20;
    size_t dirty = (size_t)atoi(argc > 2 ? argv[2] : "0") << 20;
    long steps = atol(argc > 3 ? argv[3] : "1000");
    int hurry = argc > 4; // without pauses: only the output is wanted
    uint64_t *heap = malloc(size), x = 88172645463325252u, sum = 0;
    if (!heap) return 1;
    size_t words = size / 8, pages = size / PAGE, per_step = dirty / PAGE / (1000000 / STEP_US);
    for (size_t i = 0; i < words; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        heap[i] = x;
    }
    printf("ready\n");
    fflush(stdout);
    int64_t due = now_us(), last = due, longest = 0;
    for (long step = 1; step <= steps; step++) {
        // Pages here and there, as a hash table's.
        for (size_t i = 0; i < per_step; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            uint64_t *word = &heap[x % pages * (PAGE / 8) + x % 512];
            sum = sum * 31 + *word;
            *word = sum;
        }
        if (step % 100 == 0) {
            printf("%ld %016" PRIx64 "\nlongest %" PRId64 "\n", step, sum, longest);
            fflush(stdout);
        }
        due += STEP_US;
        int64_t now = now_us();
        if (now - last > longest) longest = now - last;
        last = now;
        if (now > due) due = now;
        if (due > now && !hurry) {
            struct timespec t = {0, (due - now) * 1000};
            nanosleep(&t, 0);
        }
    }
    for (size_t i = 0; i < words; i++) sum = sum * 31 + heap[i];
    printf("heap %016" PRIx64 "\n", sum);
    return 0;
}
