// Tries to leave its granted directory by every function that takes a path. The sandbox around it is made by `tests/escapes.rs`.
#include "../guests/wasi.h"
#include <time.h>

// Paths that lead, or could be thought to lead, outside; the host's absolute ones come as arguments.
static const char *const paths[] = {
    "..", "../", "../.", "./..", "../beside", "../out/secret", "..//beside", "../in/f", "d/../../beside", "d/e/../../../beside",
    "d/e/../../../in/f", "./d/../../out/secret", "/", "//", "/etc/passwd", "//etc/passwd", "/proc/self/root", "/../etc/passwd",
    "up/beside", "up/out/secret", "up/..", "up/../", "out/secret", "out/../beside", "secret", "beside", "winding",
    "root/etc/passwd", "root", "passwd", "proc", "chained", "twice", "slash", "absolute", "d/deep", "d/e/far/beside",
    "d/e/far/etc/passwd", "d/../up/beside", "up/in/../beside", "d/e/../../up/out/secret", "out/./secret", "f/../../beside",
    "none/../../beside", "././../beside", "d/./.././../beside", "proc/self/cwd", "root/proc/self/environ", "up/in/up/in/up/beside",
    "d/deep/.", "link1", "link2", "d/e/far/../../..",
};
static int attempts, escapes;

static void tried(const char *how, const char *path, int errno_) {
    attempts++;
    if (errno_ == OK) {
        escapes++;
        printf("escaped: %s %s\n", how, path);
    }
}

static void attempt(u32 dir, const char *path) {
    static const struct { u32 oflags; u64 rights; } ways[] = {
        {0, RIGHT_READ}, {0, RIGHT_WRITE}, {0, RIGHT_READ | RIGHT_WRITE}, {CREAT, RIGHT_READ}, {CREAT | TRUNC, RIGHT_WRITE},
        {DIRECTORY, 0}, {CREAT | EXCL, RIGHT_WRITE},
    };
    char longer[600], buffer[64];
    u64 stat[8];
    u32 fd, n;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        for (u32 follow = 0; follow < 2; follow++)
            tried("open", path, path_open(dir, follow, S(path), ways[i].oflags, ways[i].rights, ALL, 0, &fd));
    tried("stat", path, path_filestat_get(dir, 1, S(path), stat));
    tried("times", path, path_filestat_set_times(dir, 1, S(path), 0, 1, 4));
    snprintf(longer, sizeof longer, "%s/new", path);
    tried("mkdir", longer, path_create_directory(dir, S(longer)));
    tried("rmdir", longer, path_remove_directory(dir, S(longer)));
    tried("symlink", longer, path_symlink(S("x"), dir, S(longer)));
    tried("rename to", longer, path_rename(dir, S("f"), dir, S(longer)));
    tried("link to", longer, path_link(dir, 0, S("f"), dir, S(longer)));
    snprintf(longer, sizeof longer, "%s/../beside", path);
    tried("unlink", longer, path_unlink_file(dir, S(longer)));
    tried("rename", longer, path_rename(dir, S(longer), dir, S("got")));
    tried("link", longer, path_link(dir, 0, S(longer), dir, S("got")));
    tried("readlink", longer, path_readlink(dir, S(longer), buffer, sizeof buffer, &n));
}

// What must not lead anywhere, followed or not.
static void followed(u32 dir, const char *path, u32 len) {
    static const struct { u32 oflags; u64 rights; } ways[] = {
        {0, RIGHT_READ}, {CREAT, RIGHT_READ}, {CREAT, RIGHT_WRITE}, {CREAT | TRUNC, RIGHT_WRITE}, {TRUNC, RIGHT_WRITE}, {DIRECTORY, 0},
    };
    u32 fd = NONE;
    u64 stat[8];
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        tried("open", path, path_open(dir, 1, path, len, ways[i].oflags, ways[i].rights, ALL, 0, &fd));
    tried("stat", path, path_filestat_get(dir, 1, path, len, stat));
    tried("times", path, path_filestat_set_times(dir, 1, path, len, 0, 1, 4));
}

