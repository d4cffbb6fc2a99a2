//! Locals in the program's own (linear memory) stack, with pointers between frames.
#include "guest.h"

struct node { int value; struct node *up; double weights[8]; };

static NOINLINE double climb(struct node *n) {
    double s = 0;
    for (; n; n = n->up) {
        for (int i = 0; i < 8; i++) s += n->weights[i] * n->value;
        n->weights[n->value & 7] += 1;
    }
    return s;
}
static NOINLINE double nest(int depth, struct node *up) {
    struct node me = {depth, up, {0}};
    for (int i = 0; i < 8; i++) me.weights[i] = depth * 0.25 + i;
    if (depth == 0) return climb(&me);
    double below = nest(depth - 1, &me);
    return below + climb(&me) * 0.001;
}

int main(void) { printf("%.17g\n", nest(12, NULL)); }
