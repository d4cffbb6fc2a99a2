//! The program's own exit code, from deep inside, after output was buffered.
//! exit: 42
#include "guest.h"

static NOINLINE void leave(int depth) {
    work(2);
    if (depth == 0) exit(42);
    leave(depth - 1);
    work(1);
}
int main(void) {
    printf("going\n");
    leave(20);
}
