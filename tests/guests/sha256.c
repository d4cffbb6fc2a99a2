//! SHA-256 of a message, step by step, with moves in the middle of blocks.
#include "guest.h"

static uint32_t k[64], h[8];
static uint32_t rotr(uint32_t x, int n) { return x >> n | x << (32 - n); }

// The constants are the fractional parts of roots of primes; computed exactly with integers.
static uint32_t root_bits(uint32_t prime, int power) {
    // The greatest r with r^power <= prime * 2^(32*power); its low 32 bits are the fraction.
    uint64_t r = 0;
    for (int bit = 35; bit >= 0; bit--) {
        uint64_t t = r | 1ull << bit;
        // r^power compared with prime << (32 * power), in 32-bit limbs.
        uint32_t limbs[5] = {1}, factor[2] = {(uint32_t)t, (uint32_t)(t >> 32)};
        for (int p = 0; p < power; p++) {
            uint32_t product[7] = {0};
            for (int i = 0; i < 5; i++) {
                uint64_t carry = 0;
                for (int j = 0; j < 2; j++) {
                    uint64_t x = (uint64_t)limbs[i] * factor[j] + product[i + j] + carry;
                    product[i + j] = (uint32_t)x;
                    carry = x >> 32;
                }
                product[i + 2] += (uint32_t)carry;
            }
            memcpy(limbs, product, sizeof limbs);
        }
        uint32_t whole = limbs[power];
        int above = power + 1 < 5 && limbs[power + 1];
        int fraction = 0;
        for (int i = 0; i < power; i++) fraction |= limbs[i] != 0;
        if (!(above || whole > prime || (whole == prime && fraction))) r = t;
    }
    return (uint32_t)r;
}

static void block(const unsigned char *p) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++) w[i] = (uint32_t)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + w[i - 7] + (rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3) +
               (rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(s, h, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t t = s[7] + (rotr(s[4], 6) ^ rotr(s[4], 11) ^ rotr(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
        uint32_t u = (rotr(s[0], 2) ^ rotr(s[0], 13) ^ rotr(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        for (int j = 7; j > 0; j--) s[j] = s[j - 1];
        s[4] += t;
        s[0] = t + u;
    }
    for (int i = 0; i < 8; i++) h[i] += s[i];
}

int main(void) {
    int n = 0;
    for (uint32_t p = 2; n < 64; p++) {
        int prime = 1;
        for (uint32_t q = 2; q * q <= p; q++) prime &= p % q != 0;
        if (!prime) continue;
        if (n < 8) h[n] = root_bits(p, 2);
        k[n++] = root_bits(p, 3);
    }
    unsigned char message[64] = "abc";
    message[3] = 0x80;
    message[63] = 24;
    block(message);
    for (int i = 0; i < 8; i++) printf("%08x", h[i]);
    printf("\n");
    CHECK(h[0] == 0xba7816bf && h[7] == 0xf20015ad);
}
