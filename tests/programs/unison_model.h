// What `unison_files` remembers of its directory: a tree of names, and what each file holds.
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "unison_full.h"

enum { MOST_NODES = 120, MOST_FILES = 140, BLOCK = 4096 };
enum { NONE, FILE_NODE, DIRECTORY, LINK, ANY };

struct when {
    int64_t s; // Negative: not known.
    int32_t ns;
};

static struct file {
    int used, names, opens;
    long inode;
    int64_t size;
    struct when modified;
    struct block {
        uint32_t nth;
        unsigned char *bytes;
    } *blocks; // In no order; what is in none of them is zero.
    int count, space;
} files[MOST_FILES];

static struct node {
    int kind, parent, file;
    char name[24], target[160];
    struct when modified;
} nodes[MOST_NODES];

static int nodes_used;
static long blocks_used;
static const char *top;

static void wrong(const char *what, const char *where, long found, long expected) {
    fprintf(stderr, "the files are wrong: %s of %s: %ld, not %ld\n", what, where, found, expected);
    exit(3);
}

static void begin(const char *dir) {
    top = dir;
    nodes[0].kind = DIRECTORY;
    nodes[0].modified.s = -1;
}

// --- contents ---------------------------------------------------------------------------------------------------------------------

static int new_file(void) {
    for (int f = 0; f < MOST_FILES; f++)
        if (!files[f].used) {
            struct block *blocks = files[f].blocks;
            int space = files[f].space;
            files[f] = (struct file){.used = 1, .names = 1, .modified = {-1, 0}, .blocks = blocks, .space = space};
            return f;
        }
    wrong("number", "files", MOST_FILES, MOST_FILES);
    return -1;
}

static int known_file(long inode) {
    for (int f = 0; f < MOST_FILES; f++)
        if (files[f].used && files[f].inode == inode) return f;
    return -1;
}

static struct block *block(int file, uint32_t nth, int make) {
    struct file *f = &files[file];
    for (int i = 0; i < f->count; i++)
        if (f->blocks[i].nth == nth) return &f->blocks[i];
    if (!make) return NULL;
    if (f->count == f->space) {
        f->space = f->space * 2 + 4;
        f->blocks = realloc(f->blocks, (size_t)f->space * sizeof *f->blocks);
        if (!f->blocks) exit(5);
    }
    struct block *b = &f->blocks[f->count++];
    *b = (struct block){nth, calloc(1, BLOCK)};
    if (!b->bytes) exit(5);
    blocks_used++;
    return b;
}

static void touch(struct when *w) { w->s = -1; }

static void set_size(int file, int64_t size) {
    struct file *f = &files[file];
    touch(&f->modified);
    for (int i = 0; i < f->count;) {
        struct block *b = &f->blocks[i];
        int64_t at = (int64_t)b->nth * BLOCK;
        if (at >= size) {
            free(b->bytes);
            *b = f->blocks[--f->count];
            blocks_used--;
            continue;
        }
        if (at + BLOCK > size) memset(b->bytes + (size - at), 0, (size_t)(at + BLOCK - size));
        i++;
    }
    f->size = size;
}

static void remember(int file, int64_t at, const unsigned char *bytes, uint32_t len) {
    if (len == 0) return;
    touch(&files[file].modified);
    if (at + len > files[file].size) files[file].size = at + len;
    while (len > 0) {
        uint32_t within = (uint32_t)(at % BLOCK), part = BLOCK - within < len ? BLOCK - within : len;
        memcpy(block(file, (uint32_t)(at / BLOCK), 1)->bytes + within, bytes, part);
        at += part;
        bytes += part;
        len -= part;
    }
}

static void check_bytes(int file, int64_t at, const unsigned char *bytes, uint32_t len, const char *what) {
    static const unsigned char zeros[BLOCK];
    if (len > 0 && at + len > files[file].size) wrong("end", what, (long)(at + len), (long)files[file].size);
    while (len > 0) {
        uint32_t within = (uint32_t)(at % BLOCK), part = BLOCK - within < len ? BLOCK - within : len;
        const struct block *b = block(file, (uint32_t)(at / BLOCK), 0);
        const unsigned char *expected = (b ? b->bytes : zeros) + within;
        if (memcmp(bytes, expected, part) != 0) {
            uint32_t i = 0;
            while (bytes[i] == expected[i]) i++;
            fprintf(stderr, "the files are wrong: %s at byte %ld of %ld: ", what, (long)(at + i), (long)files[file].size);
            fprintf(stderr, "%02x, not %02x\n", bytes[i], expected[i]);
            exit(3);
        }
        at += part;
        bytes += part;
        len -= part;
    }
}

static void release(int file) {
    struct file *f = &files[file];
    if (f->names > 0 || f->opens > 0) return;
    set_size(file, 0);
    f->used = 0;
}

static void let_go(int file) {
    files[file].opens--;
    release(file);
}

// --- times: known once they were set, until the next change -------------------------------------------------------------------------

static struct when old_time(const struct stat *s) {
    struct when w = {s->st_mtim.tv_sec, (int32_t)s->st_mtim.tv_nsec};
    if (w.s > 1500000000) w.s = -1;
    return w;
}

