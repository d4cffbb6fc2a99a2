//! Sleeps: a move in the middle must not make them shorter.
#include "guest.h"
#include <time.h>

static int64_t now(void) {
    struct timespec t;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}
int main(void) {
    for (int i = 0; i < 5; i++) {
        int64_t start = now();
        struct timespec t = {0, 20000000};
        CHECK(nanosleep(&t, NULL) == 0);
        CHECK(now() - start >= 20000000);
        printf("slept\n");
    }
}
