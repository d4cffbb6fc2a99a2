//! More parameters than registers, of mixed types, in a recursion: stack arguments must survive.
#include "guest.h"

static NOINLINE double f(int n, int a, int64_t b, float c, double d, int e, int64_t g, float h, double i, int j, int64_t k, float l,
                         double m, int o, int64_t p, float q, double r, int s, int64_t t, float u, double v, double w, double x,
                         double y, double z) {
    if (n == 0) return a + b + c + d + e + g + h + i + j + k + l + m + o + p + q + r + s + t + u + v + w + x + y + z;
    work(1);
    double in = f(n - 1, a + 1, b + a, c + 0.5f, d - 1, e * 2, g - e, h * 1.5f, i + c, s, t, u, v, j, k, l, m, o, p, q, r, z, y, x, w);
    return in * 0.5 + a + b + c + d + e + g + h + i + j + k + l + m + o + p + q + r + s + t + u + v + w - x + y - z;
}

int main(void) {
    printf("%.17g\n", f(25, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24));
}
