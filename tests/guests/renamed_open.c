//! A file renamed by the program itself while it is open: writing goes on in the renamed file.
//! dir
#include "guest.h"
#include <fcntl.h>
#include <unistd.h>

int main(void) {
    int fd = open(DATA "/before", O_RDWR | O_CREAT, 0644);
    CHECK(fd >= 0);
    CHECK(write(fd, "one ", 4) == 4);
    work(3);
    CHECK(rename(DATA "/before", DATA "/after") == 0);
    work(3);
    CHECK(write(fd, "two ", 4) == 4);
    int other = open(DATA "/before", O_WRONLY | O_CREAT, 0644);
    CHECK(other >= 0);
    work(3);
    CHECK(write(other, "new", 3) == 3);
    CHECK(write(fd, "three", 5) == 5);
    char text[16] = {0};
    CHECK(pread(fd, text, 15, 0) == 13);
    printf("%s\n", text);
}
