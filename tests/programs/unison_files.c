// All that a program does with files, at random, for kills at any instant: `unison_files DIR SEED OPERATIONS [PATIENCE]`. What is in
// DIR at the beginning is taken over. The program remembers what every file must hold (`unison_model.h`), compares all that it reads
// with that, and ends with code 3 where it differs. Prints at the end only.
#include "unison_model.h"

#include <dirent.h>
#include <sys/uio.h>

#ifdef __wasi__
#include <wasi/api.h>
#endif

enum { MOST_OPEN = 9, LARGEST = 320 << 10, MOST_BLOCKS = 900 };

static struct open {
    int fd, file, append;
    int64_t at;
} opened[MOST_OPEN];
static int opens;
static DIR *root;
static unsigned char buffer[LARGEST];
static char path_a[1024], path_b[1024];
static long counts[32], operation;

#define UNLESS_NO_ROOM(call, what)                \
    while ((call) < 0)                            \
        if (!no_room(what)) wrong(what, path_a, errno, 0)

// --- what is read must be as remembered -------------------------------------------------------------------------------------------

static void check_read(int fd, int file, int64_t at, uint32_t len, const char *what) {
    for (uint32_t done = 0; done < len;) {
        ssize_t n = pread(fd, buffer + done, len - done, at + done);
        if (n < 0) wrong("error of pread", what, errno, 0);
        if (n == 0) len = done;
        done += (uint32_t)(n > 0 ? n : 0);
    }
    check_bytes(file, at, buffer, len, what);
}

static void check_stat(const struct stat *s, int file, const char *what) {
    if (s->st_size != files[file].size) wrong("size", what, s->st_size, files[file].size);
    if ((long)s->st_nlink != files[file].names) wrong("number of names", what, (long)s->st_nlink, files[file].names);
    check_time(s, &files[file].modified, what);
}

static void check_whole(int fd, int file, const char *what) {
    struct stat s;
    if (fstat(fd, &s) != 0) wrong("error of fstat", what, errno, 0);
    check_stat(&s, file, what);
    for (int64_t at = 0; at < s.st_size; at += 65536) check_read(fd, file, at, 65536, what);
}

static void check_node(int n) {
    struct stat s;
    path(n, path_a);
    if (lstat(path_a, &s) != 0) wrong("error of lstat", path_a, errno, 0);
    if (nodes[n].kind == FILE_NODE) {
        if (!S_ISREG(s.st_mode)) wrong("kind", path_a, (long)s.st_mode, 0);
        int fd = open(path_a, O_RDONLY);
        if (fd < 0) wrong("error of open", path_a, errno, 0);
        check_whole(fd, nodes[n].file, path_a);
        close(fd);
    } else if (nodes[n].kind == LINK) {
        ssize_t len = readlink(path_a, (char *)buffer, 500);
        if (len < 0 || (size_t)len != strlen(nodes[n].target) || memcmp(buffer, nodes[n].target, (size_t)len) != 0)
            wrong("target of a link", path_a, (long)len, (long)strlen(nodes[n].target));
        check_time(&s, &nodes[n].modified, path_a);
    } else if (!S_ISDIR(s.st_mode)) {
        wrong("kind", path_a, (long)s.st_mode, 0);
    } else {
        check_time(&s, &nodes[n].modified, path_a);
    }
}

// A directory must hold what is remembered, and nothing else.
static void check_list(DIR *d, int dir) {
    struct dirent *e;
    int found = 0;
    path(dir, path_a);
    while ((e = readdir(d))) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        int n = child(dir, e->d_name);
        if (n < 0) {
            fprintf(stderr, "the files are wrong: %s/%s should not be there\n", path_a, e->d_name);
            exit(3);
        }
        found++;
    }
    int expected = 0;
    for (int n = 1; n < MOST_NODES; n++)
        if (nodes[n].kind && nodes[n].parent == dir) {
            expected++;
            if (found >= expected) continue;
        }
    if (found != expected) wrong("number of entries", path_a, found, expected);
}

