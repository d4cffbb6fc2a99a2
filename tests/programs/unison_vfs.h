// SQLite's file layer for the unison campaign, for WASI and the machine's own system alike: whole (truncation included), without
// clock and chance, patient with a full disk. One process has a database at a time, so nothing is locked.
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "sqlite3.h"
#include "unison_full.h"

typedef struct {
    sqlite3_file base;
    int fd;
    int delete_on_close;
    char path[256];
} File;

static int vfs_close(sqlite3_file *f) {
    File *p = (File *)f;
    close(p->fd);
    if (p->delete_on_close) unlink(p->path);
    return SQLITE_OK;
}

static int vfs_read(sqlite3_file *f, void *to, int len, sqlite3_int64 at) {
    File *p = (File *)f;
    int got = 0;
    while (got < len) {
        ssize_t n = pread(p->fd, (char *)to + got, (size_t)(len - got), at + got);
        if (n < 0) return SQLITE_IOERR_READ;
        if (n == 0) break;
        got += (int)n;
    }
    memset((char *)to + got, 0, (size_t)(len - got));
    return got == len ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int vfs_write(sqlite3_file *f, const void *from, int len, sqlite3_int64 at) {
    File *p = (File *)f;
    while (len > 0) {
        ssize_t n = pwrite(p->fd, from, (size_t)len, at);
        if (n < 0) {
            if (no_room("pwrite")) continue;
            return SQLITE_IOERR_WRITE;
        }
        from = (const char *)from + n;
        len -= (int)n;
        at += n;
    }
    return SQLITE_OK;
}

static int vfs_truncate(sqlite3_file *f, sqlite3_int64 size) {
    File *p = (File *)f;
    while (ftruncate(p->fd, size) != 0)
        if (!no_room("ftruncate")) return SQLITE_IOERR_TRUNCATE;
    return SQLITE_OK;
}

static int vfs_sync(sqlite3_file *f, int flags) {
    File *p = (File *)f;
    (void)flags;
    while (fsync(p->fd) != 0)
        if (!no_room("fsync")) return SQLITE_IOERR_FSYNC;
    return SQLITE_OK;
}

static int vfs_size(sqlite3_file *f, sqlite3_int64 *size) {
    struct stat s;
    if (fstat(((File *)f)->fd, &s) != 0) return SQLITE_IOERR_FSTAT;
    *size = s.st_size;
    return SQLITE_OK;
}

static int vfs_lock(sqlite3_file *f, int level) {
    (void)f, (void)level;
    return SQLITE_OK;
}

static int vfs_reserved(sqlite3_file *f, int *is) {
    (void)f;
    *is = 0;
    return SQLITE_OK;
}

static int vfs_control(sqlite3_file *f, int op, void *arg) {
    (void)f, (void)op, (void)arg;
    return SQLITE_NOTFOUND;
}

static int vfs_zero(sqlite3_file *f) {
    (void)f;
    return 0;
}

// Version 1: no shared memory. WAL needs the exclusive locking mode then.
static const sqlite3_io_methods vfs_methods = {
    .iVersion = 1,
    .xClose = vfs_close,
    .xRead = vfs_read,
    .xWrite = vfs_write,
    .xTruncate = vfs_truncate,
    .xSync = vfs_sync,
    .xFileSize = vfs_size,
    .xLock = vfs_lock,
    .xUnlock = vfs_lock,
    .xCheckReservedLock = vfs_reserved,
    .xFileControl = vfs_control,
    .xSectorSize = vfs_zero,
    .xDeviceCharacteristics = vfs_zero,
};

static int vfs_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out) {
    File *p = (File *)f;
    (void)v;
    memset(p, 0, sizeof *p);
    if (!name || strlen(name) >= sizeof p->path) return SQLITE_CANTOPEN;
    int how = flags & SQLITE_OPEN_READWRITE ? O_RDWR : O_RDONLY;
    if (flags & SQLITE_OPEN_CREATE) how |= O_CREAT;
    if (flags & SQLITE_OPEN_EXCLUSIVE) how |= O_EXCL;
    while ((p->fd = open(name, how, 0600)) < 0)
        if (!no_room("open")) return SQLITE_CANTOPEN;
    strcpy(p->path, name);
    p->delete_on_close = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
    if (out) *out = flags;
    p->base.pMethods = &vfs_methods;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *v, const char *name, int sync) {
    (void)v, (void)sync;
    while (unlink(name) != 0) {
        if (errno == ENOENT) return SQLITE_IOERR_DELETE_NOENT;
        if (!no_room("unlink")) return SQLITE_IOERR_DELETE;
    }
    return SQLITE_OK;
}

static int vfs_access(sqlite3_vfs *v, const char *name, int flags, int *is) {
    struct stat s;
    (void)v, (void)flags;
    *is = stat(name, &s) == 0;
    return SQLITE_OK;
}

static int vfs_path(sqlite3_vfs *v, const char *name, int room, char *out) {
    (void)v;
    sqlite3_snprintf(room, out, "%s", name);
    return SQLITE_OK;
}

static int vfs_random(sqlite3_vfs *v, int len, char *out) {
    static uint32_t x = 12345;
    (void)v;
    for (int i = 0; i < len; i++) out[i] = (char)((x = x * 1664525 + 1013904223) >> 24);
    return len;
}

static int vfs_sleep(sqlite3_vfs *v, int us) {
    (void)v;
    return us;
}

static int vfs_time(sqlite3_vfs *v, double *now) {
    (void)v;
    *now = 2460000.5;
    return SQLITE_OK;
}

static int vfs_error(sqlite3_vfs *v, int len, char *text) {
    (void)v, (void)len, (void)text;
    return errno;
}

int sqlite3_os_init(void) {
    static sqlite3_vfs vfs = {
        .iVersion = 1,
        .szOsFile = sizeof(File),
        .mxPathname = 250,
        .zName = "unison",
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_path,
        .xRandomness = vfs_random,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_time,
        .xGetLastError = vfs_error,
    };
    return sqlite3_vfs_register(&vfs, 1);
}

int sqlite3_os_end(void) { return SQLITE_OK; }
