// A mix of small integer work in the spirit of embedded benchmarks: linked lists, integer matrices, a text state machine, a CRC.
#include "bench.h"

static uint16_t crc(uint16_t c, uint32_t data) {
    for (int i = 0; i < 16; i++) {
        int bit = (int)((data ^ c) & 1);
        c >>= 1;
        if (bit) c ^= 0xA001;
        data >>= 1;
    }
    return c;
}

struct item { int16_t key, index; };
struct cell { struct cell *next; struct item *item; };
typedef int (*compare)(const struct item *, const struct item *);

static int by_key(const struct item *a, const struct item *b) { return a->key - b->key; }
static int by_index(const struct item *a, const struct item *b) { return a->index - b->index; }

static struct cell *merge(struct cell *a, struct cell *b, compare cmp) {
    struct cell head, *tail = &head;
    while (a && b) {
        struct cell **least = cmp(a->item, b->item) <= 0 ? &a : &b;
        tail->next = *least;
        tail = *least;
        *least = (*least)->next;
    }
    tail->next = a ? a : b;
    return head.next;
}
static struct cell *sort(struct cell *list, compare cmp) {
    if (!list || !list->next) return list;
    struct cell *slow = list, *fast = list->next;
    while (fast && fast->next) slow = slow->next, fast = fast->next->next;
    struct cell *right = slow->next;
    slow->next = NULL;
    return merge(sort(list, cmp), sort(right, cmp), cmp);
}
static struct cell *reverse(struct cell *list) {
    struct cell *r = NULL;
    while (list) {
        struct cell *next = list->next;
        list->next = r;
        r = list;
        list = next;
    }
    return r;
}

enum { ITEMS = 60, N = 12, TEXT = 240 };
static uint16_t lists(uint32_t *seed) {
    static struct item items[ITEMS];
    static struct cell cells[ITEMS];
    for (int i = 0; i < ITEMS; i++) {
        items[i] = (struct item){(int16_t)(xorshift(seed) & 0x7fff), (int16_t)i};
        cells[i] = (struct cell){i + 1 < ITEMS ? &cells[i + 1] : NULL, &items[i]};
    }
    struct cell *list = sort(cells, by_key);
    uint16_t c = 0;
    for (int find = 0; find < 8; find++) {
        int16_t want = items[find * 7].key;
        struct cell *at = list;
        while (at && at->item->key != want) at = at->next;
        c = crc(c, at ? (uint32_t)at->item->index : 0xffff);
        list = reverse(list);
    }
    list = sort(list, by_index);
    for (struct cell *at = list; at; at = at->next) c = crc(c, (uint32_t)at->item->key);
    return c;
}

static uint16_t matrices(uint32_t *seed) {
    static int16_t a[N][N], b[N][N];
    static int32_t p[N][N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) a[i][j] = (int16_t)(xorshift(seed) & 0xff), b[i][j] = (int16_t)(xorshift(seed) & 0xff);
    uint16_t c = 0;
    for (int pass = 0; pass < 4; pass++) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                int32_t s = 0;
                for (int k = 0; k < N; k++) s += pass & 1 ? (a[i][k] * b[k][j] >> 2 & 15) * (a[i][k] * b[k][j] >> 5 & 127) : a[i][k] * b[k][j];
                p[i][j] = s;
            }
        int32_t last = 0, sum = 0;
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) sum += p[i][j] > last ? 10 : 1, last = p[i][j], a[i][j] += (int16_t)pass;
        c = crc(c, (uint32_t)sum);
    }
    return c;
}

enum state { START, SIGN, INTEGER, POINT, FRACTION, EXPONENT, POWER, BAD };
static enum state scan(const char **at, uint32_t *counts) {
    enum state s = START;
    const char *p = *at;
    for (; *p && s != BAD; p++) {
        char c = *p;
        if (c == ',') { p++; break; }
        int digit = c >= '0' && c <= '9';
        switch (s) {
            case START: s = digit ? INTEGER : c == '+' || c == '-' ? SIGN : c == '.' ? POINT : BAD; break;
            case SIGN: s = digit ? INTEGER : c == '.' ? POINT : BAD; break;
            case INTEGER: s = digit ? INTEGER : c == '.' ? FRACTION : BAD; break;
            case POINT:
            case FRACTION: s = digit ? FRACTION : c == 'e' || c == 'E' ? EXPONENT : BAD; break;
            case EXPONENT: s = digit || c == '-' || c == '+' ? POWER : BAD; break;
            case POWER: s = digit ? POWER : BAD; break;
            default: break;
        }
        counts[s]++;
    }
    while (s == BAD && *p && p[-1] != ',') p++;
    *at = p;
    return s;
}
static uint16_t states(uint32_t *seed) {
    static const char *words[] = {"5012", "-38.5", "+.25e4", "1.5e-7", "T0.3e-1F", "-T.1++Tq", "12", "0.0"};
    static char text[TEXT + 16];
    int n = 0;
    while (n < TEXT) {
        const char *w = words[xorshift(seed) & 7];
        while (*w) text[n++] = *w++;
        text[n++] = ',';
    }
    text[n] = 0;
    uint32_t counts[8] = {0}, finals[8] = {0};
    for (const char *p = text; *p;) finals[scan(&p, counts)]++;
    uint16_t c = 0;
    for (int i = 0; i < 8; i++) c = crc(crc(c, counts[i]), finals[i]);
    return c;
}

static uint64_t mix(int scale) {
    uint32_t seed = 0x2545F491;
    uint16_t c = 0;
    for (int i = 0; i < scale; i++) {
        c = crc(c, lists(&seed));
        c = crc(c, matrices(&seed));
        c = crc(c, states(&seed));
    }
    return c;
}

static const struct kernel list[] = {{"mix", mix, 18000}};
KERNELS(list)
