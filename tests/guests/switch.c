//! A bytecode interpreter: a large switch in a loop (br_table), with its state in locals.
#include "guest.h"

enum { PUSH, ADD, MUL, SUB, DUP, SWAP, JNZ, POP, OUT, HALT };
static const int code[] = {
    PUSH, 1, PUSH, 12,                                   // acc n
    DUP, SWAP, POP,                                      // (nothing new)
    SWAP, PUSH, 3, MUL, PUSH, 1, ADD, SWAP,              // acc = acc * 3 + 1
    PUSH, 1, SUB, DUP, JNZ, 4,                           // n = n - 1, again unless 0
    POP, OUT, PUSH, 7, OUT, HALT,
};

static NOINLINE void run(void) {
    int stack[16], sp = 0, pc = 0, steps = 0;
    for (;;) {
        steps++;
        switch (code[pc++]) {
            case PUSH: stack[sp++] = code[pc++]; break;
            case ADD: sp--; stack[sp - 1] += stack[sp]; break;
            case MUL: sp--; stack[sp - 1] *= stack[sp]; break;
            case SUB: sp--; stack[sp - 1] -= stack[sp]; break;
            case DUP: stack[sp] = stack[sp - 1]; sp++; break;
            case SWAP: { int t = stack[sp - 1]; stack[sp - 1] = stack[sp - 2]; stack[sp - 2] = t; break; }
            case JNZ: { int to = code[pc++]; if (stack[--sp]) { pc = to; } else { sp++; } break; }
            case POP: sp--; break;
            case OUT: printf("%d\n", stack[--sp]); break;
            case HALT: printf("%d steps\n", steps); return;
        }
    }
}
int main(void) { run(); }
