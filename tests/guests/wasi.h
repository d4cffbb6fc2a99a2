// Every function of WASI preview1 as it is imported, with plain numbers, and what the guests need to call them and look at errors.
#ifndef WASI_H
#define WASI_H
#include "guest.h"

typedef uint32_t u32;
typedef uint64_t u64;

// With UNSTABLE, all of it is that of preview1's predecessor: the same functions and numbers but for `sock_accept`, the numbering of
// `whence`, and the layouts of `filestat` and `subscription`.
#ifdef UNSTABLE
#define MODULE "wasi_unstable"
enum { FROM_HERE = 0, FROM_END = 1, FROM_START = 2 };
enum { STAT_LINKS = 20, STAT_SIZE = 24 };
#define LINKS(stat) (*(u32 *)((char *)(stat) + STAT_LINKS))
#else
#define MODULE "wasi_snapshot_preview1"
enum { FROM_START = 0, FROM_HERE = 1, FROM_END = 2 };
enum { STAT_LINKS = 24, STAT_SIZE = 32 };
#define LINKS(stat) (*(u64 *)((char *)(stat) + STAT_LINKS))
#endif
#define INODE(stat) ((stat)[1])
#define TYPE(stat) (((uint8_t *)(stat))[16])
#define SIZE(stat) ((stat)[STAT_SIZE / 8])
#define ACCESSED(stat) ((stat)[STAT_SIZE / 8 + 1])
#define MODIFIED(stat) ((stat)[STAT_SIZE / 8 + 2])

#define IMPORT(name) __attribute__((import_module(MODULE), import_name(#name)))
IMPORT(args_get) int args_get(void *argv, void *buf);
IMPORT(args_sizes_get) int args_sizes_get(u32 *count, u32 *size);
IMPORT(environ_get) int environ_get(void *env, void *buf);
IMPORT(environ_sizes_get) int environ_sizes_get(u32 *count, u32 *size);
IMPORT(clock_res_get) int clock_res_get(u32 id, u64 *out);
IMPORT(clock_time_get) int clock_time_get(u32 id, u64 precision, u64 *out);
IMPORT(fd_advise) int fd_advise(u32 fd, u64 offset, u64 len, u32 advice);
IMPORT(fd_allocate) int fd_allocate(u32 fd, u64 offset, u64 len);
IMPORT(fd_close) int fd_close(u32 fd);
IMPORT(fd_datasync) int fd_datasync(u32 fd);
IMPORT(fd_fdstat_get) int fd_fdstat_get(u32 fd, void *out);
IMPORT(fd_fdstat_set_flags) int fd_fdstat_set_flags(u32 fd, u32 flags);
IMPORT(fd_fdstat_set_rights) int fd_fdstat_set_rights(u32 fd, u64 base, u64 inheriting);
IMPORT(fd_filestat_get) int fd_filestat_get(u32 fd, void *out);
IMPORT(fd_filestat_set_size) int fd_filestat_set_size(u32 fd, u64 size);
IMPORT(fd_filestat_set_times) int fd_filestat_set_times(u32 fd, u64 atim, u64 mtim, u32 flags);
IMPORT(fd_pread) int fd_pread(u32 fd, const void *iovs, u32 count, u64 offset, u32 *out);
IMPORT(fd_prestat_get) int fd_prestat_get(u32 fd, void *out);
IMPORT(fd_prestat_dir_name) int fd_prestat_dir_name(u32 fd, void *path, u32 len);
IMPORT(fd_pwrite) int fd_pwrite(u32 fd, const void *iovs, u32 count, u64 offset, u32 *out);
IMPORT(fd_read) int fd_read(u32 fd, const void *iovs, u32 count, u32 *out);
IMPORT(fd_readdir) int fd_readdir(u32 fd, void *buf, u32 len, u64 cookie, u32 *out);
IMPORT(fd_renumber) int fd_renumber(u32 from, u32 to);
IMPORT(fd_seek) int fd_seek(u32 fd, int64_t offset, u32 whence, u64 *out);
IMPORT(fd_sync) int fd_sync(u32 fd);
IMPORT(fd_tell) int fd_tell(u32 fd, u64 *out);
IMPORT(fd_write) int fd_write(u32 fd, const void *iovs, u32 count, u32 *out);
IMPORT(path_create_directory) int path_create_directory(u32 fd, const char *path, u32 len);
IMPORT(path_filestat_get) int path_filestat_get(u32 fd, u32 flags, const char *path, u32 len, void *out);
IMPORT(path_filestat_set_times)
int path_filestat_set_times(u32 fd, u32 flags, const char *path, u32 len, u64 atim, u64 mtim, u32 fst);
IMPORT(path_link) int path_link(u32 fd, u32 flags, const char *old, u32 len, u32 to, const char *new, u32 new_len);
IMPORT(path_open)
int path_open(u32 fd, u32 dirflags, const char *path, u32 len, u32 oflags, u64 base, u64 inheriting, u32 fdflags, u32 *out);
IMPORT(path_readlink) int path_readlink(u32 fd, const char *path, u32 len, char *buf, u32 size, u32 *out);
IMPORT(path_remove_directory) int path_remove_directory(u32 fd, const char *path, u32 len);
IMPORT(path_rename) int path_rename(u32 fd, const char *old, u32 len, u32 to, const char *new, u32 new_len);
IMPORT(path_symlink) int path_symlink(const char *target, u32 len, u32 fd, const char *path, u32 path_len);
IMPORT(path_unlink_file) int path_unlink_file(u32 fd, const char *path, u32 len);
IMPORT(poll_oneoff) int poll_oneoff(const void *subscriptions, void *events, u32 count, u32 *out);
IMPORT(proc_exit) _Noreturn void proc_exit(u32 code);
IMPORT(proc_raise) int proc_raise(u32 signal);
IMPORT(sched_yield) int wasi_yield(void);
IMPORT(random_get) int random_get(void *buf, u32 len);
#ifndef UNSTABLE
IMPORT(sock_accept) int sock_accept(u32 fd, u32 flags, u32 *out);
#endif
IMPORT(sock_recv) int sock_recv(u32 fd, const void *iovs, u32 count, u32 flags, u32 *len, uint16_t *out);
IMPORT(sock_send) int sock_send(u32 fd, const void *iovs, u32 count, u32 flags, u32 *len);
IMPORT(sock_shutdown) int sock_shutdown(u32 fd, u32 how);

