// Prints the wall clock at the first instruction of main, in nanoseconds.
#include <stdint.h>
#include <stdio.h>
#include <time.h>

int main(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    printf("%lld\n", (long long)t.tv_sec * 1000000000ll + t.tv_nsec);
}