static void list(int dir) {
    path(dir, path_a);
    DIR *d = opendir(path_a);
    if (!d) wrong("error of opendir", path_a, errno, 0);
    check_list(d, dir);
    closedir(d);
}

// --- writing ------------------------------------------------------------------------------------------------------------------------

static void put(int fd, const unsigned char *bytes, uint32_t len) {
    while (len > 0) {
        ssize_t n;
        if (len > 3 && (len & 3) == 1) {
            struct iovec parts[2] = {{(void *)bytes, len / 3}, {(void *)(bytes + len / 3), len - len / 3}};
            n = writev(fd, parts, 2);
        } else {
            n = write(fd, bytes, len);
        }
        if (n < 0) {
            if (!no_room("write")) wrong("error of write", path_a, errno, 0);
            continue;
        }
        bytes += n;
        len -= (uint32_t)n;
    }
}

static void put_at(int fd, const unsigned char *bytes, uint32_t len, int64_t at) {
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, len, at);
        if (n < 0) {
            if (!no_room("pwrite")) wrong("error of pwrite", path_a, errno, 0);
            continue;
        }
        bytes += n;
        at += n;
        len -= (uint32_t)n;
    }
}

static uint32_t some_bytes(void) {
    uint32_t kind = rnd(40), len = 1 + rnd(kind < 24 ? 600 : kind < 37 ? 9000 : kind < 39 ? 60000 : 200000);
    uint32_t x = rnd(1u << 30) | 1;
    for (uint32_t i = 0; i < len; i += 4) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        memcpy(buffer + i, &x, 4);
    }
    return len;
}

static void hold(int fd, int file, int append, int64_t at) {
    if (opens == MOST_OPEN) {
        uint32_t nth = rnd(MOST_OPEN);
        close(opened[nth].fd);
        let_go(opened[nth].file);
        opened[nth] = opened[--opens];
    }
    opened[opens++] = (struct open){fd, file, append, at};
    files[file].opens++;
}

static int open_file(int n, int flags) {
    path(n, path_a);
    int fd;
    UNLESS_NO_ROOM(fd = open(path_a, flags), "open");
    return fd;
}

// Creates a file, by a path that may lead through a link.
static void create(int dir, const char *in) {
    int n = new_node(dir, FILE_NODE);
    if (n < 0) return;
    int file = nodes[n].file = new_file();
    snprintf(path_a, sizeof path_a, "%s/%s", in, nodes[n].name);
    int fd, append = rnd(4) == 0;
    UNLESS_NO_ROOM(fd = open(path_a, O_RDWR | O_CREAT | O_EXCL | (append ? O_APPEND : 0), 0644), "create");
    int64_t at = 0;
    for (uint32_t parts = rnd(4); parts > 0; parts--) {
        uint32_t len = some_bytes();
        put(fd, buffer, len);
        remember(file, at, buffer, len);
        at += len;
        work(rnd(2000));
    }
    if (rnd(3) == 0) hold(fd, file, append, at);
    else close(fd);
}

static void change(struct open *o) {
    int64_t size = files[o->file].size;
    uint32_t len = some_bytes(), how = rnd(o->append ? 2 : 8);
    if (size + len > LARGEST) len = 1 + rnd(500);
    strcpy(path_a, "an open file");
    if (o->append) {
        put(o->fd, buffer, len);
        remember(o->file, size, buffer, len);
        o->at = size + len;
    } else if (how < 4) {
        int64_t at = rnd((uint32_t)size + 1);
        put_at(o->fd, buffer, len, at);
        remember(o->file, at, buffer, len);
    } else if (how < 6) {
        o->at = rnd((uint32_t)size + 1);
        if (lseek(o->fd, o->at, SEEK_SET) != o->at) wrong("error of lseek", "an open file", errno, 0);
        put(o->fd, buffer, len);
        remember(o->file, o->at, buffer, len);
        o->at += len;
    } else if (how < 7) {
        // Wherever it is: the place in the file travels, too.
        if (lseek(o->fd, 0, SEEK_CUR) != o->at) wrong("place in a file", "an open file", lseek(o->fd, 0, SEEK_CUR), o->at);
        if (o->at > size + (1 << 16)) return;
        put(o->fd, buffer, len);
        remember(o->file, o->at, buffer, len);
        o->at += len;
    } else if (size < LARGEST / 2) {
        // Far beyond the end, so that there is a hole.
        int64_t at = size + rnd(rnd(8) ? 40000 : 3 << 20);
        len = 1 + len % 3000;
        put_at(o->fd, buffer, len, at);
        remember(o->file, at, buffer, len);
    }
}

