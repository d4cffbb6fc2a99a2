// Standard streams that are sockets or closed pipes, too many files, and connections: what is not a file, with every errno that
// matters. The exit code is 0 if all is as it should be; else the line says on standard error why not.
#include "../guests/wasi.h"
#undef IS
#define IS(expected, call)                                                                                                         \
    do {                                                                                                                           \
        work(1);                                                                                                                   \
        int got = (call);                                                                                                          \
        if (got != (expected)) {                                                                                                   \
            fprintf(stderr, "line %d: errno %d, not %d: %s\n", __LINE__, got, (int)(expected), #call);                             \
            exit(70);                                                                                                              \
        }                                                                                                                          \
    } while (0)
#undef CHECK
#define CHECK(cond) IS(1, !!(cond))

enum { PEEK = 1, WAITALL = 2, RD = 1, WR = 2 };
static char bytes[64];
static uint16_t flags;
static u32 n;

static iovec_t buffer(u32 len) { return (iovec_t){memset(bytes, 0, sizeof bytes), len}; }

// Descriptors 0 and 1 are one connected socket. The other end sends "abc", "def" a little later, and ends; it wants "reply".
static void on_stdio(void) {
    iovec_t iov = buffer(2);
    IS(OK, sock_recv(0, &iov, 1, PEEK, &n, &flags));
    CHECK(n == 2 && memcmp(bytes, "ab", 2) == 0);
    iovec_t two[] = {{bytes, 4}, {bytes + 10, 2}};
    IS(OK, sock_recv(0, two, 2, WAITALL, &n, &flags));
    CHECK(n == 6 && memcmp(bytes, "abcd", 4) == 0 && memcmp(bytes + 10, "ef", 2) == 0);
    IS(INVAL, sock_recv(0, &iov, 1, 4, &n, &flags));
    IS(FAULT, sock_recv(0, OUTSIDE, 9, 0, &n, &flags));
    IS(BADF, sock_recv(1, &iov, 1, 0, &n, &flags));
    iov = (iovec_t){"rep", 3};
    IS(OK, sock_send(1, &iov, 1, 0, &n));
    iov = (iovec_t){"ly", 2};
    IS(OK, fd_write(1, &iov, 1, &n));
    IS(INVAL, sock_send(1, &iov, 1, 1, &n));
    IS(BADF, sock_send(0, &iov, 1, 0, &n));
    IS(FAULT, sock_send(1, &iov, 1, 0, OUTSIDE + 14));
    IS(INVAL, sock_shutdown(1, 0));
    IS(INVAL, sock_shutdown(1, 4));
    IS(OK, sock_shutdown(1, WR));
    IS(PIPE, sock_send(1, &iov, 1, 0, &n));
    IS(PIPE, fd_write(1, &iov, 1, &n));
    iov = buffer(9);
    IS(OK, sock_recv(0, &iov, 1, 0, &n, &flags));
    CHECK(n == 0);
    IS(OK, fd_read(0, &iov, 1, &n));
    CHECK(n == 0);
    IS(OK, sock_shutdown(0, RD));
}

// Nobody reads standard output.
static void on_closed_pipe(void) {
    iovec_t iov = {"x", 1};
    IS(PIPE, fd_write(1, &iov, 1, &n));
    IS(PIPE, fd_write(1, &iov, 1, &n));
    IS(OK, fd_close(1));
    IS(BADF, fd_write(1, &iov, 1, &n));
}

// Standard input is at its end, and stays there.
static void at_the_end(void) {
    iovec_t iov = buffer(9);
    struct { u64 userdata; uint8_t tag; __attribute__((aligned(8))) u32 fd; u64 rest[3]; } one = {7, 1, 0, {0}};
    struct { u64 userdata; uint16_t error; uint8_t type; u64 len; u64 more; } event;
    _Static_assert(sizeof one == 48 && sizeof event == 32, "layout");
    for (int i = 0; i < 3; i++) {
        IS(OK, poll_oneoff(&one, &event, 1, &n));
        CHECK(n == 1 && event.userdata == 7 && event.error == 0);
        IS(OK, fd_read(0, &iov, 1, &n));
        CHECK(n == 0);
    }
}

// The machine allows only a few open files.
static void too_many(void) {
    u32 opened[100], count = 0, fd = NONE;
    int e;
    while ((e = path_open(ROOT, 0, S("text"), 0, RIGHT_READ, 0, 0, &fd)) == 0 && count < 100) opened[count++] = fd;
    IS(MFILE, e);
    CHECK(count > 5);
    IS(OK, fd_close(opened[2]));
    IS(OK, path_open(ROOT, 0, S("text"), 0, RIGHT_READ, 0, 0, &fd));
    CHECK(fd == opened[2]);
    while (count) IS(OK, fd_close(opened[--count]));
}

// Descriptor 3 listens. The first connection is echoed and closed by us, then a second one is reset by the other end.
static void on_connections(void) {
    u32 c = NONE;
    iovec_t iov = buffer(5);
    IS(INVAL, sock_accept(3, 1, &c));
    IS(OK, fd_fdstat_set_flags(3, NONBLOCK));
    IS(AGAIN, sock_accept(3, 0, &c));
    IS(OK, fd_fdstat_set_flags(3, 0));
    IS(NOTCAPABLE, sock_shutdown(3, WR));
    IS(BADF, sock_recv(3, &iov, 1, 0, &n, &flags));
    fprintf(stderr, "ready\n");
    IS(OK, sock_accept(3, NONBLOCK, &c));
    IS(AGAIN, sock_recv(c, &iov, 1, 0, &n, &flags));
    IS(OK, fd_fdstat_set_flags(c, 0));
    fprintf(stderr, "accepted\n");
    IS(OK, sock_recv(c, &iov, 1, WAITALL, &n, &flags));
    CHECK(n == 5);
    IS(OK, sock_send(c, &iov, 1, 0, &n));
    IS(SPIPE, fd_seek(c, 0, FROM_START, &(u64){0}));
    IS(OK, fd_close(c));
    IS(OK, sock_accept(3, 0, &c));
    // The other end is gone: an error or the end, never a signal.
    int e = 0;
    for (int i = 0; i < 1000 && e == 0; i++) e = sock_send(c, &iov, 1, 0, &n), wasi_yield();
    CHECK(e == PIPE || e == 15);
    IS(OK, fd_close(c));
}

// Sends numbers, with both functions, in pieces of many sizes, to a reader that is slow.
static void flood(void) {
    static char all[16000000];
    size_t len = 0;
    for (int i = 0; len + 16 < sizeof all; i++) len += (size_t)snprintf(all + len, 16, "%d\n", i);
    u32 c = NONE;
    fprintf(stderr, "ready\n");
    IS(OK, sock_accept(3, 0, &c));
    size_t piece = 1;
    for (size_t at = 0; at < len; piece = piece * 3 % 700001) {
        iovec_t iov = {all + at, (u32)(piece < len - at ? piece : len - at)};
        IS(OK, piece % 2 ? sock_send(c, &iov, 1, 0, &n) : fd_write(c, &iov, 1, &n));
        CHECK(n > 0 && n <= iov.len);
        at += n;
    }
    IS(OK, fd_close(c));
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "stdio") == 0) on_stdio();
    else if (strcmp(what, "closed") == 0) on_closed_pipe();
    else if (strcmp(what, "end") == 0) at_the_end();
    else if (strcmp(what, "many") == 0) too_many();
    else if (strcmp(what, "connections") == 0) on_connections();
    else if (strcmp(what, "flood") == 0) flood();
    else return 2;
    return 0;
}
