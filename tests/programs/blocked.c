// Opens files in every mode, waits in one kind of blocking call, and then uses the files: for moves in the middle of the wait.
#include "../guests/wasi.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// Where the files are: after a listening socket, if there is one.
static int r, w, rw, append, nonblock, synced, gone, again;
static DIR *d;
static char text[256];

static void before(void) {
    r = open(DATA "/input", O_RDONLY);
    w = open(DATA "/output", O_WRONLY | O_CREAT | O_EXCL, 0644);
    rw = open(DATA "/both", O_RDWR);
    append = open(DATA "/log", O_WRONLY | O_APPEND);
    nonblock = open(DATA "/input", O_RDONLY | O_NONBLOCK);
    synced = open(DATA "/synced", O_RDWR | O_CREAT | O_SYNC, 0600);
    gone = open(DATA "/gone", O_RDWR | O_CREAT, 0600);
    again = open(DATA "/gone", O_RDONLY);
    d = opendir(DATA "/d");
    CHECK(r >= 0 && w >= 0 && rw >= 0 && append >= 0 && nonblock >= 0 && synced >= 0 && gone >= 0 && again >= 0 && d);
    CHECK(unlink(DATA "/gone") == 0);
    CHECK(read(r, text, 4) == 4 && write(w, text, 4) == 4);
    CHECK(lseek(rw, 8, SEEK_SET) == 8 && write(rw, text, 4) == 4);
    CHECK(write(append, "before\n", 7) == 7);
    CHECK(write(synced, "synced", 6) == 6 && write(gone, "deleted", 7) == 7);
    CHECK(read(again, text, 3) == 3);
    CHECK(readdir(d) && readdir(d) && readdir(d));
}

static void after(void) {
    memset(text, 0, sizeof text);
    CHECK(read(r, text, 4) == 4 && write(w, text, 4) == 4);
    CHECK(read(nonblock, text + 10, 4) == 4 && (fcntl(nonblock, F_GETFL) & O_NONBLOCK));
    CHECK(read(rw, text + 20, 4) == 4 && write(rw, "end", 3) == 3);
    CHECK(write(append, "after\n", 6) == 6 && (fcntl(append, F_GETFL) & O_APPEND));
    CHECK(pread(synced, text + 30, 6, 0) == 6 && write(synced, "!", 1) == 1);
    CHECK(write(gone, "!", 1) == 1 && read(again, text + 40, 9) == 5);
    struct stat st;
    CHECK(fstat(gone, &st) == 0 && st.st_nlink == 0 && st.st_size == 8);
    CHECK(lseek(w, 0, SEEK_CUR) == 8 && lseek(append, 0, SEEK_CUR) >= 13);
    printf("files %s %s %s %s %s\n", text, text + 10, text + 20, text + 30, text + 40);
    // What is left of the listing, in its order: each entry once.
    int left = 0;
    char last[200] = "";
    for (struct dirent *e; (e = readdir(d)); left++) {
        CHECK(strcmp(last, e->d_name) < 0);
        strcpy(last, e->d_name);
    }
    printf("%d entries\n", left);
}

