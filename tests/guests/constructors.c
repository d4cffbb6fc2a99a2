//! Constructors before main and handlers after it.
#include "guest.h"

static int order[4], n;
__attribute__((constructor(101))) static void first(void) { work(5); order[n++] = 1; }
__attribute__((constructor(102))) static void second(void) { work(5); order[n++] = 2; }
static void last(void) { work(5); printf("last %d\n", n); }
static void before_last(void) { work(3); printf("before last\n"); }

int main(void) {
    atexit(last);
    atexit(before_last);
    printf("%d %d %d\n", n, order[0], order[1]);
    n = 7;
}