static void resize(int fd, int file) {
    int64_t size = files[file].size, to = rnd(2) ? rnd((uint32_t)size + 1) : size + rnd(30000);
    if (to > size && size > LARGEST) to = size / 3;
    if (rnd(5) == 0 && size < LARGEST) {
        int64_t at = rnd((uint32_t)size + 1), len = 1 + rnd(20000);
        int e;
        while ((e = posix_fallocate(fd, at, len)) != 0) {
            errno = e;
            if (!no_room("posix_fallocate")) wrong("error of posix_fallocate", "a file", e, 0);
        }
        set_size(file, at + len > size ? at + len : size);
        return;
    }
    UNLESS_NO_ROOM(ftruncate(fd, to), "ftruncate");
    set_size(file, to);
}

// --- names --------------------------------------------------------------------------------------------------------------------------

static void remove_node(int n) {
    path(n, path_a);
    UNLESS_NO_ROOM(nodes[n].kind == DIRECTORY ? rmdir(path_a) : unlink(path_a), "remove");
    forget_node(n);
}

static void rename_node(int from) {
    int over = rnd(3) == 0 ? pick(nodes[from].kind) : -1;
    int dir = over > 0 ? nodes[over].parent : pick(DIRECTORY);
    if (over == from || dir < 0 || (nodes[from].kind == DIRECTORY && (within(dir, from) || depth(dir) > 3))) return;
    if (over > 0 && nodes[over].kind == DIRECTORY && (!empty(over) || within(from, over))) return;
    path(from, path_a);
    int n = over > 0 ? over : new_node(dir, nodes[from].kind);
    if (n < 0) return;
    path(n, path_b);
    UNLESS_NO_ROOM(rename(path_a, path_b), "rename");
    // Two names of one file: nothing is done.
    if (over > 0 && nodes[from].kind == FILE_NODE && nodes[from].file == nodes[over].file) return;
    move_node(from, n, over > 0);
}

// The name is that of a new file at once, which was written aside.
static void replace(int n) {
    int aside = new_node(nodes[n].parent, FILE_NODE);
    if (aside < 0) return;
    int file = nodes[aside].file = new_file(), fd;
    path(aside, path_a);
    path(n, path_b);
    UNLESS_NO_ROOM(fd = open(path_a, O_WRONLY | O_CREAT | O_EXCL, 0600), "create");
    uint32_t len = some_bytes();
    put(fd, buffer, len);
    remember(file, 0, buffer, len);
    if (rnd(2)) UNLESS_NO_ROOM(fsync(fd), "fsync");
    close(fd);
    work(rnd(2000));
    UNLESS_NO_ROOM(rename(path_a, path_b), "rename");
    move_node(aside, n, 1);
}

// Two names exchange what they name.
static void swap(int a, int b) {
    if (a == b || nodes[a].file == nodes[b].file) return;
    int third = new_node(nodes[a].parent, FILE_NODE);
    if (third < 0) return;
    char path_c[1024];
    path(a, path_a), path(b, path_b), path(third, path_c);
    UNLESS_NO_ROOM(rename(path_a, path_c), "rename");
    UNLESS_NO_ROOM(rename(path_b, path_a), "rename");
    UNLESS_NO_ROOM(rename(path_c, path_b), "rename");
    int file = nodes[a].file;
    nodes[a].file = nodes[b].file;
    nodes[b].file = file;
    touched(nodes[a].parent), touched(nodes[b].parent);
    nodes[third].kind = NONE;
    nodes_used--;
}