static int64_t now(clockid_t clock) {
    struct timespec t;
    CHECK(clock_gettime(clock, &t) == 0);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void do_read(void) {
    ssize_t n = read(0, text, 100);
    printf("read %.*s", (int)n, text);
}

static void do_poll(void) {
    struct pollfd p = {0, POLLIN, 0};
    int n = poll(&p, 1, 100000);
    char c = '?';
    if (p.revents & POLLIN) (void)!read(0, &c, 1);
    printf("polled %d %c\n", n, c);
}

// On more subscriptions than anyone has: standard input, which says nothing, and clocks, of which the second last is the first.
static void do_polls(void) {
    enum { COUNT = 64 };
    static struct { u64 userdata; uint8_t tag; union { u32 fd; struct { u32 id; u64 timeout, precision; uint16_t flags; } clock; }; }
        on[COUNT];
    static struct { u64 userdata; uint16_t error; uint8_t type; u64 rest[2]; } events[COUNT];
    _Static_assert(sizeof on[0] == 48 && sizeof events[0] == 32, "layout");
    int64_t start = now(CLOCK_MONOTONIC);
    for (u32 i = 0; i < COUNT; i++) {
        on[i].userdata = 1000 + i;
        on[i].clock.id = 1;
        on[i].clock.timeout = (i == COUNT - 2 ? 0 : (u64)(COUNT - i) * 60000000000) + 2500000000;
        // Every third a time, not a duration.
        if (i % 3 == 0) on[i].clock.timeout += (u64)start, on[i].clock.flags = 1;
    }
    on[5].tag = 1;
    on[5].fd = 0;
    u32 n = 0;
    CHECK(poll_oneoff(on, events, COUNT, &n) == OK);
    int64_t slept = now(CLOCK_MONOTONIC) - start;
    printf("%u of %d: %llu, %s\n", n, COUNT, (unsigned long long)events[0].userdata,
           slept < 2500000000 ? "too early" : slept > 4500000000 ? "too late" : "in time");
}

static void do_sleep(void) {
    int64_t start = now(CLOCK_MONOTONIC);
    struct timespec t = {2, 500000000};
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL) == 0);
    int64_t slept = now(CLOCK_MONOTONIC) - start;
    // The clock did not go back, and did not jump by the pause.
    printf("slept %s\n", slept < 2500000000 ? "too short" : slept > 4500000000 ? "too long" : "well");
}

// Until a time of day that is in the third argument, in nanoseconds.
static void do_until(int64_t deadline) {
    struct timespec t = {deadline / 1000000000, deadline % 1000000000};
    CHECK(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL) == 0);
    printf("woke %s\n", now(CLOCK_REALTIME) >= deadline ? "in time" : "early");
}

static void do_accept(void) {
    u32 c, n = 0;
    uint16_t flags;
    iovec_t iov = {text, 100};
    CHECK(sock_accept(3, 0, &c) == OK);
    printf("accepted\n");
    fflush(stdout);
    CHECK(sock_recv(c, &iov, 1, 0, &n, &flags) == OK);
    printf("received %.*s\n", (int)n, text);
    CHECK(fd_close(c) == OK);
}

// More than a pipe holds, in pieces of many sizes.
static void do_write(void) {
    static char all[400000];
    size_t len = 0;
    for (int i = 0; len + 16 < sizeof all; i++) len += (size_t)snprintf(all + len, 16, "%d\n", i);
    for (size_t at = 0, piece = 1; at < len; piece = piece * 3 % 70001) {
        size_t want = piece < len - at ? piece : len - at;
        ssize_t n = write(1, all + at, want);
        CHECK(n > 0 && (size_t)n <= want);
        at += (size_t)n;
    }
}

// CPU time and the monotonic clock only ever grow; the wall clock is the host's. Prints them after each line of input.
static void do_clocks(void) {
    while (read(0, text, 1) == 1) {
        for (volatile int i = 0; i < 20000000; i++) {}
        printf("clocks %lld %lld %lld\n", (long long)now(CLOCK_REALTIME), (long long)now(CLOCK_MONOTONIC),
               (long long)now(CLOCK_PROCESS_CPUTIME_ID));
        u64 drawn;
        CHECK(random_get(&drawn, 8) == OK);
        printf("drawn %llx\n", (unsigned long long)drawn);
        fflush(stdout);
    }
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    int files = argc > 2 && strcmp(argv[2], "files") == 0;
    if (files) before();
    if (strcmp(what, "write") != 0) printf("ready\n");
    fflush(stdout);
    if (strcmp(what, "read") == 0) do_read();
    else if (strcmp(what, "poll") == 0) do_poll();
    else if (strcmp(what, "polls") == 0) do_polls();
    else if (strcmp(what, "sleep") == 0) do_sleep();
    else if (strcmp(what, "until") == 0) do_until(atoll(argv[3]));
    else if (strcmp(what, "accept") == 0) do_accept();
    else if (strcmp(what, "write") == 0) do_write();
    else if (strcmp(what, "clocks") == 0) do_clocks();
    else return 2;
    if (files) after();
    return 0;
}
