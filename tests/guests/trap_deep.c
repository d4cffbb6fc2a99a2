//! A trap after moves still knows where it happened (the backtrace is looked at by another test).
//! exit: 134
//! not-native
//! stdout: about to divide
#include "guest.h"

static volatile int zero;
static NOINLINE int divide(int a) { work(2); return a / zero; }
static NOINLINE int middle(int a) { work(2); return divide(a + 1) + 1; }
static NOINLINE int outer(int a) { work(2); return middle(a + 1) * 2; }
int main(void) {
    printf("about to divide\n");
    fflush(stdout);
    printf("%d\n", outer(5));
}
