// For the programs of the unison campaign: what they do when there is no room, and how they end.
//
// A call that failed for lack of room is made again after a while, as often as the program was told to be patient; then it gives up
// with exit code 4. What it finds wrong with its files it tells on standard error, and ends with exit code 3.
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long patience = 1000000;
static long told;

// Was it for lack of room, and shall it be tried again?
static int no_room(const char *what) {
    int e = errno;
    if (e != ENOSPC && e != EDQUOT && e != EFBIG) return 0;
    if (told++ == 0) fprintf(stderr, "no room: %s: error %d\n", what, e);
    if (told > patience) {
        fprintf(stderr, "gave up for lack of room: %s\n", what);
        exit(4);
    }
    struct timespec pause = {0, 2000000};
    nanosleep(&pause, NULL);
    errno = e;
    return 1;
}

static uint64_t state_of_random;
static uint32_t rnd(uint32_t n) {
    state_of_random = state_of_random * 6364136223846793005ull + 1442695040888963407ull;
    return n ? (uint32_t)((state_of_random >> 33) % n) : 0;
}

// Some work, so that not all of a program's time is spent on files.
static uint32_t worked = 1;
static void work(uint32_t rounds) {
    uint32_t x = worked;
    for (uint32_t i = 0; i < rounds; i++) x = (x ^ (x >> 15)) * 0x2c1b3c6du + i;
    worked = x;
}
