// A heap of so many MiB, of which some pages change at each step (all of them in the first so many MiB), and which grows
// now and then; what it tells depends on all that it has ever written. With a file, it writes pages to it, and has others
// read into its heap.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK (1u << 20)

static uint8_t *chunks[4096];
static uint32_t count, seed = 1;

static uint32_t next(void) { return seed = seed * 1664525 + 1013904223; }

static void grow(void) {
    uint8_t *chunk = malloc(CHUNK);
    if (!chunk) exit(9);
    // The first of each four stays as it comes: zero.
    if (count % 4) {
        for (uint32_t i = 0; i < CHUNK; i += 4) { uint32_t x = i * 2654435761u + count; memcpy(chunk + i, &x, 4); }
    } else {
        memset(chunk, 0, CHUNK);
    }
    chunks[count++] = chunk;
}

int main(int argc, char **argv) {
    uint32_t mebibytes = argc > 1 ? atoi(argv[1]) : 16, steps = argc > 2 ? atoi(argv[2]) : 100;
    uint32_t pages = argc > 3 ? atoi(argv[3]) : 8, pause = argc > 4 ? atoi(argv[4]) : 0;
    uint32_t window = argc > 5 ? atoi(argv[5]) : 0;
    int file = argc > 6 ? open(argv[6], O_RDWR | O_CREAT, 0600) : -1;
    while (count < mebibytes) grow();
    uint32_t told = 0;
    for (uint32_t step = 1; step <= steps; step++) {
        for (uint32_t i = 0; i < pages; i++) {
            uint8_t *page = chunks[(next() >> 8) % (window ? window : count)] + ((next() >> 8) % (CHUNK >> 12) << 12);
            uint32_t at = (next() >> 8) % 4096;
            told = told * 31 + page[at];
            // Some pages become zero again.
            if (next() >> 28 == 0) memset(page, 0, 4096); else page[at] = (uint8_t)(next() >> 16);
        }
        if (file >= 0) {
            uint8_t *page = chunks[(next() >> 8) % (window ? window : count)] + ((next() >> 8) % (CHUNK >> 12) << 12);
            off_t at = (off_t)((next() >> 8) % 300) << 12;
            if (step % 4) { if (pread(file, page, 4096, at) < 0) return 8; } else if (pwrite(file, page, 4096, at) != 4096) return 7;
        }
        if (step % 256 == 0) grow();
        if (pause) usleep(pause);
        printf("%u %08x\n", step, told);
        fflush(stdout);
    }
    uint32_t sum = 0;
    for (uint32_t c = 0; c < count; c++) for (uint32_t i = 0; i < CHUNK; i++) sum = sum * 31 + chunks[c][i];
    printf("done %08x\n", sum);
    return 0;
}
