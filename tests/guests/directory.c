//! A directory half read: the rest must come, nothing twice.
//! dir
#include "guest.h"
#include <dirent.h>
#include <sys/stat.h>

int main(void) {
    char name[64];
    CHECK(mkdir(DATA "/d", 0755) == 0);
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof name, DATA "/d/entry-%02d", i);
        FILE *f = fopen(name, "w");
        CHECK(f != NULL);
        fprintf(f, "%d", i);
        CHECK(fclose(f) == 0);
    }
    DIR *d = opendir(DATA "/d");
    CHECK(d != NULL);
    int seen = 0, count = 0;
    for (struct dirent *e; (e = readdir(d)); work(2)) {
        if (e->d_name[0] == '.') continue;
        int i = atoi(e->d_name + 6);
        CHECK(!(seen >> i & 1));
        seen |= 1 << i;
        count++;
    }
    rewinddir(d);
    CHECK(readdir(d) != NULL);
    CHECK(closedir(d) == 0);
    printf("%d %x\n", count, (unsigned)seen);
}
