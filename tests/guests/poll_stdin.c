//! Waiting for standard input with a timeout.
//! stdin: x
#include "guest.h"
#include <poll.h>
#include <unistd.h>

int main(void) {
    struct pollfd p = {0, POLLIN, 0};
    for (int i = 0; i < 3; i++) {
        // First the byte, then the end of the stream: readable both times.
        int n = poll(&p, 1, 2000);
        char c = '-';
        ssize_t got = n == 1 ? read(0, &c, 1) : -1;
        printf("%d %d %c\n", n, (int)got, c);
        work(2);
    }
}
