// Programs that write files, for the price of the undo journal: `writer WHAT DIR COUNT`. Prints nanoseconds at the end.
// - inserts: COUNT rows into SQLite, 100 to a transaction, with a rollback journal;
// - wal: the same with a write-ahead log;
// - log: COUNT lines, each appended at once;
// - overwrite: COUNT blocks of 4 KiB at random places of DIR/large, which is there;
// - create: COUNT files written aside and renamed over one of 64.
#include "../../tests/programs/unison_vfs.h"

static const char *dir;
static char path[512], other[512];
static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void must(int good, const char *what) {
    if (good) return;
    fprintf(stderr, "writer: %s failed with error %d\n", what, errno);
    exit(1);
}

static void sql(sqlite3 *db, const char *text) {
    if (sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK) return;
    fprintf(stderr, "writer: %s: %s\n", text, sqlite3_errmsg(db));
    exit(1);
}

static void inserts(long count, int wal) {
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/test.db", dir);
    must(sqlite3_open(path, &db) == SQLITE_OK, "open");
    sql(db, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA synchronous=NORMAL; PRAGMA cache_size=500");
    sql(db, wal ? "PRAGMA journal_mode=WAL" : "PRAGMA journal_mode=DELETE");
    sql(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, n INT); CREATE INDEX by_n ON t(n)");
    sqlite3_stmt *s;
    must(sqlite3_prepare_v2(db, "INSERT INTO t(name, n) VALUES(?, ?)", -1, &s, NULL) == SQLITE_OK, "prepare");
    for (long i = 0; i < count; i++) {
        if (i % 100 == 0) sql(db, "BEGIN");
        char name[64];
        snprintf(name, sizeof name, "somebody called %u", rnd(1000000));
        sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
        sqlite3_bind_int(s, 2, (int)rnd(1000000));
        must(sqlite3_step(s) == SQLITE_DONE, "insert");
        sqlite3_reset(s);
        if (i % 100 == 99 || i + 1 == count) sql(db, "COMMIT");
    }
    sqlite3_finalize(s);
    must(sqlite3_close(db) == SQLITE_OK, "close");
}

static void lines(long count) {
    snprintf(path, sizeof path, "%s/log", dir);
    FILE *f = fopen(path, "a");
    must(f != NULL, "open");
    for (long i = 0; i < count; i++) {
        work(2000);
        fprintf(f, "%ld: something has happened, and its number is %08x; that is all there is to say\n", i, worked);
        must(fflush(f) == 0, "write");
    }
    fclose(f);
}

static void overwrite(long count) {
    static unsigned char block[4096];
    struct stat s;
    snprintf(path, sizeof path, "%s/large", dir);
    int fd = open(path, O_RDWR);
    must(fd >= 0 && fstat(fd, &s) == 0 && s.st_size >= 4096, "open");
    for (long i = 0; i < count; i++) {
        work(2000);
        memcpy(block, &worked, sizeof worked);
        must(pwrite(fd, block, sizeof block, (int64_t)rnd((uint32_t)(s.st_size / 4096)) * 4096) == sizeof block, "write");
    }
    close(fd);
}

static void create(long count) {
    static char text[3000];
    for (long i = 0; i < count; i++) {
        work(2000);
        memset(text, 'a' + (int)(i % 26), sizeof text);
        snprintf(path, sizeof path, "%s/aside", dir);
        snprintf(other, sizeof other, "%s/file-%u", dir, rnd(64));
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
        must(fd >= 0 && write(fd, text, sizeof text) == sizeof text && close(fd) == 0, "write");
        must(rename(path, other) == 0, "rename");
    }
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    dir = argv[2];
    long count = atol(argv[3]);
    int64_t begin = now();
    if (!strcmp(argv[1], "inserts")) inserts(count, 0);
    else if (!strcmp(argv[1], "wal")) inserts(count, 1);
    else if (!strcmp(argv[1], "log")) lines(count);
    else if (!strcmp(argv[1], "overwrite")) overwrite(count);
    else if (!strcmp(argv[1], "create")) create(count);
    else return 2;
    printf("%lld\n", (long long)(now() - begin));
}
