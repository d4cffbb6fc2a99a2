// Touches the given number of MiB with bytes that don't compress, then answers each byte of input: what is checkpointed and
// resumed is a program blocked in a read.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    size_t size = (size_t)atoi(argc > 1 ? argv[1] : "1") << 20;
    uint64_t *p = malloc(size), x = 88172645463325252u;
    if (!p) return 1;
    for (size_t i = 0; i < size / 8; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = x;
    }
    printf("ready\n");
    fflush(stdout);
    char c;
    while (read(0, &c, 1) == 1) {
        uint64_t h = 0;
        for (size_t i = 0; i < size / 8; i += c == 'a' ? 1 : 8192) h = h * 31 + p[i];
        printf("%llx\n", (unsigned long long)h);
        fflush(stdout);
    }
}
