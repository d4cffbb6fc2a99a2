// Says "ready", then does what its argument says for as long as it takes a person to ask for a checkpoint.
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

// No calls inside: only polls can stop it.
static void loop(void) {
    uint64_t x = 1;
    for (uint32_t i = 0; i < 1500000000u; i++) x = x * 3 + (x >> 7);
    printf("looped %016llx\n", (unsigned long long)x);
}

// Up and down a deep stack, again and again.
static NOINLINE uint32_t down(uint32_t n, volatile uint32_t *sum) {
    if (n == 0) return 0;
    uint32_t below = down(n - 1, sum);
    *sum += 1;
    return below + n;
}
static void recurse(void) {
    volatile uint32_t sum = 0;
    uint32_t total = 0;
    for (int i = 0; i < 40000; i++) total = down(10000, &sum) + (total & 1) * 0;
    printf("recursed %u\n", total);
}

static uint32_t f0(uint32_t x) { return x * 5 + 1; }
static uint32_t f1(uint32_t x) { return x ^ x >> 3; }
static uint32_t f2(uint32_t x) { return x + 0x1234567; }
static uint32_t (*volatile table[3])(uint32_t) = {f0, f1, f2};
static void pointers(void) {
    uint32_t x = 1;
    for (uint32_t i = 0; i < 100000000u; i++) x = table[i % 3](x);
    printf("called %08x\n", x);
}

static void line(void) {
    char text[64];
    ssize_t n = read(0, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    printf("read %s", text);
}

static void wait(void) {
    struct pollfd p = {0, POLLIN, 0};
    int n = poll(&p, 1, 60000);
    char c = '?';
    if (n == 1) read(0, &c, 1);
    printf("polled %d %c\n", n, c);
}

static void doze(void) {
    struct timespec t = {3, 0};
    printf(nanosleep(&t, NULL) == 0 ? "slept\n" : "woken\n");
}

static void print(void) {
    uint32_t x = 1;
    for (int i = 0; i < 100; i++) {
        for (int j = 0; j < 10000000; j++) x = x * 1664525 + 1013904223 + (x >> 11);
        printf("%d %08x\n", i, x);
        fflush(stdout);
    }
}

static uint64_t *touched;
enum { WORDS = 4 << 20 };
static void touch(void) {
    char c;
    while (read(0, &c, 1) == 1) {
        uint64_t h = 0;
        for (size_t i = 0; i < WORDS; i++) h = h * 31 + touched[i];
        printf("touched %016llx\n", (unsigned long long)h);
        fflush(stdout);
    }
}

// A deleted file, or a pipe of that name, of which one byte is in it.
static int gone = -1;
static void unlinked(void) {
    line();
    char c = '?';
    lseek(gone, 0, SEEK_SET);
    read(gone, &c, 1);
    printf("it says: %c\n", c);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "touch") == 0) {
        touched = malloc(WORDS * sizeof *touched);
        if (!touched) return 1;
        for (size_t i = 0; i < WORDS; i++) touched[i] = i * 0x9E3779B97F4A7C15ull;
    }
    if (strcmp(what, "unlinked") == 0) {
        gone = open("/data/gone", O_RDWR | O_CREAT, 0600);
        if (gone < 0 || write(gone, "x", 1) != 1 || unlink("/data/gone") != 0) return 1;
    }
    printf("ready\n");
    fflush(stdout);
    static const struct { const char *name; void (*run)(void); } all[] = {
        {"loop", loop}, {"recurse", recurse}, {"pointers", pointers}, {"read", line}, {"poll", wait},
        {"sleep", doze}, {"print", print}, {"touch", touch}, {"unlinked", unlinked},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(what, all[i].name) == 0) { all[i].run(); return 0; }
    return 2;
}
