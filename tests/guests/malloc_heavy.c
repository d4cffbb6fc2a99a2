//! A heap in constant change: blocks of many sizes, resized, freed and filled with patterns that are verified.
#include "guest.h"

enum { SLOTS = 24 };
static unsigned char *block[SLOTS];
static size_t size[SLOTS];

static void fill(int i) { for (size_t j = 0; j < size[i]; j += 16) block[i][j] = (unsigned char)(i * 31 + j); }
static void verify(int i) { for (size_t j = 0; j < size[i]; j += 16) CHECK(block[i][j] == (unsigned char)(i * 31 + j)); }

int main(void) {
    uint64_t total = 0;
    for (int n = 0; n < 150; n++) {
        int i = rng() % SLOTS;
        switch (rng() % 3) {
            case 0:
                if (block[i]) verify(i);
                free(block[i]);
                size[i] = 16 + rng() % 300;
                CHECK((block[i] = malloc(size[i])) != NULL);
                fill(i);
                break;
            case 1: {
                if (block[i]) verify(i);
                size_t to = 16 + rng() % 600;
                CHECK((block[i] = realloc(block[i], to)) != NULL);
                size[i] = to;
                fill(i);
                break;
            }
            default:
                if (block[i]) verify(i);
                free(block[i]);
                block[i] = NULL;
                size[i] = 0;
        }
        total += size[i];
    }
    for (int i = 0; i < SLOTS; i++) if (block[i]) verify(i);
    printf("%" PRIu64 "\n", total);
}
