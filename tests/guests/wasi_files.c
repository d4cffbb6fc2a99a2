//! The `fd_*` functions of WASI on files: each, with every errno that matters.
//! not-native
//! dir
//! file: text=0123456789
//! stdout: fine
#include "wasi.h"

int main(void) {
    u32 n = 0, fd;
    u64 at = 0, stat[8];
    uint8_t fdstat[24];
    char bytes[32];
    iovec_t iov = {bytes, 4}, bad = {OUTSIDE, 32};
    u32 f = open_at(ROOT, "text", 0, RIGHT_READ | RIGHT_WRITE, 0);
    u32 r = open_at(ROOT, "text", 0, RIGHT_READ, 0), w = open_at(ROOT, "text", 0, RIGHT_WRITE, 0);
    u32 d = open_at(ROOT, ".", DIRECTORY, 0, 0);

    // Reading and writing.
    IS(OK, fd_read(f, &iov, 1, &n));
    CHECK(n == 4 && memcmp(bytes, "0123", 4) == 0);
    IS(OK, fd_pread(f, &iov, 1, 8, &n));
    CHECK(n == 2 && memcmp(bytes, "89", 2) == 0);
    IS(OK, fd_pread(f, &iov, 1, 100, &n));
    CHECK(n == 0);
    IS(OK, fd_read(f, &iov, 0, &n));
    CHECK(n == 0);
    IS(BADF, fd_read(NONE, &iov, 1, &n));
    IS(BADF, fd_read(w, &iov, 1, &n));
    IS(ISDIR, fd_read(d, &iov, 1, &n));
    IS(FAULT, fd_read(f, &bad, 1, &n));
    IS(FAULT, fd_read(f, OUTSIDE, 9, &n));
    IS(FAULT, fd_read(f, &iov, 1, OUTSIDE + 14));
    IS(BADF, fd_pread(w, &iov, 1, 0, &n));
    IS(ISDIR, fd_pread(d, &iov, 1, 0, &n));
    IS(INVAL, fd_pread(f, &iov, 1, UINT64_MAX, &n));
    memcpy(bytes, "WXYZ", 4);
    IS(OK, fd_write(f, &iov, 1, &n));
    CHECK(n == 4);
    IS(OK, fd_pwrite(f, &iov, 1, 0, &n));
    IS(BADF, fd_write(r, &iov, 1, &n));
    IS(BADF, fd_write(NONE, &iov, 1, &n));
    IS(ISDIR, fd_write(d, &iov, 1, &n));
    IS(FAULT, fd_write(f, &bad, 1, &n));
    IS(BADF, fd_pwrite(r, &iov, 1, 0, &n));
    IS(ISDIR, fd_pwrite(d, &iov, 1, 0, &n));
    IS(INVAL, fd_pwrite(f, &iov, 1, 1ull << 63, &n));

    // Positions.
    IS(OK, fd_tell(f, &at));
    CHECK(at == 8);
    IS(OK, fd_seek(f, -2, FROM_HERE, &at));
    CHECK(at == 6);
    IS(OK, fd_seek(f, -1, FROM_END, &at));
    CHECK(at == 9);
    IS(INVAL, fd_seek(f, -1, FROM_START, &at));
    IS(INVAL, fd_seek(f, 0, 3, &at));
    IS(INVAL, fd_seek(f, -100, FROM_HERE, &at));
    IS(BADF, fd_seek(NONE, 0, FROM_START, &at));
    IS(ISDIR, fd_seek(d, 0, FROM_START, &at));
    IS(SPIPE, fd_seek(1, 0, FROM_START, &at));
    IS(FAULT, fd_seek(f, 0, FROM_START, OUTSIDE + 12));
    IS(BADF, fd_tell(NONE, &at));
    IS(SPIPE, fd_tell(1, &at));

    // Attributes, size and space.
    IS(OK, fd_filestat_get(f, stat));
    CHECK(SIZE(stat) == 10 && TYPE(stat) == 4 && LINKS(stat) == 1);
    IS(BADF, fd_filestat_get(NONE, stat));
    IS(FAULT, fd_filestat_get(f, OUTSIDE));
    IS(OK, fd_filestat_set_size(f, 6));
    IS(INVAL, fd_filestat_set_size(f, 1ull << 63));
    IS(NOTCAPABLE, fd_filestat_set_size(r, 0));
    IS(BADF, fd_filestat_set_size(NONE, 0));
    IS(ISDIR, fd_filestat_set_size(d, 0));
    IS(OK, fd_filestat_set_times(f, 1000000001, 2000000002, 1 | 4));
    IS(OK, fd_filestat_get(f, stat));
    CHECK(ACCESSED(stat) == 1000000001 && MODIFIED(stat) == 2000000002 && SIZE(stat) == 6);
    IS(OK, fd_filestat_set_times(f, 0, 0, 2 | 8));
    IS(INVAL, fd_filestat_set_times(f, 0, 0, 1 | 2));
    IS(INVAL, fd_filestat_set_times(f, 0, 0, 16));
    IS(BADF, fd_filestat_set_times(NONE, 0, 0, 2));
    IS(OK, fd_allocate(f, 0, 20));
    IS(INVAL, fd_allocate(f, 0, 0));
    IS(NOTCAPABLE, fd_allocate(r, 0, 20));
    IS(BADF, fd_allocate(NONE, 0, 20));
    IS(ISDIR, fd_allocate(d, 0, 20));
    IS(OK, fd_advise(f, 0, 10, 0));
    IS(INVAL, fd_advise(f, 0, 10, 9));
    IS(BADF, fd_advise(NONE, 0, 10, 0));
    IS(ISDIR, fd_advise(d, 0, 10, 0));
    IS(SPIPE, fd_advise(1, 0, 10, 0));
    IS(OK, fd_sync(f));
    IS(OK, fd_datasync(f));
    IS(OK, fd_sync(d));
    IS(BADF, fd_sync(NONE));
    IS(BADF, fd_datasync(NONE));
    IS(INVAL, fd_sync(1));

    // Flags and rights: they can only become fewer.
    IS(OK, fd_fdstat_get(f, fdstat));
    CHECK(fdstat[0] == 4 && fdstat[2] == 0);
    IS(BADF, fd_fdstat_get(NONE, fdstat));
    IS(FAULT, fd_fdstat_get(f, OUTSIDE));
    IS(OK, fd_fdstat_set_flags(f, APPEND | NONBLOCK));
    IS(OK, fd_fdstat_get(f, fdstat));
    CHECK(fdstat[2] == (APPEND | NONBLOCK));
    put(f, "end");
    IS(OK, fd_tell(f, &at));
    CHECK(at == 23);
    IS(OK, fd_fdstat_set_flags(f, 0));
    IS(INVAL, fd_fdstat_set_flags(f, SYNC));
    IS(INVAL, fd_fdstat_set_flags(f, 32));
    IS(BADF, fd_fdstat_set_flags(NONE, 0));
    IS(NOTCAPABLE, fd_fdstat_set_rights(r, ALL, 0));
    IS(OK, fd_fdstat_set_rights(f, RIGHT_READ | RIGHT_WRITE, 0));
    IS(NOTCAPABLE, fd_seek(f, 0, FROM_START, &at));
    IS(NOTCAPABLE, fd_filestat_get(f, stat));
    IS(NOTCAPABLE, fd_fdstat_set_rights(f, RIGHT_READ | RIGHT_WRITE | RIGHT_SEEK, 0));
    IS(OK, fd_fdstat_set_rights(f, RIGHT_READ, 0));
    IS(BADF, fd_write(f, &iov, 1, &n));
    IS(BADF, fd_fdstat_set_rights(NONE, 0, 0));

    // Preopened directories, numbers.
    struct { u32 tag, len; } prestat;
    IS(OK, fd_prestat_get(ROOT, &prestat));
    CHECK(prestat.tag == 0 && prestat.len == 5);
    IS(OK, fd_prestat_dir_name(ROOT, bytes, 5));
    CHECK(memcmp(bytes, "/data", 5) == 0);
    IS(NAMETOOLONG, fd_prestat_dir_name(ROOT, bytes, 4));
    IS(FAULT, fd_prestat_dir_name(ROOT, OUTSIDE + 14, 5));
    IS(NOTDIR, fd_prestat_dir_name(f, bytes, 5));
    IS(BADF, fd_prestat_get(d, &prestat));
    IS(BADF, fd_prestat_get(NONE, &prestat));
    IS(BADF, fd_renumber(r, NONE));
    IS(BADF, fd_renumber(NONE, r));
    IS(OK, fd_renumber(r, f));
    IS(BADF, fd_tell(r, &at));
    IS(OK, fd_tell(f, &at));
    CHECK(at == 0);
    fd = open_at(ROOT, "new", CREAT | EXCL, RIGHT_WRITE, SYNC);
    CHECK(fd == r);
    IS(OK, fd_fdstat_get(fd, fdstat));
    CHECK(fdstat[2] == SYNC);
    IS(OK, fd_close(fd));
    IS(BADF, fd_close(fd));
    IS(OK, fd_close(w));
    IS(OK, fd_close(d));

    // The whole of it was where it should be.
    iov.len = 32;
    IS(OK, fd_pread(f, &iov, 1, 0, &n));
    CHECK(n == 23 && memcmp(bytes, "WXYZWX\0\0\0\0\0\0\0\0\0\0\0\0\0\0end", 23) == 0);
    printf("fine\n");
}
