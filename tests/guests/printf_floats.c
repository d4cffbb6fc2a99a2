//! Formatting of floats: long chains of exact arithmetic in the C library.
#include "guest.h"
#include <math.h>

int main(void) {
    double x[] = {0.1, 1e300, -2.5e-308, 123456789.123456789, 1.0 / 3, INFINITY, -0.0};
    for (unsigned i = 0; i < sizeof x / sizeof *x; i++) printf("%.3e %g %a\n", x[i], x[i], x[i]);
    printf("%.6f %.12f\n", sqrt(2), exp(1));
    char *end;
    printf("%.17g %.9g\n", strtod("2.2250738585072014e-308x", &end), strtod("0x1.8p3", NULL));
}
