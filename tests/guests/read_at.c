//! Reads and writes at offsets, beyond the end, and truncation.
//! dir
#include "guest.h"
#include <fcntl.h>
#include <unistd.h>

int main(void) {
    int fd = open(DATA "/blocks", O_RDWR | O_CREAT | O_EXCL, 0644);
    CHECK(fd >= 0);
    unsigned char block[64];
    for (int i = 9; i >= 0; i--) {
        memset(block, 'A' + i, sizeof block);
        CHECK(pwrite(fd, block, sizeof block, i * 100) == sizeof block);
        work(2);
    }
    CHECK(lseek(fd, 0, SEEK_CUR) == 0);
    uint64_t h = 0;
    for (int i = 0; i < 10; i++) {
        CHECK(pread(fd, block, 20, i * 90) == 20);
        for (int j = 0; j < 20; j++) h = mix(h, block[j]);
        work(1);
    }
    CHECK(ftruncate(fd, 333) == 0);
    work(2);
    CHECK(lseek(fd, -3, SEEK_END) == 330);
    CHECK(read(fd, block, 10) == 3);
    CHECK(read(fd, block, 10) == 0);
    CHECK(open(DATA "/blocks", O_RDWR | O_CREAT | O_EXCL, 0644) == -1);
    printf("%016" PRIx64 " %c%c%c\n", h, block[0], block[1], block[2]);
}