// Ways out that the program makes by itself.
static void made(void) {
    static const char *const targets[] = {"../beside", "../new", "..", "../", "d/../../beside", "../out/secret", "../out/new", "../.."};
    static char longest[5000];
    u32 fd = NONE, root = NONE;
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        // A link may be made, named twice, renamed and moved. It leads out, and so isn't followed; nor is anything made through it.
        IS(OK, path_symlink(S(targets[i]), ROOT, S("own")));
        IS(OK, path_link(ROOT, 0, S("own"), ROOT, S("same")));
        IS(OK, path_rename(ROOT, S("same"), ROOT, S("renamed")));
        followed(ROOT, S("own"));
        followed(ROOT, S("renamed"));
        followed(ROOT, S("own/"));
        followed(ROOT, S("d/../own"));
        followed(ROOT, S("own/new"));
        tried("link", "own", path_link(ROOT, 1, S("own"), ROOT, S("got")));
        tried("mkdir", "own", path_create_directory(ROOT, S("own")));
        tried("mkdir", "own/new", path_create_directory(ROOT, S("own/new")));
        tried("rmdir", "own", path_remove_directory(ROOT, S("own")));
        tried("rename", "own/.", path_rename(ROOT, S("own/."), ROOT, S("got")));
        tried("rename over", "own/new", path_rename(ROOT, S("f"), ROOT, S("own/new")));
        IS(OK, path_unlink_file(ROOT, S("own")));
        IS(OK, path_unlink_file(ROOT, S("renamed")));
    }
    // A link that is harmless where it is, and leads out where it is moved to, alone or with its directory.
    IS(OK, path_create_directory(ROOT, S("d/m")));
    IS(OK, path_symlink(S("../../f"), ROOT, S("d/m/link")));
    IS(OK, path_open(ROOT, 1, S("d/m/link"), 0, RIGHT_READ, 0, 0, &fd));
    IS(OK, fd_close(fd));
    IS(OK, path_rename(ROOT, S("d/m"), ROOT, S("m")));
    followed(ROOT, S("m/link"));
    IS(OK, path_rename(ROOT, S("m/link"), ROOT, S("link")));
    followed(ROOT, S("link"));
    IS(OK, path_unlink_file(ROOT, S("link")));
    IS(OK, path_remove_directory(ROOT, S("m")));
    // Names that are none.
    memset(longest, 'x', sizeof longest);
    for (size_t i = 0; i + 3 < sizeof longest; i += 3) memcpy(longest + i, "../", 3);
    followed(ROOT, "", 0);
    followed(ROOT, "f\0/../../beside", 15);
    followed(ROOT, "..\0", 3);
    followed(ROOT, longest, sizeof longest);
    followed(ROOT, longest, 3999);
    memset(longest, '/', sizeof longest);
    followed(ROOT, longest, 3000);
    followed(ROOT, "\xff/../../beside", 17);
    // The granted directory under another number is as good and no better; so is one opened below it.
    IS(OK, path_open(ROOT, 0, S("d"), DIRECTORY, 0, ALL, 0, &root));
    followed(root, S(".."));
    followed(root, S("../f"));
    followed(root, S("deep"));
    IS(OK, fd_renumber(ROOT, root));
    followed(root, S("../beside"));
    followed(root, S(".."));
    followed(root, S("secret"));
    followed(ROOT, S("f"));
    IS(OK, path_open(root, 0, S("f"), 0, RIGHT_READ, 0, 0, &fd));
    CHECK(fd == ROOT);
    followed(fd, S("../beside"));
    IS(OK, fd_close(fd));
    IS(OK, path_open(root, 0, S("."), DIRECTORY, 0, ALL, 0, &fd));
    CHECK(fd == ROOT);
}

// Someone on the host exchanges `race` with a link to the outside all the while.
static void race(void) {
    int opened = 0, refused = 0;
    for (time_t end = time(NULL) + 3; time(NULL) < end;) {
        u32 fd, n = 0;
        char text[16] = {0};
        iovec_t iov = {text, 15};
        if (path_open(ROOT, 1, S("race/secret"), 0, RIGHT_READ, 0, 0, &fd) == OK) {
            opened++;
            if (fd_read(fd, &iov, 1, &n) != OK || strcmp(text, "mine") != 0) {
                printf("escaped: read %s\n", text);
                escapes++;
            }
            if (fd_close(fd) != OK) exit(70);
        } else {
            refused++;
        }
        if (path_open(ROOT, 1, S("race/new"), CREAT, RIGHT_WRITE, 0, 0, &fd) == OK && fd_close(fd) != OK) exit(70);
        if (path_create_directory(ROOT, S("race/dir")) == OK) opened++;
        (void)!path_rename(ROOT, S("race/new"), ROOT, S("race/newer"));
        (void)!path_link(ROOT, 0, S("f"), ROOT, S("race/linked"));
        (void)!path_symlink(S("x"), ROOT, S("race/symlink"));
        (void)!path_filestat_set_times(ROOT, 1, S("race/secret"), 0, 1, 4);
        for (const char *const *p = (const char *const[]){"race/newer", "race/linked", "race/symlink", "race/new", NULL}; *p; p++)
            (void)!path_unlink_file(ROOT, S(*p));
        (void)!path_remove_directory(ROOT, S("race/dir"));
    }
    printf("%s, %d escapes\n", opened && refused ? "raced" : "not raced", escapes);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "race") == 0) {
        race();
        return escapes != 0;
    }
    made();
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) attempt(ROOT, paths[i]);
    for (int i = 1; i < argc; i++) attempt(ROOT, argv[i]);
    printf("%d paths, %d attempts, %d escapes\n", (int)(sizeof paths / sizeof *paths) + argc - 1, attempts, escapes);
    return escapes != 0;
}