static void add_link(int to) {
    int dir = pick(DIRECTORY), n = new_node(dir, FILE_NODE);
    if (n < 0) return;
    nodes[n].file = nodes[to].file;
    files[nodes[n].file].names++;
    path(to, path_a), path(n, path_b);
    UNLESS_NO_ROOM(link(path_a, path_b), "link");
}

static void add_symlink(void) {
    int dir = pick(DIRECTORY), to = pick(rnd(3) ? FILE_NODE : DIRECTORY), n;
    if (to <= 0 || (n = new_node(dir, LINK)) < 0) return;
    link_to(n, to);
    path(n, path_a);
    UNLESS_NO_ROOM(symlink(nodes[n].target, path_a), "symlink");
}

static void add_directory(void) {
    int dir = pick(DIRECTORY), n;
    if (depth(dir) > 3 || (n = new_node(dir, DIRECTORY)) < 0) return;
    path(n, path_a);
    UNLESS_NO_ROOM(mkdir(path_a, 0755), "mkdir");
}

// What was a file becomes a directory, or the other way round.
static void change_kind(int n) {
    int was = nodes[n].kind, dir = nodes[n].parent;
    char name[sizeof nodes[n].name];
    if (was == LINK || (was == DIRECTORY && (!empty(n) || n == 0))) return;
    strcpy(name, nodes[n].name);
    remove_node(n);
    if (was == FILE_NODE && depth(dir) > 3) return;
    int again = new_node(dir, was == FILE_NODE ? DIRECTORY : FILE_NODE);
    strcpy(nodes[again].name, name);
    path(again, path_a);
    if (was == FILE_NODE) {
        UNLESS_NO_ROOM(mkdir(path_a, 0755), "mkdir");
    } else {
        int fd;
        nodes[again].file = new_file();
        UNLESS_NO_ROOM(fd = open(path_a, O_RDWR | O_CREAT | O_EXCL, 0644), "create");
        close(fd);
    }
}

static void through_link(int n) {
    int to = follow(n);
    if (to < 0) return;
    path(n, path_a);
    if (nodes[to].kind == DIRECTORY) {
        char in[1024];
        strcpy(in, path_a);
        if (room()) create(to, in);
        return;
    }
    int fd, cut = rnd(4) == 0;
    UNLESS_NO_ROOM(fd = open(path_a, O_RDWR | (cut ? O_TRUNC : 0)), "open");
    if (cut) set_size(nodes[to].file, 0);
    struct open o = {fd, nodes[to].file, 0, 0};
    check_read(fd, o.file, 0, 3000, path_a);
    change(&o);
    close(fd);
}

static void set_time(int n) {
    struct when t = {1000000000 + operation, (int32_t)rnd(1000000000)};
    struct timespec times[2] = {{t.s, t.ns}, {t.s, t.ns}};
    path(n, path_a);
    if (nodes[n].kind == FILE_NODE && rnd(2)) {
        int fd = open_file(n, O_RDWR);
        UNLESS_NO_ROOM(futimens(fd, times), "futimens");
        close(fd);
    } else {
        UNLESS_NO_ROOM(utimensat(AT_FDCWD, path_a, times, AT_SYMLINK_NOFOLLOW), "utimensat");
    }
    *(nodes[n].kind == FILE_NODE ? &files[nodes[n].file].modified : &nodes[n].modified) = t;
}

// --- open files -----------------------------------------------------------------------------------------------------------------------

static void open_some(int n) {
    uint32_t how = rnd(6);
    int file = nodes[n].file, fd = open_file(n, O_RDWR | (how == 0 ? O_TRUNC : how < 3 ? O_APPEND : 0));
    if (how == 0) set_size(file, 0);
    hold(fd, file, how == 1 || how == 2, 0);
    // Two that append in turn.
    if (how == 1) hold(open_file(n, O_WRONLY | O_APPEND), file, 2, 0);
}

