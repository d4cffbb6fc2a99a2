//! Clocks: the monotonic one never goes back, the wall clock is this century's.
#include "guest.h"
#include <time.h>

int main(void) {
    struct timespec last = {0, 0}, t;
    for (int i = 0; i < 50; i++) {
        CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
        CHECK(t.tv_sec > last.tv_sec || (t.tv_sec == last.tv_sec && t.tv_nsec >= last.tv_nsec));
        last = t;
        CHECK(clock_gettime(CLOCK_REALTIME, &t) == 0);
        CHECK(t.tv_sec > 1700000000);
        work(1);
    }
    CHECK(clock_getres(CLOCK_MONOTONIC, &t) == 0 && t.tv_sec == 0);
    printf("fine\n");
}
