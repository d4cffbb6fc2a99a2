//! Atomics as clang emits them for one thread and many: counters of every width, a stack linked by compare-exchange, a lock.
//! flags: -matomics -mbulk-memory
#include "guest.h"
#include <stdatomic.h>

static _Atomic uint8_t c8[4];
static _Atomic uint16_t c16[4];
static _Atomic uint32_t c32[4];
static _Atomic uint64_t c64[4];

// Every operation, on a counter that is live across points.
#define CHURN(name, type)                                                                                                          \
    static NOINLINE uint64_t name(_Atomic type *c, type by) {                                                                      \
        uint64_t h = atomic_load(c);                                                                                               \
        h = mix(h, atomic_fetch_add(c, by));                                                                                       \
        work(1);                                                                                                                   \
        h = mix(h, atomic_fetch_sub(c, (type)(by * 3)));                                                                           \
        h = mix(h, atomic_fetch_or(c, (type)(by << 1)));                                                                           \
        h = mix(h, atomic_fetch_xor(c, (type)~by));                                                                                \
        h = mix(h, atomic_fetch_and(c, (type)(h | 0x5a)));                                                                         \
        type seen = by, other = (type)h;                                                                                           \
        work(1);                                                                                                                   \
        while (!atomic_compare_exchange_strong(c, &seen, other)) { h = mix(h, seen); work(1); }                                    \
        h = mix(h, atomic_exchange(c, (type)(h >> 3)));                                                                            \
        atomic_thread_fence(memory_order_seq_cst);                                                                                 \
        return h;                                                                                                                  \
    }
CHURN(churn8, uint8_t)
CHURN(churn16, uint16_t)
CHURN(churn32, uint32_t)
CHURN(churn64, uint64_t)

struct node { struct node *next; uint32_t value; };
static _Atomic(struct node *) top;
static NOINLINE void push(uint32_t value) {
    struct node *n = malloc(sizeof *n);
    CHECK(n != NULL);
    n->value = value;
    n->next = atomic_load(&top);
    while (!atomic_compare_exchange_weak(&top, &n->next, n)) work(1);
}
static NOINLINE uint32_t pop(void) {
    struct node *n = atomic_load(&top);
    while (n && !atomic_compare_exchange_weak(&top, &n, n->next)) work(1);
    if (!n) return 0;
    uint32_t value = n->value;
    free(n);
    return value;
}

// A lock as musl has it: 0 free, 1 taken, 2 taken with waiters. With one thread nobody ever waits.
static _Atomic int lock;
static NOINLINE void acquire(void) {
    int free = 0;
    if (!atomic_compare_exchange_strong(&lock, &free, 1))
        while (atomic_exchange(&lock, 2)) {
#ifdef __wasm__
            __builtin_wasm_memory_atomic_wait32((int *)&lock, 2, -1);
#endif
        }
}
static NOINLINE int release(void) {
    if (atomic_fetch_sub(&lock, 1) == 1) return 0;
    atomic_store(&lock, 0);
#ifdef __wasm__
    return __builtin_wasm_memory_atomic_notify((int *)&lock, 1);
#else
    return 0;
#endif
}

int main(void) {
    uint64_t h = 0;
    int woken = 0;
    for (uint32_t i = 0; i < 24; i++) {
        uint32_t r = rng();
        acquire();
        h = mix(h, churn8(&c8[i & 3], (uint8_t)r));
        h = mix(h, churn16(&c16[i & 3], (uint16_t)r));
        h = mix(h, churn32(&c32[i & 3], r));
        h = mix(h, churn64(&c64[i & 3], (uint64_t)r << 20 | r));
        // Now and then the lock says that somebody waits.
        if (i % 5 == 0) atomic_store(&lock, 2);
        woken += release();
        push(r);
        if (i % 3 == 2) h = mix(h, pop());
    }
    CHECK(woken == 0 && atomic_load(&lock) == 0);
    while (atomic_load(&top)) h = mix(h, pop());
    for (int i = 0; i < 4; i++) h = mix(h, mix(mix(c8[i], c16[i]), mix(c32[i], c64[i])));
    printf("%016" PRIx64 "\n", h);
}