static void with_open(struct open *o, uint32_t what) {
    if (what < 5) {
        change(o);
    } else if (what == 5) {
        resize(o->fd, o->file);
    } else if (what == 6 && o->append < 2) {
        int append = !o->append;
        if (fcntl(o->fd, F_SETFL, append ? O_APPEND : 0) != 0) wrong("error of fcntl", "an open file", errno, 0);
        o->append = append;
    } else if (what == 7) {
        UNLESS_NO_ROOM(rnd(2) ? fsync(o->fd) : fdatasync(o->fd), "fsync");
    } else if (what == 8 && o->append < 2) {
        int64_t size = files[o->file].size;
        uint32_t len = 1 + rnd(5000), got = 0;
        if (o->at > size) return;
        for (ssize_t n = 1; got < len && n > 0; got += (uint32_t)n)
            if ((n = read(o->fd, buffer + got, len - got)) < 0) wrong("error of read", "an open file", errno, 0);
        check_bytes(o->file, o->at, buffer, got, "an open file");
        if (got < len && o->at + got != size) wrong("end of an open file", "", (long)(o->at + got), (long)size);
        o->at += got;
    } else if (what == 9) {
        close(o->fd);
        let_go(o->file);
        *o = opened[--opens];
    } else if (what == 10 && opens > 1) {
        struct open *other = &opened[rnd((uint32_t)opens)];
        if (other == o) return;
#ifdef __wasi__
        if (__wasi_fd_renumber(o->fd, other->fd) != 0) wrong("error of fd_renumber", "", 0, 0);
#else
        dup2(o->fd, other->fd);
        close(o->fd);
#endif
        let_go(other->file);
        o->fd = other->fd;
        *other = opened[--opens];
    } else if (o->append < 2) {
        check_whole(o->fd, o->file, "an open file");
    }
}

static void copy(int n) {
    if (!room() || files[nodes[n].file].size > LARGEST) return;
    int to = new_node(pick(DIRECTORY), FILE_NODE), from = open_file(n, O_RDONLY), fd;
    int file = nodes[to].file = new_file();
    path(to, path_a);
    UNLESS_NO_ROOM(fd = open(path_a, O_WRONLY | O_CREAT | O_EXCL, 0640), "create");
    ssize_t len;
    for (int64_t at = 0; (len = read(from, buffer, 4096)) > 0; at += len) {
        check_bytes(nodes[n].file, at, buffer, (uint32_t)len, "a copied file");
        put(fd, buffer, (uint32_t)len);
        remember(file, at, buffer, (uint32_t)len);
    }
    close(from);
    close(fd);
}

static void step(void) {
    uint32_t what = rnd(100);
    int n = pick(FILE_NODE), some = pick(ANY);
    // The more there is, the less is added.
    int adds = what < 9 || (what >= 49 && what < 52) || (what >= 60 && what < 67) || (what >= 78 && what < 80);
    if (adds && rnd(MOST_NODES) < (uint32_t)nodes_used) what = 9 + rnd(18);
    if (blocks_used > MOST_BLOCKS && what < 49) what = rnd(3) ? 28 : 55;
    counts[what / 4]++;
    if (what < 9) {
        char in[1024];
        int dir = pick(DIRECTORY);
        path(dir, in);
        if (room()) create(dir, in);
    } else if (what < 27 && opens > 0) {
        struct open *o = &opened[rnd((uint32_t)opens)];
        with_open(o, rnd(12));
    } else if (what < 30 && n > 0) {
        int fd = open_file(n, O_RDWR);
        resize(fd, nodes[n].file);
        close(fd);
    } else if (what < 36 && n > 0) {
        open_some(n);
    } else if (what < 44 && some > 0) {
        rename_node(some);
    } else if (what < 47 && n > 0) {
        replace(n);
    } else if (what < 49 && n > 0) {
        swap(n, pick(FILE_NODE));
    } else if (what < 52 && n > 0) {
        add_link(n);
    } else if (what < 60 && some > 0) {
        if (nodes[some].kind != DIRECTORY || empty(some)) remove_node(some);
    } else if (what < 64) {
        add_directory();
    } else if (what < 67) {
        add_symlink();
    } else if (what < 69 && some > 0) {
        change_kind(some);
    } else if (what < 73 && pick(LINK) > 0) {
        through_link(pick(LINK));
    } else if (what < 78 && some > 0) {
        set_time(some);
    } else if (what < 80 && n > 0) {
        copy(n);
    } else if (what < 84) {
        list(pick(DIRECTORY));
    } else if (what < 85) {
        rewinddir(root);
        check_list(root, 0);
    } else if (some > 0) {
        check_node(some);
    }
}

