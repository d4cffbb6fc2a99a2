//! Loops within loops with early exits: the inner ones must find the outer ones' counters again.
#include "guest.h"

int main(void) {
    uint32_t s = 0;
    volatile int zero = 0;
    for (int i = 0; i < 9 + zero; i++) {
        uint32_t row = s;
        for (int j = 0; j < 9 + zero; j++) {
            uint32_t cell = row + (uint32_t)j;
            for (int k = 0; k < 9 + zero; k++) {
                cell = cell * 5 + (uint32_t)(i ^ j ^ k);
                if ((cell & 63) == 63) break;
                work_sink = cell;
            }
            if ((cell & 127) == 0) continue;
            s ^= cell;
        }
    }
    printf("%08x\n", s);
}
