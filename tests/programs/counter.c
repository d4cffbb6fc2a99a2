// Counts, with some work for each number, and tells a checksum of all that it has computed: what is lost, repeated or
// computed otherwise shows.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint32_t memory[1 << 16];

int main(int argc, char **argv) {
    int last = argc > 1 ? atoi(argv[1]) : 100;
    int work = argc > 2 ? atoi(argv[2]) : 1000000;
    uint32_t x = 1;
    for (int i = 1; i <= last; i++) {
        for (int j = 0; j < work; j++) {
            x = x * 1664525 + 1013904223;
            memory[x >> 16] += x ^ (uint32_t)i;
        }
        uint32_t sum = 0;
        for (int j = 0; j < 1 << 16; j++) sum = sum * 31 + memory[j];
        printf("%d %08x\n", i, sum);
        fflush(stdout);
    }
    printf("done\n");
    return 0;
}
