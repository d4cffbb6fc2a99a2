// An interpreter: a register machine whose dispatch is one switch in one loop.
#include "bench.h"

enum op { LOAD, MOVE, ADD, SUB, MUL, MOD, LESS, JUMP, IFNOT, GET, PUT, CALL, RETURN, STOP };
struct code { uint8_t op, a, b, c; int32_t k; };

// Counts primes below r[1] with a sieve in memory, calling a small routine for each.
static const struct code program[] = {
    /* 0 */ {LOAD, 2, 0, 0, 2},   // i = 2
    /* 1 */ {LOAD, 9, 0, 0, 0},   // count = 0
    /* 2 */ {LOAD, 8, 0, 0, 1},   // one
    /* 3 */ {LESS, 3, 2, 1, 0},   // while i < n
    /* 4 */ {IFNOT, 3, 0, 0, 18},
    /* 5 */ {GET, 4, 2, 0, 0},    // mem[i] marked?
    /* 6 */ {IFNOT, 4, 0, 0, 9},
    /* 7 */ {ADD, 2, 2, 8, 0},
    /* 8 */ {JUMP, 0, 0, 0, 3},
    /* 9 */ {CALL, 0, 0, 0, 19},
    /* 10 */ {MUL, 5, 2, 2, 0},   // j = i * i
    /* 11 */ {LESS, 3, 5, 1, 0},
    /* 12 */ {IFNOT, 3, 0, 0, 16},
    /* 13 */ {PUT, 8, 5, 0, 0},
    /* 14 */ {ADD, 5, 5, 2, 0},
    /* 15 */ {JUMP, 0, 0, 0, 11},
    /* 16 */ {ADD, 2, 2, 8, 0},
    /* 17 */ {JUMP, 0, 0, 0, 3},
    /* 18 */ {STOP, 9, 0, 0, 0},
    /* 19 */ {LOAD, 6, 0, 0, 1000003},
    /* 20 */ {MUL, 9, 9, 8, 0},
    /* 21 */ {ADD, 9, 9, 2, 0},
    /* 22 */ {MOD, 9, 9, 6, 0},
    /* 23 */ {RETURN, 0, 0, 0, 0},
};

static uint32_t memory[40000];

static uint32_t interpret(const struct code *code, uint32_t limit) {
    uint32_t r[16] = {0};
    int stack[16], sp = 0, pc = 0;
    r[1] = limit;
    for (;;) {
        const struct code *i = &code[pc++];
        switch (i->op) {
            case LOAD: r[i->a] = (uint32_t)i->k; break;
            case MOVE: r[i->a] = r[i->b]; break;
            case ADD: r[i->a] = r[i->b] + r[i->c]; break;
            case SUB: r[i->a] = r[i->b] - r[i->c]; break;
            case MUL: r[i->a] = r[i->b] * r[i->c]; break;
            case MOD: r[i->a] = r[i->b] % r[i->c]; break;
            case LESS: r[i->a] = r[i->b] < r[i->c]; break;
            case JUMP: pc = i->k; break;
            case IFNOT: if (!r[i->a]) pc = i->k; break;
            case GET: r[i->a] = memory[r[i->b]]; break;
            case PUT: memory[r[i->b]] = r[i->a]; break;
            case CALL: stack[sp++] = pc; pc = i->k; break;
            case RETURN: pc = stack[--sp]; break;
            case STOP: return r[i->a];
            default: return 0;
        }
    }
}

static uint64_t run(int scale) {
    uint64_t sum = 0;
    for (int i = 0; i < scale; i++) {
        memset(memory, 0, sizeof memory);
        sum = sum * 31 + interpret(program, 40000u - (uint32_t)i % 100);
    }
    return sum;
}

// The same kind of machine, but every operation is a function called through a table.
struct machine { uint32_t r[16]; int stack[16], sp, pc; };
typedef int (*handler)(struct machine *, const struct code *);
static int h_load(struct machine *m, const struct code *i) { m->r[i->a] = (uint32_t)i->k; return 1; }
static int h_move(struct machine *m, const struct code *i) { m->r[i->a] = m->r[i->b]; return 1; }
static int h_add(struct machine *m, const struct code *i) { m->r[i->a] = m->r[i->b] + m->r[i->c]; return 1; }
static int h_sub(struct machine *m, const struct code *i) { m->r[i->a] = m->r[i->b] - m->r[i->c]; return 1; }
static int h_mul(struct machine *m, const struct code *i) { m->r[i->a] = m->r[i->b] * m->r[i->c]; return 1; }
static int h_mod(struct machine *m, const struct code *i) { m->r[i->a] = m->r[i->b] % m->r[i->c]; return 1; }
static int h_less(struct machine *m, const struct code *i) { m->r[i->a] = m->r[i->b] < m->r[i->c]; return 1; }
static int h_jump(struct machine *m, const struct code *i) { m->pc = i->k; return 1; }
static int h_ifnot(struct machine *m, const struct code *i) { if (!m->r[i->a]) m->pc = i->k; return 1; }
static int h_get(struct machine *m, const struct code *i) { m->r[i->a] = memory[m->r[i->b]]; return 1; }
static int h_put(struct machine *m, const struct code *i) { memory[m->r[i->b]] = m->r[i->a]; return 1; }
static int h_call(struct machine *m, const struct code *i) { m->stack[m->sp++] = m->pc; m->pc = i->k; return 1; }
static int h_return(struct machine *m, const struct code *i) { (void)i; m->pc = m->stack[--m->sp]; return 1; }
static int h_stop(struct machine *m, const struct code *i) { m->r[0] = m->r[i->a]; return 0; }
static handler handlers[] = {h_load, h_move, h_add, h_sub, h_mul, h_mod, h_less, h_jump, h_ifnot, h_get, h_put, h_call, h_return, h_stop};

static uint64_t run_table(int scale) {
    uint64_t sum = 0;
    for (int i = 0; i < scale; i++) {
        memset(memory, 0, sizeof memory);
        struct machine m = {{0}, {0}, 0, 0};
        m.r[1] = 40000u - (uint32_t)i % 100;
        for (;;) {
            const struct code *c = &program[m.pc++];
            if (!handlers[c->op](&m, c)) break;
        }
        sum = sum * 31 + m.r[0];
    }
    return sum;
}

static const struct kernel list[] = {{"switch", run, 320}, {"indirect", run_table, 60}};
KERNELS(list)
