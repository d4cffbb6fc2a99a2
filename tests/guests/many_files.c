//! A descriptor table with holes: many files open, some closed, the rest must keep their numbers and offsets.
//! dir
#include "guest.h"
#include <fcntl.h>
#include <unistd.h>

int main(void) {
    int fd[10];
    char name[64];
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof name, DATA "/f%d", i);
        fd[i] = open(name, O_RDWR | O_CREAT | (i % 3 ? 0 : O_APPEND), 0644);
        CHECK(fd[i] >= 0);
        CHECK(write(fd[i], name + strlen(name) - 2, 2) == 2);
    }
    for (int i = 1; i < 10; i += 3) { CHECK(close(fd[i]) == 0); work(2); }
    for (int i = 0; i < 10; i++) {
        ssize_t n = write(fd[i], "more", 4);
        printf("%d", (int)n);
        work(1);
    }
    printf("\n");
    for (int i = 0; i < 10; i++) if (i % 3 != 1) printf("%d ", (int)lseek(fd[i], 0, SEEK_CUR));
    printf("\n");
}
