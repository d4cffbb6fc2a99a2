//! Calls through function pointers that are stored in memory, returned, and swapped while running.
#include "guest.h"

typedef int (*op)(int, int);
static int add(int a, int b) { work(2); return a + b; }
static int sub(int a, int b) { work(1); return a - b; }
static int mul(int a, int b) { return a * b; }
static int apply(op f, int a, int b) { return f(a, b); }
static op ops[] = {add, sub, mul};
static double halve(double x) { work(2); return x / 2; }
static double third(double x) { return x / 3; }
typedef double (*real)(double);
static NOINLINE op pick(unsigned n) { return ops[n % 3]; }

int main(void) {
    int acc = 1;
    double x = 1e6;
    real reals[2] = {halve, third};
    for (int i = 0; i < 60; i++) {
        op f = pick(rng());
        acc = apply(f, acc, i + 1);
        if (i % 7 == 0) { op t = ops[0]; ops[0] = ops[2]; ops[2] = t; }
        x = reals[i & 1](x) + acc % 100;
    }
    printf("%d %.10f\n", acc, x);
}
