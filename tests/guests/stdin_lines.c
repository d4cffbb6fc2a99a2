//! Standard input through a pipe, read bit by bit.
//! stdin: alpha\nbeta gamma\n\ndelta\nlast without end
#include "guest.h"
#include <unistd.h>

int main(void) {
    char line[64];
    // Unbuffered: what was not read yet stays in the pipe.
    int n = 0, len = 0;
    for (;;) {
        char c;
        ssize_t got = read(0, &c, 1);
        CHECK(got >= 0);
        if (got == 0 || c == '\n') {
            line[len] = 0;
            printf("%d:%s\n", ++n, line);
            len = 0;
            if (got == 0) break;
        } else {
            line[len++] = c;
        }
    }
}
