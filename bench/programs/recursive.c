// Call-heavy kernels.
#include "bench.h"

static uint32_t fib(uint32_t n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
static uint64_t run_fib(int n) { return fib((uint32_t)n); }

static uint32_t ackermann(uint32_t m, uint32_t n) {
    if (m == 0) return n + 1;
    return n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}
// Not deeper than every engine's default stack allows; repeated instead.
static volatile uint32_t argument = 9;
static uint64_t run_ackermann(int n) {
    uint64_t sum = 0;
    for (int i = 0; i < n; i++) sum += ackermann(3, argument);
    return sum;
}

static uint32_t place(uint32_t all, uint32_t cols, uint32_t left, uint32_t right) {
    if (cols == all) return 1;
    uint32_t count = 0;
    for (uint32_t free = all & ~(cols | left | right); free; free &= free - 1) {
        uint32_t bit = free & -free;
        count += place(all, cols | bit, (left | bit) << 1, (right | bit) >> 1);
    }
    return count;
}
static uint64_t run_queens(int n) { return place((1u << n) - 1, 0, 0, 0); }

struct tree { struct tree *left, *right; };
static struct tree *grow(int depth) {
    struct tree *t = malloc(sizeof *t);
    *t = depth ? (struct tree){grow(depth - 1), grow(depth - 1)} : (struct tree){0};
    return t;
}
static uint32_t count(const struct tree *t) { return t->left ? 1 + count(t->left) + count(t->right) : 1; }
static void fell(struct tree *t) {
    if (t->left) fell(t->left), fell(t->right);
    free(t);
}
static uint64_t run_trees(int n) {
    uint64_t sum = 0;
    for (int i = 0; i < 12; i++) {
        struct tree *t = grow(n);
        sum += count(t);
        fell(t);
    }
    return sum;
}

static const struct kernel list[] = {{"fib", run_fib, 39}, {"ackermann", run_ackermann, 16}, {"queens", run_queens, 14}, {"trees", run_trees, 19}};
KERNELS(list)
