//! Float arithmetic and conversions that must be equal to the last bit on every architecture.
#include "guest.h"
#include <math.h>

static uint64_t bits(double d) { uint64_t u; memcpy(&u, &d, 8); return u; }
static NOINLINE double ident(double d) { work(1); return d; }

int main(void) {
    uint64_t h = 0;
    double d = 1.5;
    float f = 0.75f;
    for (int i = 1; i < 60; i++) {
        d = ident(d) * 1.37 + sqrt((double)i) / 3;
        f = (float)ident(f) * 0.93f + (float)i;
        h = mix(h, bits(d));
        h = mix(h, bits(f));
        h = mix(h, bits(floor(d) + ceil(-d) + trunc(d / 3) + rint(d * 7)));
        h = mix(h, bits(fabs(-d) + copysign(d, -f) + fmin(d, f) + fmax(d, f)));
        h = mix(h, (uint64_t)(int64_t)d ^ (uint64_t)(uint32_t)f);
        if (d > 1e12) d = sin(d) + 2;
    }
    printf("%016" PRIx64 " %a\n", h, d);
}
