//! What is left of WASI: arguments, environment, clocks, random numbers, polling, signals, and sockets where there are none.
//! not-native
//! dir
//! file: text=0123456789
//! args: one two
//! env: A=1
//! stdout: fine
#include "wasi.h"

typedef struct {
    u64 userdata;
    uint8_t tag;
    union {
#ifdef UNSTABLE
        struct { u64 identifier; u32 id; u64 timeout, precision; uint16_t flags; } clock;
#else
        struct { u32 id; u64 timeout, precision; uint16_t flags; } clock;
#endif
        u32 fd;
    };
} subscription_t;
typedef struct { u64 userdata; uint16_t errno_; uint8_t type; u64 bytes; uint16_t flags; } event_t;
#ifdef UNSTABLE
_Static_assert(sizeof(subscription_t) == 56 && sizeof(event_t) == 32, "layout");
#else
_Static_assert(sizeof(subscription_t) == 48 && sizeof(event_t) == 32, "layout");
#endif

static subscription_t on_clock(u32 id, u64 timeout, uint16_t flags) {
    return (subscription_t){.userdata = 7, .tag = 0, .clock = {.id = id, .timeout = timeout, .flags = flags}};
}
static subscription_t on_fd(uint8_t tag, u32 fd) { return (subscription_t){.userdata = 8, .tag = tag, .fd = fd}; }

int main(void) {
    u32 count, size, n;
    u64 a, b;
    char *list[8], bytes[256];
    iovec_t iov = {bytes, 4};

    IS(OK, args_sizes_get(&count, &size));
    IS(OK, args_get(list, bytes));
    CHECK(count == 3 && size == strlen(list[0]) + 1 + 8);
    CHECK(strcmp(list[1], "one") == 0 && strcmp(list[2], "two") == 0);
    IS(FAULT, args_get(OUTSIDE, bytes));
    IS(FAULT, args_sizes_get(OUTSIDE + 14, &size));
    IS(OK, environ_sizes_get(&count, &size));
    CHECK(count == 1 && size == 4);
    IS(OK, environ_get(list, bytes));
    CHECK(strcmp(list[0], "A=1") == 0);
    IS(FAULT, environ_get(list, OUTSIDE + 14));
    IS(FAULT, environ_sizes_get(&count, OUTSIDE + 14));

    u64 last[4] = {0};
    for (int round = 0; round < 8; round++) {
        for (u32 id = 0; id < 4; id++) {
            IS(OK, clock_res_get(id, &a));
            CHECK(a > 0);
            IS(OK, clock_time_get(id, 1, &b));
            // None ever goes back, however often the program has moved.
            CHECK(b >= last[id]);
            last[id] = b;
        }
    }
    CHECK(last[0] > 1700000000000000000ull && last[1] < 600000000000ull);
    IS(INVAL, clock_time_get(4, 1, &a));
    IS(INVAL, clock_res_get(9, &a));
    IS(FAULT, clock_time_get(0, 1, OUTSIDE + 12));

    memset(bytes, 0, sizeof bytes);
    u64 drawn[16];
    for (int i = 0; i < 16; i++) {
        IS(OK, random_get(&drawn[i], 8));
        for (int j = 0; j < i; j++) CHECK(drawn[i] != drawn[j]);
    }
    IS(OK, random_get(bytes, 0));
    IS(FAULT, random_get(OUTSIDE, 99));
    IS(OK, wasi_yield());

    u32 f = NONE;
    IS(OK, path_open(ROOT, 0, S("text"), 0, RIGHT_READ | (1 << 27), 0, 0, &f));
    subscription_t subs[4];
    event_t events[4];
    IS(INVAL, poll_oneoff(subs, events, 0, &n));
    IS(OK, clock_time_get(1, 1, &a));
    subs[0] = on_clock(1, 3000000, 0);
    IS(OK, poll_oneoff(subs, events, 1, &n));
    IS(OK, clock_time_get(1, 1, &b));
    CHECK(n == 1 && events[0].userdata == 7 && events[0].errno_ == 0 && b - a >= 3000000);
    IS(OK, clock_time_get(0, 1, &a));
    subs[0] = on_clock(0, a + 3000000, 1);
    IS(OK, poll_oneoff(subs, events, 1, &n));
    IS(OK, clock_time_get(0, 1, &b));
    CHECK(n == 1 && b >= a + 3000000);
    subs[0] = on_fd(1, f);
    subs[1] = on_fd(1, NONE);
    subs[2] = on_clock(2, 1, 0);
    subs[3] = on_clock(9, 1, 0);
    IS(OK, poll_oneoff(subs, events, 4, &n));
    CHECK(n == 4 && events[0].errno_ == 0 && events[0].bytes == 10 && events[1].errno_ == BADF);
    CHECK(events[2].errno_ == NOTSUP && events[3].errno_ == INVAL);
    subs[0] = on_clock(1, 1, 2);
    IS(OK, poll_oneoff(subs, events, 1, &n));
    CHECK(n == 1 && events[0].errno_ == INVAL);
    subs[0] = on_fd(3, f);
    IS(INVAL, poll_oneoff(subs, events, 1, &n));
    IS(FAULT, poll_oneoff(OUTSIDE, events, 1, &n));
    IS(FAULT, poll_oneoff(subs, OUTSIDE, 1, &n));
    IS(FAULT, poll_oneoff(subs, events, 0xffffffffu, &n));

    uint16_t flags;
#ifndef UNSTABLE
    u32 c;
    IS(NOTSOCK, sock_accept(f, 0, &c));
    IS(BADF, sock_accept(NONE, 0, &c));
#endif
    IS(NOTSOCK, sock_recv(f, &iov, 1, 0, &n, &flags));
    IS(BADF, sock_recv(NONE, &iov, 1, 0, &n, &flags));
    IS(NOTSOCK, sock_send(f, &iov, 1, 0, &n));
    IS(BADF, sock_send(NONE, &iov, 1, 0, &n));
    IS(NOTSOCK, sock_shutdown(f, 3));
    IS(BADF, sock_shutdown(NONE, 3));

    IS(OK, proc_raise(0));
    IS(OK, proc_raise(16));
    IS(NOTSUP, proc_raise(18));
    IS(INVAL, proc_raise(99));
    printf("fine\n");
    fflush(stdout);
    proc_exit(0);
}
