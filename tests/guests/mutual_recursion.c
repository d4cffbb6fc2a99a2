//! Functions that call each other in cycles: Hofstadter's female and male sequences, and Ackermann's function.
#include "guest.h"

static int male(int n);
static NOINLINE int female(int n) { return n == 0 ? 1 : n - male(female(n - 1)); }
static NOINLINE int male(int n) { return n == 0 ? 0 : n - female(male(n - 1)); }
static NOINLINE int ackermann(int m, int n) {
    if (m == 0) return n + 1;
    return n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

int main(void) {
    for (int i = 0; i < 11; i++) printf("%d/%d ", female(i), male(i));
    printf("\n%d\n", ackermann(2, 6));
}
