//! A file written in pieces, then read in pieces: the offset is state.
//! dir
#include "guest.h"
#include <fcntl.h>
#include <unistd.h>

int main(void) {
    int fd = open(DATA "/log", O_RDWR | O_CREAT | O_TRUNC, 0644);
    CHECK(fd >= 0);
    char text[32];
    for (int i = 0; i < 30; i++) {
        int n = snprintf(text, sizeof text, "record %d;", i);
        CHECK(write(fd, text, (size_t)n) == n);
        work(2);
    }
    printf("at %lld\n", (long long)lseek(fd, 0, SEEK_CUR));
    CHECK(lseek(fd, 5, SEEK_SET) == 5);
    uint64_t h = 0;
    ssize_t n;
    while ((n = read(fd, text, 7)) > 0) {
        for (ssize_t i = 0; i < n; i++) h = mix(h, (unsigned char)text[i]);
        work(1);
    }
    CHECK(n == 0);
    printf("%016" PRIx64 "\n", h);
    CHECK(close(fd) == 0);
}
