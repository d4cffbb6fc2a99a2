// Work on bytes and bits: a hash, a compressor's matcher, sorting.
#include "bench.h"

static uint32_t rotr(uint32_t x, int n) { return x >> n | x << (32 - n); }
static uint32_t round_constants[64];

// The shape of SHA-256 with constants from a generator: a checksum, not a standard hash.
static void compress(uint32_t h[8], const unsigned char *p) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++) w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + w[i - 7] + (rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3) +
               (rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t t = s[7] + (rotr(s[4], 6) ^ rotr(s[4], 11) ^ rotr(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + round_constants[i] + w[i];
        uint32_t u = (rotr(s[0], 2) ^ rotr(s[0], 13) ^ rotr(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        s[7] = s[6]; s[6] = s[5]; s[5] = s[4]; s[4] = s[3] + t; s[3] = s[2]; s[2] = s[1]; s[1] = s[0]; s[0] = t + u;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
}

enum { SIZE = 1 << 20 };
static unsigned char data[SIZE];
static void text(void) {
    uint32_t seed = 77;
    for (int i = 0; i < SIZE; i++) {
        // Runs of earlier text make it compressible.
        uint32_t r = xorshift(&seed);
        if (i > 5000 && (r & 63) == 0) {
            for (int n = 8 + (int)(r >> 6 & 31), from = i - 1 - (int)(r >> 12 & 4095); n-- && i < SIZE - 1; i++) data[i] = data[from++];
        }
        data[i] = (unsigned char)('a' + (r >> 24) % 23);
    }
}

static uint64_t hash(int scale) {
    uint32_t seed = 31, h[8];
    for (int i = 0; i < 64; i++) round_constants[i] = xorshift(&seed);
    for (int i = 0; i < 8; i++) h[i] = xorshift(&seed);
    text();
    for (int t = 0; t < scale; t++)
        for (int at = 0; at < SIZE; at += 64) compress(h, data + at);
    return (uint64_t)h[0] << 32 | h[7];
}

static uint64_t match(int scale) {
    static int32_t last[1 << 14];
    uint64_t out = 0;
    text();
    for (int t = 0; t < scale; t++) {
        memset(last, -1, sizeof last);
        for (int i = 0; i + 8 < SIZE;) {
            uint32_t word;
            memcpy(&word, data + i, 4);
            uint32_t slot = word * 2654435761u >> 18;
            int from = last[slot];
            last[slot] = i;
            int len = 0;
            if (from >= 0) while (i + len < SIZE && len < 255 && data[from + len] == data[i + len]) len++;
            if (len >= 4) {
                out = out * 31 + (uint64_t)(i - from) * 256 + (uint64_t)len;
                i += len;
            } else {
                out += data[i++];
            }
        }
    }
    return out;
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}
static uint64_t sort(int scale) {
    static uint32_t v[200000];
    uint64_t sum = 0;
    for (int t = 0; t < scale; t++) {
        uint32_t seed = 5 + (uint32_t)t;
        for (int i = 0; i < 200000; i++) v[i] = xorshift(&seed);
        qsort(v, 200000, sizeof *v, by_value);
        for (int i = 0; i < 200000; i += 1000) sum = sum * 31 + v[i];
    }
    return sum;
}

static const struct kernel list[] = {{"hash", hash, 80}, {"match", match, 100}, {"sort", sort, 10}};
KERNELS(list)
