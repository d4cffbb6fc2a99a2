//! Append mode: every write goes to the end, whatever was read or truncated in between.
//! dir
//! file: journal=first line\n
#include "guest.h"
#include <fcntl.h>
#include <unistd.h>

int main(void) {
    int a = open(DATA "/journal", O_WRONLY | O_APPEND);
    int b = open(DATA "/journal", O_WRONLY | O_APPEND);
    int r = open(DATA "/journal", O_RDONLY);
    CHECK(a >= 0 && b >= 0 && r >= 0);
    char text[32];
    for (int i = 0; i < 12; i++) {
        int n = snprintf(text, sizeof text, "line %d\n", i);
        work(2);
        CHECK(write(i & 1 ? b : a, text, (size_t)n) == n);
        work(2);
        CHECK(read(r, text, 3) == 3);
    }
    printf("%lld %.3s\n", (long long)lseek(r, 0, SEEK_CUR), text);
}
