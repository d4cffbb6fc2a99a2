//! The library's qsort with a callback of ours: frames of both interleave.
#include "guest.h"

struct item { uint32_t key; char name[12]; };
static int calls;
static int by_key(const void *a, const void *b) {
    const struct item *x = a, *y = b;
    calls++;
    return x->key < y->key ? -1 : x->key > y->key;
}
static int by_name(const void *a, const void *b) { return strcmp(((const struct item *)a)->name, ((const struct item *)b)->name); }

int main(void) {
    enum { N = 40 };
    static struct item items[N];
    for (int i = 0; i < N; i++) {
        items[i].key = rng();
        for (int j = 0; j < 6; j++) items[i].name[j] = 'a' + rng() % 26;
    }
    qsort(items, N, sizeof *items, by_key);
    for (int i = 1; i < N; i++) CHECK(items[i - 1].key <= items[i].key);
    CHECK(calls > N);
    printf("%08x %08x\n", items[0].key, items[N - 1].key);
    qsort(items, N, sizeof *items, by_name);
    for (int i = 1; i < N; i++) CHECK(strcmp(items[i - 1].name, items[i].name) <= 0);
    printf("%s %s\n", items[0].name, items[N - 1].name);
}
