// Changes some pages of its memory at each step, clears others, and tells a checksum of all of it: a page that is not
// what it should be shows at once.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE 65536
#define PAGES 96

static uint8_t pages[PAGES][PAGE];

int main(int argc, char **argv) {
    int last = argc > 1 ? atoi(argv[1]) : 100;
    uint32_t x = 1, sum = 0;
    // Most of it never changes again.
    for (int i = 0; i < PAGES - 8; i++)
        for (int j = 0; j < PAGE; j += 4) *(uint32_t *)&pages[i][j] = x = x * 1664525 + 1013904223;
    for (int i = 1; i <= last; i++) {
        for (int n = 0; n < 3; n++) {
            x = x * 1664525 + 1013904223;
            pages[x >> 16 & 31][x & (PAGE - 1)] += i;
        }
        memset(pages[32 + i % 8], 0, PAGE);
        memset(pages[32 + (i + 3) % 8], i, PAGE);
        for (int k = 0; k < PAGES; k++)
            for (int j = 0; j < PAGE; j += 64) sum = sum * 31 + *(uint32_t *)&pages[k][j];
        printf("%d %08x\n", i, sum);
        fflush(stdout);
        // So that there is time for snapshots.
        nanosleep(&(struct timespec){.tv_nsec = 3000000}, 0);
    }
    printf("done\n");
    return 0;
}
