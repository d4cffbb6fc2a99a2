//! Files open in every mode at once, and a directory half read, used in turn with moves in between.
//! dir
//! file: input=the quick brown fox jumps over the lazy dog\n
//! file: both=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
//! file: log=first\n
#include "guest.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void) {
    int r = open(DATA "/input", O_RDONLY);
    int w = open(DATA "/output", O_WRONLY | O_CREAT | O_EXCL, 0644);
    int rw = open(DATA "/both", O_RDWR);
    int append = open(DATA "/log", O_WRONLY | O_APPEND);
    int sync = open(DATA "/sync", O_RDWR | O_CREAT | O_SYNC, 0600);
    int nonblock = open(DATA "/input", O_RDONLY | O_NONBLOCK);
    int gone = open(DATA "/gone", O_RDWR | O_CREAT, 0600);
    int again = open(DATA "/gone", O_RDONLY);
    int trunc = open(DATA "/log2", O_RDWR | O_CREAT | O_TRUNC, 0644);
    CHECK(r >= 0 && w >= 0 && rw >= 0 && append >= 0 && sync >= 0 && nonblock >= 0 && gone >= 0 && again >= 0 && trunc >= 0);
    CHECK(unlink(DATA "/gone") == 0);
    CHECK(mkdir(DATA "/d", 0755) == 0);
    for (char name[] = DATA "/d/a"; name[sizeof name - 2] < 'i'; name[sizeof name - 2]++) {
        int fd = open(name, O_WRONLY | O_CREAT, 0644);
        CHECK(fd >= 0 && write(fd, name + sizeof name - 2, 1) == 1 && close(fd) == 0);
    }
    CHECK(link(DATA "/output", DATA "/d/a second name") == 0);
    DIR *d = opendir(DATA "/d");
    CHECK(d != NULL);
    char text[64];
    int entries = 0;
    for (int i = 0; i < 10; i++) {
        work(1);
        CHECK(read(r, text, 3) == 3);
        work(1);
        CHECK(write(w, text, 3) == 3);
        CHECK(lseek(rw, 2 * i, SEEK_SET) == 2 * i && write(rw, text, 1) == 1 && read(rw, text + 3, 1) == 1);
        work(1);
        CHECK(write(append, text, 4) == 4);
        CHECK(pwrite(sync, text, 4, 3 * i) == 4);
        CHECK(read(nonblock, text + 4, 2) == 2);
        work(1);
        CHECK(write(gone, text, 6) == 6);
        CHECK(read(again, text + 8, 4) == 4 && memcmp(text + 8, i ? text + 8 : text, 4) == 0);
        CHECK(write(trunc, text + 8, 4) == 4);
        struct dirent *e = readdir(d);
        if (e && e->d_name[0] != '.') entries++;
        printf("%d %.6s %.4s\n", i, text, text + 8);
        fflush(stdout);
    }
    for (; readdir(d); entries++) work(1);
    struct stat st;
    CHECK(fstat(gone, &st) == 0 && st.st_nlink == 0 && st.st_size == 60);
    CHECK(fstat(w, &st) == 0 && st.st_nlink == 2);
    CHECK(fcntl(append, F_GETFL) & O_APPEND);
    CHECK(fcntl(nonblock, F_GETFL) & O_NONBLOCK);
    CHECK((fcntl(r, F_GETFL) & (O_APPEND | O_NONBLOCK)) == 0);
    printf("%d entries, at %lld %lld %lld %lld\n", entries, (long long)lseek(r, 0, SEEK_CUR), (long long)lseek(w, 0, SEEK_CUR),
           (long long)lseek(rw, 0, SEEK_CUR), (long long)lseek(again, 0, SEEK_CUR));
}
