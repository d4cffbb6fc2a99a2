//! Making, renaming, linking and removing files and directories while others are open.
//! dir
//! file: old=content of old
#include "guest.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void) {
    struct stat st;
    CHECK(mkdir(DATA "/sub", 0755) == 0);
    CHECK(mkdir(DATA "/sub", 0755) == -1 && errno == EEXIST);
    work(3);
    CHECK(rename(DATA "/old", DATA "/sub/new") == 0);
    CHECK(stat(DATA "/old", &st) == -1 && errno == ENOENT);
    CHECK(stat(DATA "/sub/new", &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 14);
    work(3);
    CHECK(rmdir(DATA "/sub") == -1 && errno == ENOTEMPTY);
    int fd = open(DATA "/sub/new", O_RDONLY);
    CHECK(fd >= 0);
    char text[8] = {0};
    CHECK(read(fd, text, 7) == 7);
    work(3);
    CHECK(fstat(fd, &st) == 0 && st.st_size == 14);
    FILE *f = fopen(DATA "/keep", "w+");
    CHECK(f != NULL);
    fprintf(f, "kept");
    CHECK(fflush(f) == 0);
    CHECK(stat(DATA "/sub", &st) == 0 && S_ISDIR(st.st_mode));
    CHECK(unlink(DATA "/nothing") == -1 && errno == ENOENT);
    CHECK(open(DATA "/../outside", O_RDONLY) == -1);
    CHECK(close(fd) == 0);
    CHECK(unlink(DATA "/sub/new") == 0);
    CHECK(rmdir(DATA "/sub") == 0);
    work(3);
    fprintf(f, " to the end");
    fclose(f);
    printf("%s\n", text);
}