enum {
    OK = 0, ACCES = 2, AGAIN = 6, BADF = 8, EXIST = 20, FAULT = 21, FBIG = 22, ILSEQ = 25, INVAL = 28, ISDIR = 31, LOOP = 32,
    MFILE = 33, NAMETOOLONG = 37, NOENT = 44, NOSPC = 51, NOTCONN = 53, NOTDIR = 54, NOTEMPTY = 55, NOTSOCK = 57, NOTSUP = 58,
    PERM = 63, PIPE = 64, SPIPE = 70, NOTCAPABLE = 76
};
enum { CREAT = 1, DIRECTORY = 2, EXCL = 4, TRUNC = 8 };
enum { APPEND = 1, DSYNC = 2, NONBLOCK = 4, RSYNC = 8, SYNC = 16 };
#define RIGHT_READ (1ull << 1)
#define RIGHT_SEEK (1ull << 2)
#define RIGHT_WRITE (1ull << 6)
#define ALL ((1ull << 30) - 1)
enum { ROOT = 3, NONE = 999 };
#define OUTSIDE ((void *)0xfffffff0u)
#define S(text) (text), (u32)strlen(text)

// An errno other than the expected one ends the guest, and says where. A few migration points pass before each call.
#define IS(expected, call)                                                                                                         \
    do {                                                                                                                           \
        work(1);                                                                                                                   \
        int got = (call);                                                                                                          \
        if (got != (expected)) {                                                                                                   \
            printf("line %d: errno %d, not %d: %s\n", __LINE__, got, (int)(expected), #call);                                      \
            exit(70);                                                                                                              \
        }                                                                                                                          \
    } while (0)

typedef struct { void *buf; u32 len; } iovec_t;

__attribute__((unused)) static u32 open_at(u32 dir, const char *path, u32 oflags, u64 rights, u32 fdflags) {
    u32 fd = NONE;
    IS(OK, path_open(dir, 0, S(path), oflags, rights, ALL, fdflags, &fd));
    return fd;
}
__attribute__((unused)) static void put(u32 fd, const char *text) {
    iovec_t iov = {(void *)text, (u32)strlen(text)};
    u32 n = 0;
    IS(OK, fd_write(fd, &iov, 1, &n));
    CHECK(n == iov.len);
}
#endif
