//! A few touched pages in a large memory: zero pages must come back as zero, touched ones as they were.
#include "guest.h"

enum { SIZE = 24 << 20 };
int main(void) {
    unsigned char *big = malloc(SIZE);
    CHECK(big != NULL);
    for (size_t i = 0; i < SIZE; i += 1 << 20) big[i] = (unsigned char)(i >> 20), work(1);
    uint32_t sum = 0;
    for (size_t i = 0; i < SIZE; i += 1 << 18) sum += big[i], work(1);
    printf("%u\n", sum);
    memset(big, 0, 1 << 12);
    sum = 0;
    for (size_t i = 0; i < SIZE; i += 1 << 19) sum = sum * 3 + big[i];
    printf("%u\n", sum);
}
