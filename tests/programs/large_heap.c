// Fills a large heap, waits for a line, and says what it holds: all of it, straight from memory, or a checksum.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE (66 << 20)

int main(int argc, char **argv) {
    uint32_t *heap = malloc(SIZE), x = 1;
    for (size_t i = 0; i < SIZE / 4; i++) heap[i] = x = x * 1664525 + 1013904223;
    write(1, "ready\n", 6);
    char line[16];
    if (read(0, line, sizeof line) <= 0) return 1;
    if (argc > 1 && strcmp(argv[1], "write") == 0) {
        // No byte of it is touched before.
        for (size_t done = 0; done < SIZE;) {
            ssize_t n = write(1, (char *)heap + done, SIZE - done);
            if (n <= 0) return 2;
            done += n;
        }
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "wait") == 0) sleep(60);
    uint32_t sum = 0;
    for (size_t i = 0; i < SIZE / 4; i++) sum = sum * 31 + heap[i];
    printf("sum %08x\n", sum);
    return 0;
}