static void check_time(const struct stat *s, const struct when *w, const char *what) {
    if (w->s < 0) return;
    if (s->st_mtim.tv_sec != w->s) wrong("time of modification", what, (long)s->st_mtim.tv_sec, (long)w->s);
    if (s->st_mtim.tv_nsec != w->ns) wrong("nanoseconds of modification", what, (long)s->st_mtim.tv_nsec, w->ns);
}

static void touched(int dir) { touch(&nodes[dir].modified); }

// --- names ------------------------------------------------------------------------------------------------------------------------

static int child(int dir, const char *name) {
    for (int n = 1; n < MOST_NODES; n++)
        if (nodes[n].kind && nodes[n].parent == dir && strcmp(nodes[n].name, name) == 0) return n;
    return -1;
}

static int room(void) { return nodes_used < MOST_NODES - 12; }

// A new name in a directory; those of removed ones come again soon.
static int new_node(int dir, int kind) {
    int n = 1;
    while (n < MOST_NODES && nodes[n].kind) n++;
    if (n == MOST_NODES) return -1;
    char name[sizeof nodes[n].name];
    do {
        const char *begin = rnd(9) ? "n" : "a-longer-name-";
        snprintf(name, sizeof name, "%s%u", begin, rnd(60));
    } while (child(dir, name) > 0);
    nodes[n] = (struct node){.kind = kind, .parent = dir, .modified = {-1, 0}};
    strcpy(nodes[n].name, name);
    nodes_used++;
    touched(dir);
    return n;
}

static void forget_node(int n) {
    int file = nodes[n].file, kind = nodes[n].kind;
    touched(nodes[n].parent);
    nodes[n].kind = NONE;
    nodes_used--;
    if (kind == FILE_NODE) {
        files[file].names--;
        release(file);
    }
}

static int within(int n, int dir) {
    while (n != dir && n != 0) n = nodes[n].parent;
    return n == dir;
}

static int depth(int n) {
    int d = 0;
    for (; n != 0; n = nodes[n].parent) d++;
    return d;
}

static int empty(int dir) {
    for (int n = 1; n < MOST_NODES; n++)
        if (nodes[n].kind && nodes[n].parent == dir) return 0;
    return 1;
}

// What `from` was is at `to` now, where something was (`over`) or nothing.
static void move_node(int from, int to, int over) {
    touched(nodes[from].parent), touched(nodes[to].parent);
    if (over && nodes[to].kind == FILE_NODE) {
        files[nodes[to].file].names--;
        release(nodes[to].file);
    }
    nodes[to].file = nodes[from].file;
    strcpy(nodes[to].target, nodes[from].target);
    nodes[to].modified = nodes[from].modified;
    // Its entry `..` has changed: whether that counts is the file system's affair.
    if (nodes[from].kind == DIRECTORY) touched(to);
    for (int n = 1; n < MOST_NODES; n++)
        if (nodes[n].kind && nodes[n].parent == from) nodes[n].parent = to;
    nodes[from].kind = NONE;
    nodes_used--;
}

static void path_part(int n, char *to, const char *above) {
    if (n == 0) {
        strcpy(to, above);
        return;
    }
    path_part(nodes[n].parent, to, above);
    strcat(to, "/");
    strcat(to, nodes[n].name);
}

static void path(int n, char *to) { path_part(n, to, top); }

// A random one of a kind; a directory may be the top, others are never 0.
static int pick(int kind) {
    int found = kind == DIRECTORY ? 0 : -1, seen = kind == DIRECTORY;
    for (int n = 1; n < MOST_NODES; n++)
        if (nodes[n].kind && (kind == ANY || nodes[n].kind == kind) && rnd((uint32_t)++seen) == 0) found = n;
    return found;
}

static void link_to(int n, int to) {
    char *t = nodes[n].target, rest[160];
    *t = 0;
    for (int up = depth(nodes[n].parent); up > 0; up--) strcat(t, "../");
    path_part(to, rest, "");
    strcat(t, rest + 1);
}

// Where a link leads: to what is there and no link itself, or nowhere.
static int follow(int n) {
    int at = nodes[n].parent;
    char copy[160];
    strcpy(copy, nodes[n].target);
    for (char *part = strtok(copy, "/"); part; part = strtok(NULL, "/")) {
        if (at < 0 || nodes[at].kind != DIRECTORY) return -1;
        if (strcmp(part, "..") != 0) at = child(at, part);
        else if (at == 0) return -1;
        else at = nodes[at].parent;
    }
    return at > 0 && nodes[at].kind != LINK ? at : -1;
}

static uint32_t sum_of(int n, uint32_t sum) {
    char name[1024];
    path_part(n, name, "");
    uint32_t own = 0;
    for (const char *c = name; *c; c++) own = own * 31 + (unsigned char)*c;
    own = own * 31 + (uint32_t)nodes[n].kind;
    if (nodes[n].kind == FILE_NODE) {
        const struct file *f = &files[nodes[n].file];
        own = own * 31 + (uint32_t)f->size;
        for (int i = 0; i < f->count; i++) {
            uint32_t x = f->blocks[i].nth;
            for (int b = 0; b < BLOCK; b++) x = x * 31 + f->blocks[i].bytes[b];
            own += x;
        }
    }
    return sum + own;
}