static int by_name(const void *a, const void *b) { return strcmp(a, b); }

// Takes over what is there.
static void adopt(int dir) {
    char names[64][sizeof nodes[0].name];
    size_t found = 0;
    path(dir, path_a);
    DIR *d = opendir(path_a);
    if (!d) wrong("error of opendir", path_a, errno, 0);
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) {
            if (found == 64 || strlen(e->d_name) >= sizeof names[0]) wrong("what was there before", e->d_name, (long)found, 0);
            strcpy(names[found++], e->d_name);
        }
    closedir(d);
    qsort(names, found, sizeof names[0], by_name);
    for (size_t i = 0; i < found; i++) {
        struct stat s;
        int n = new_node(dir, ANY);
        strcpy(nodes[n].name, names[i]);
        path(n, path_a);
        if (lstat(path_a, &s) != 0) wrong("error of lstat", path_a, errno, 0);
        nodes[n].modified = old_time(&s);
        if (S_ISDIR(s.st_mode)) {
            nodes[n].kind = DIRECTORY;
            adopt(n);
        } else if (S_ISLNK(s.st_mode)) {
            nodes[n].kind = LINK;
            ssize_t len = readlink(path_a, nodes[n].target, sizeof nodes[n].target - 1);
            if (len < 0) wrong("error of readlink", path_a, errno, 0);
            nodes[n].target[len] = 0;
        } else {
            nodes[n].kind = FILE_NODE;
            int known = known_file((long)s.st_ino);
            if (known >= 0) {
                nodes[n].file = known;
                files[known].names++;
                continue;
            }
            int file = nodes[n].file = new_file(), fd = open_file(n, O_RDONLY);
            files[file].inode = (long)s.st_ino;
            ssize_t len;
            for (int64_t at = 0; (len = read(fd, buffer, 4096)) > 0; at += len) remember(file, at, buffer, (uint32_t)len);
            close(fd);
            files[file].modified = old_time(&s);
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    begin(argv[1]);
    state_of_random = strtoull(argv[2], NULL, 10);
    long operations = atol(argv[3]);
    if (argc > 4) patience = atol(argv[4]);
    adopt(0);
    long adopted = nodes_used;
    root = opendir(argv[1]);
    if (!root) wrong("error of opendir", argv[1], errno, 0);
    for (operation = 1; operation <= operations; operation++) {
        step();
        work(rnd(6000));
    }
    uint32_t sum = 0;
    for (int i = 0; i < opens; i++)
        if (opened[i].append < 2) check_whole(opened[i].fd, opened[i].file, "an open file");
    for (int n = 1; n < MOST_NODES; n++)
        if (nodes[n].kind) {
            check_node(n);
            if (nodes[n].kind == DIRECTORY) list(n);
            sum = sum_of(n, sum);
        }
    list(0);
    for (int i = 0; i < opens; i++) {
        close(opened[i].fd);
        let_go(opened[i].file);
    }
    printf("%ld adopted, %ld operations (", adopted, operations);
    for (int i = 0; i < 25; i++) printf("%s%ld", i ? " " : "", counts[i]);
    printf("), %ld entries, %ld blocks, sum %08x, work %08x, done\n", (long)nodes_used, blocks_used, sum, worked);
}
