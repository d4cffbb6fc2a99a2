//! Vector code as clang makes it, written out and from loops: matrix products, a checksum, saturation and shuffles between calls.
//! flags: -msimd128
#include "guest.h"

typedef float f4 __attribute__((vector_size(16)));
typedef double d2 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));
typedef uint16_t u8x __attribute__((vector_size(16)));
typedef uint8_t u16x __attribute__((vector_size(16)));

#define N 16
static float a[N][N], b[N][N], c[N][N];

static NOINLINE f4 row(int i, int j, f4 sum) {
    f4 step = {1, 2, 3, 4};
    for (int k = 0; k < N; k++) {
        f4 right;
        memcpy(&right, &b[k][j], 16);
        sum += a[i][k] * right;
        if (k % 5 == 0) work(1);
    }
    return sum + step;
}

static NOINLINE u16x sort_pairs(u16x v, int depth) {
    if (depth == 0) return v;
    work(1);
    u16x swapped = __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
    u16x less = (u16x)(swapped < v);
    u16x low = (swapped & less) | (v & ~less);
    u16x turned = __builtin_shufflevector(low, v, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
    return sort_pairs(turned + (u16x)((u8x)v >> 3), depth - 1) ^ v;
}

static NOINLINE uint32_t checksum(const uint8_t *p, int n) {
    uint32_t s = 0;
    for (int i = 0; i < n; i++) s += p[i] * (uint32_t)(i & 7);
    work(1);
    return s;
}

static NOINLINE int saturate(int16_t *out, const int32_t *in, int n) {
    int clipped = 0;
    for (int i = 0; i < n; i++) {
        int32_t x = in[i];
        x = x > 32767 ? 32767 : x < -32768 ? -32768 : x;
        clipped += x != in[i];
        out[i] = (int16_t)x;
    }
    work(1);
    return clipped;
}

int main(void) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) a[i][j] = (float)(rng() % 100) / 8, b[i][j] = (float)(rng() % 100) / 16;
    f4 sum = {0};
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j += 4) {
            sum = row(i, j, sum * 0.5f);
            memcpy(&c[i][j], &sum, 16);
        }
    printf("%08x %08x\n", checksum((uint8_t *)c, sizeof c), checksum((uint8_t *)a, sizeof a - 3));
    u16x v;
    for (int i = 0; i < 16; i++) v[i] = (uint8_t)rng();
    v = sort_pairs(v, 30);
    for (int i = 0; i < 16; i++) printf("%02x", v[i]);
    printf("\n");
    int32_t in[100];
    int16_t out[100];
    for (int i = 0; i < 100; i++) in[i] = (int32_t)rng() >> (rng() % 20);
    int clipped = saturate(out, in, 100);
    printf("%d %08x\n", clipped, checksum((uint8_t *)out, sizeof out));
    d2 x = {1, 2};
    for (int i = 1; i < 40; i++) {
        d2 y = {i, -i};
        work(1);
        x = x * 1.25 + y / x;
    }
    i4 lanes = __builtin_convertvector((f4){x[0] / 1e3f, x[1], 0, -1}, i4);
    printf("%.17g %.17g %d %d\n", x[0], x[1], lanes[2], lanes[3]);
    return 0;
}
