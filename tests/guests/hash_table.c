//! A growing hash table of strings.
#include "guest.h"

struct entry { char *key; int value; };
static struct entry *table;
static size_t capacity = 8, used;

static uint32_t hash(const char *s) { uint32_t h = 2166136261u; while (*s) h = (h ^ (unsigned char)*s++) * 16777619u; return h; }
static struct entry *find(const char *key) {
    size_t i = hash(key) & (capacity - 1);
    while (table[i].key && strcmp(table[i].key, key)) i = (i + 1) & (capacity - 1);
    return &table[i];
}
static void put(const char *key, int value) {
    if (used * 2 >= capacity) {
        struct entry *old = table;
        size_t n = capacity;
        capacity *= 2;
        table = calloc(capacity, sizeof *table);
        CHECK(table != NULL);
        for (size_t i = 0; i < n; i++) if (old[i].key) *find(old[i].key) = old[i];
        free(old);
    }
    struct entry *e = find(key);
    if (!e->key) { e->key = strdup(key); used++; }
    e->value += value;
}

int main(void) {
    table = calloc(capacity, sizeof *table);
    char key[16];
    for (int i = 0; i < 60; i++) { snprintf(key, sizeof key, "key%u", (unsigned)(rng() % 40)); put(key, i); }
    int sum = 0;
    for (int i = 0; i < 40; i++) { snprintf(key, sizeof key, "key%d", i); struct entry *e = find(key); if (e->key) sum += e->value * (i + 1); }
    printf("%zu entries, %d\n", used, sum);
}
