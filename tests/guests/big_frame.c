//! A function with far more live values than registers: everything spills, and everything must come back.
#include "guest.h"

static NOINLINE uint64_t v(int i) {
    work(1);
    return (uint64_t)i * 0x9E3779B97F4A7C15ull;
}
#define R8(m, b) m((b) + 0) m((b) + 1) m((b) + 2) m((b) + 3) m((b) + 4) m((b) + 5) m((b) + 6) m((b) + 7)
#define GET(i) x[i] = v(i);
#define FLT(i) d[i] = (double)(v(i) >> 40) / 3;
#define USE(i) h = mix(h, x[i]); s += d[i];

// The arrays are scalars after optimisation: all indices are constants.
int main(void) {
    uint64_t x[64], h = 0;
    double d[64], s = 0;
    R8(GET, 0) R8(GET, 8) R8(GET, 16) R8(GET, 24) R8(GET, 32) R8(GET, 40) R8(GET, 48) R8(GET, 56)
    R8(FLT, 0) R8(FLT, 8) R8(FLT, 16) R8(FLT, 24) R8(FLT, 32) R8(FLT, 40) R8(FLT, 48) R8(FLT, 56)
    work(3);
    R8(USE, 0) R8(USE, 8) R8(USE, 16) R8(USE, 24) R8(USE, 32) R8(USE, 40) R8(USE, 48) R8(USE, 56)
    printf("%016" PRIx64 " %.17g\n", h, s);
}
