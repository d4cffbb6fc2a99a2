// Dense numeric kernels on doubles, in the manner of polyhedral benchmark collections; written for this project.
#include "bench.h"

enum { N = 256 };
static double a[N][N], b[N][N], c[N][N];

static void fill(void) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = (double)((i * 7 + j * 3) % 97) / 97 + (i == j ? N : 0);
            b[i][j] = (double)((i * 5 + j * 11) % 89) / 89;
            c[i][j] = 0;
        }
}
static uint64_t sum(double m[N][N]) {
    uint64_t h = 0, bits;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) memcpy(&bits, &m[i][j], 8), h = h * 31 + bits;
    return h;
}

static uint64_t gemm(int scale) {
    fill();
    for (int t = 0; t < scale; t++)
        for (int i = 0; i < N; i++) {
            for (int j = 0; j < N; j++) c[i][j] *= 0.75;
            for (int k = 0; k < N; k++)
                for (int j = 0; j < N; j++) c[i][j] += 1.5 * a[i][k] * b[k][j];
        }
    return sum(c);
}
static uint64_t jacobi(int scale) {
    fill();
    for (int t = 0; t < scale; t++) {
        for (int i = 1; i < N - 1; i++)
            for (int j = 1; j < N - 1; j++) c[i][j] = 0.2 * (b[i][j] + b[i][j - 1] + b[i][j + 1] + b[i - 1][j] + b[i + 1][j]);
        for (int i = 1; i < N - 1; i++)
            for (int j = 1; j < N - 1; j++) b[i][j] = 0.2 * (c[i][j] + c[i][j - 1] + c[i][j + 1] + c[i - 1][j] + c[i + 1][j]);
    }
    return sum(b);
}
static uint64_t lu(int scale) {
    uint64_t h = 0;
    for (int t = 0; t < scale; t++) {
        fill();
        for (int k = 0; k < N; k++)
            for (int i = k + 1; i < N; i++) {
                double f = a[i][k] /= a[k][k];
                for (int j = k + 1; j < N; j++) a[i][j] -= f * a[k][j];
            }
        h += sum(a);
    }
    return h;
}
static uint64_t seidel(int scale) {
    fill();
    for (int t = 0; t < scale; t++)
        for (int i = 1; i < N - 1; i++)
            for (int j = 1; j < N - 1; j++)
                b[i][j] = (b[i - 1][j - 1] + b[i - 1][j] + b[i - 1][j + 1] + b[i][j - 1] + b[i][j] + b[i][j + 1] + b[i + 1][j - 1] +
                           b[i + 1][j] + b[i + 1][j + 1]) / 9;
    return sum(b);
}
static int32_t path[N][N];
static uint64_t floyd(int scale) {
    uint64_t h = 0;
    for (int t = 0; t < scale; t++) {
        uint32_t seed = 99;
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) path[i][j] = (int32_t)(xorshift(&seed) % 1000) + 1;
        for (int k = 0; k < N; k++)
            for (int i = 0; i < N; i++)
                for (int j = 0; j < N; j++) {
                    int32_t via = path[i][k] + path[k][j];
                    if (via < path[i][j]) path[i][j] = via;
                }
        for (int i = 0; i < N; i++) h = h * 31 + (uint64_t)path[i][(i * 7) % N];
    }
    return h;
}

static const struct kernel list[] = {{"gemm", gemm, 48}, {"jacobi", jacobi, 2400}, {"lu", lu, 80}, {"seidel", seidel, 500}, {"floyd", floyd, 28}};
KERNELS(list)
