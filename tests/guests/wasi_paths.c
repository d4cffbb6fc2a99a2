//! The `path_*` functions of WASI and `fd_readdir`: each, with every errno that matters.
//! not-native
//! dir
//! file: text=0123456789
//! stdout: fine
#include "wasi.h"

#define OPEN(dir, flags, path, oflags, rights, fdflags) path_open(dir, flags, S(path), oflags, rights, ALL, fdflags, &fd)

int main(void) {
    u32 fd = NONE, n = 0;
    u64 stat[8], seen;
    char bytes[512], name[300];
    memset(name, 'x', sizeof name);
    u32 f = open_at(ROOT, "text", 0, RIGHT_READ, 0);

    // Directories.
    IS(OK, path_create_directory(ROOT, S("d")));
    IS(EXIST, path_create_directory(ROOT, S("d")));
    IS(EXIST, path_create_directory(ROOT, S("text")));
    IS(NOENT, path_create_directory(ROOT, S("none/d")));
    IS(NOTDIR, path_create_directory(ROOT, S("text/d")));
    IS(NOTDIR, path_create_directory(f, S("d")));
    IS(BADF, path_create_directory(NONE, S("d")));
    IS(PERM, path_create_directory(ROOT, S("../d")));
    IS(PERM, path_create_directory(ROOT, S("/d")));
    IS(ILSEQ, path_create_directory(ROOT, "\xff", 1));
    IS(INVAL, path_create_directory(ROOT, "a\0b", 3));
    IS(FAULT, path_create_directory(ROOT, OUTSIDE, 99));
    IS(NAMETOOLONG, path_create_directory(ROOT, name, 300));
    u32 d = open_at(ROOT, "d", DIRECTORY, 0, 0);

    // Opening.
    IS(NOENT, OPEN(ROOT, 0, "none", 0, RIGHT_READ, 0));
    IS(NOENT, OPEN(ROOT, 0, "", 0, RIGHT_READ, 0));
    IS(EXIST, OPEN(ROOT, 0, "text", CREAT | EXCL, RIGHT_READ, 0));
    IS(NOTDIR, OPEN(ROOT, 0, "text", DIRECTORY, RIGHT_READ, 0));
    IS(NOTDIR, OPEN(ROOT, 0, "text/x", 0, RIGHT_READ, 0));
    IS(NOTDIR, OPEN(f, 0, "text", 0, RIGHT_READ, 0));
    IS(ISDIR, OPEN(ROOT, 0, "d", 0, RIGHT_WRITE, 0));
    IS(INVAL, OPEN(ROOT, 0, "x", CREAT | DIRECTORY, RIGHT_READ, 0));
    IS(INVAL, OPEN(ROOT, 2, "text", 0, RIGHT_READ, 0));
    IS(INVAL, OPEN(ROOT, 0, "text", 16, RIGHT_READ, 0));
    IS(INVAL, OPEN(ROOT, 0, "text", 0, RIGHT_READ, 32));
    IS(PERM, OPEN(ROOT, 0, "../text", 0, RIGHT_READ, 0));
    IS(BADF, OPEN(NONE, 0, "text", 0, RIGHT_READ, 0));
    IS(FAULT, path_open(ROOT, 0, S("text"), 0, RIGHT_READ, 0, 0, OUTSIDE + 14));
    IS(ILSEQ, path_open(ROOT, 0, "\xff", 1, 0, RIGHT_READ, 0, 0, &fd));
    IS(NAMETOOLONG, path_open(ROOT, 0, name, 300, 0, RIGHT_READ, 0, 0, &fd));
    // What a directory doesn't hand on can't be had through it.
    u32 limited = open_at(ROOT, "d", DIRECTORY, 0, 0);
    IS(OK, fd_fdstat_set_rights(limited, 1 << 13, RIGHT_READ));
    IS(NOTCAPABLE, OPEN(limited, 0, "new", CREAT, RIGHT_READ, 0));
    IS(NOTCAPABLE, OPEN(limited, 0, "new", TRUNC, RIGHT_READ, 0));
    IS(NOTCAPABLE, OPEN(limited, 0, "new", 0, RIGHT_WRITE, 0));
    IS(NOTCAPABLE, path_create_directory(limited, S("x")));
    IS(NOTCAPABLE, path_unlink_file(limited, S("x")));
    IS(NOTCAPABLE, path_remove_directory(limited, S("x")));
    IS(NOTCAPABLE, path_readlink(limited, S("x"), bytes, 9, &n));
    IS(NOTCAPABLE, path_symlink(S("x"), limited, S("y")));
    IS(NOTCAPABLE, path_rename(limited, S("x"), ROOT, S("y")));
    IS(NOTCAPABLE, path_rename(ROOT, S("text"), limited, S("y")));
    IS(NOTCAPABLE, path_link(limited, 0, S("x"), ROOT, S("y")));
    IS(NOTCAPABLE, path_filestat_get(limited, 0, S("x"), stat));
    IS(NOTCAPABLE, path_filestat_set_times(limited, 0, S("x"), 0, 0, 2));
    IS(NOTCAPABLE, fd_readdir(limited, bytes, 99, 0, &n));
    IS(OK, fd_close(limited));

    // Links.
    IS(OK, path_symlink(S("../text"), d, S("link")));
    IS(EXIST, path_symlink(S("x"), d, S("link")));
    IS(PERM, path_symlink(S("/etc"), d, S("absolute")));
    IS(NOENT, path_symlink(S("x"), d, S("none/link")));
    IS(NOTDIR, path_symlink(S("x"), f, S("link")));
    IS(BADF, path_symlink(S("x"), NONE, S("link")));
    IS(OK, path_readlink(ROOT, S("d/link"), bytes, 99, &n));
    CHECK(n == 7 && memcmp(bytes, "../text", 7) == 0);
    IS(OK, path_readlink(ROOT, S("d/link"), bytes, 2, &n));
    CHECK(n == 2);
    IS(INVAL, path_readlink(ROOT, S("text"), bytes, 99, &n));
    IS(NOENT, path_readlink(ROOT, S("none"), bytes, 99, &n));
    IS(FAULT, path_readlink(ROOT, S("d/link"), OUTSIDE, 99, &n));
    IS(BADF, path_readlink(NONE, S("d/link"), bytes, 99, &n));
    IS(LOOP, OPEN(ROOT, 0, "d/link", 0, RIGHT_READ, 0));
    IS(OK, OPEN(ROOT, 1, "d/link", 0, RIGHT_READ, 0));
    IS(OK, fd_close(fd));
    IS(PERM, OPEN(d, 1, "link", 0, RIGHT_READ, 0));
    IS(OK, path_symlink(S("loop"), ROOT, S("loop")));
    IS(LOOP, OPEN(ROOT, 1, "loop", 0, RIGHT_READ, 0));
    IS(OK, path_link(ROOT, 0, S("text"), d, S("hard")));
    IS(EXIST, path_link(ROOT, 0, S("text"), d, S("hard")));
    IS(NOENT, path_link(ROOT, 0, S("none"), d, S("x")));
    IS(INVAL, path_link(ROOT, 1, S("text"), d, S("x")));
    IS(PERM, path_link(ROOT, 0, S("d"), ROOT, S("x")));
    IS(PERM, path_link(ROOT, 0, S("text"), d, S("../x")));
    IS(BADF, path_link(NONE, 0, S("text"), d, S("x")));
    IS(BADF, path_link(ROOT, 0, S("text"), NONE, S("x")));

    // Attributes.
    IS(OK, path_filestat_get(ROOT, 0, S("d/link"), stat));
    CHECK(TYPE(stat) == 7);
    IS(OK, path_filestat_get(ROOT, 1, S("d/link"), stat));
    CHECK(TYPE(stat) == 4 && LINKS(stat) == 2 && SIZE(stat) == 10);
    seen = INODE(stat);
    IS(OK, fd_filestat_get(f, stat));
    CHECK(INODE(stat) == seen);
    IS(NOENT, path_filestat_get(ROOT, 0, S("none"), stat));
    IS(NOTDIR, path_filestat_get(ROOT, 0, S("text/"), stat));
    IS(INVAL, path_filestat_get(ROOT, 4, S("text"), stat));
    IS(FAULT, path_filestat_get(ROOT, 0, S("text"), OUTSIDE));
    IS(PERM, path_filestat_get(ROOT, 0, S(".."), stat));
    IS(BADF, path_filestat_get(NONE, 0, S("text"), stat));
    IS(OK, path_filestat_set_times(ROOT, 1, S("d/link"), 1000000001, 2000000002, 5));
    IS(OK, fd_filestat_get(f, stat));
    CHECK(ACCESSED(stat) == 1000000001 && MODIFIED(stat) == 2000000002);
    IS(INVAL, path_filestat_set_times(ROOT, 1, S("text"), 0, 0, 12));
    IS(NOENT, path_filestat_set_times(ROOT, 1, S("none"), 0, 0, 2));
    IS(BADF, path_filestat_set_times(NONE, 1, S("text"), 0, 0, 2));

    // Listings.
    u32 count = 0;
    u64 cookie = 0;
    for (;;) {
        IS(OK, fd_readdir(d, bytes, 30, cookie, &n));
        u32 len;
        memcpy(&len, bytes + 16, 4);
        if (n < 24 + len) break;
        memcpy(&cookie, bytes, 8);
        count++;
    }
    CHECK(count == 4);
    IS(NOTDIR, fd_readdir(f, bytes, 99, 0, &n));
    IS(BADF, fd_readdir(NONE, bytes, 99, 0, &n));
    IS(FAULT, fd_readdir(d, OUTSIDE, 99, 0, &n));
    IS(FAULT, fd_readdir(d, bytes, 99, 0, OUTSIDE + 14));

    // Renaming and removing.
    IS(OK, path_rename(d, S("hard"), ROOT, S("moved")));
    IS(NOENT, path_rename(d, S("hard"), ROOT, S("moved")));
    IS(NOTDIR, path_rename(ROOT, S("d"), ROOT, S("moved")));
    IS(ISDIR, path_rename(ROOT, S("moved"), ROOT, S("d")));
    IS(INVAL, path_rename(ROOT, S("d"), d, S("inside")));
    IS(PERM, path_rename(ROOT, S("moved"), ROOT, S("../x")));
    IS(BADF, path_rename(NONE, S("d"), ROOT, S("x")));
    IS(BADF, path_rename(ROOT, S("d"), NONE, S("x")));
    IS(NOTEMPTY, path_remove_directory(ROOT, S("d")));
    IS(NOTDIR, path_remove_directory(ROOT, S("moved")));
    IS(NOENT, path_remove_directory(ROOT, S("none")));
    IS(PERM, path_remove_directory(ROOT, S("../x")));
    IS(BADF, path_remove_directory(NONE, S("d")));
    IS(ISDIR, path_unlink_file(ROOT, S("d")));
    IS(NOENT, path_unlink_file(ROOT, S("none")));
    IS(NOTDIR, path_unlink_file(ROOT, S("moved/")));
    IS(PERM, path_unlink_file(ROOT, S("../x")));
    IS(BADF, path_unlink_file(NONE, S("moved")));
    IS(OK, path_unlink_file(d, S("link")));
    IS(OK, path_unlink_file(ROOT, S("moved")));
    IS(OK, path_unlink_file(ROOT, S("loop")));
    IS(OK, fd_close(d));
    IS(OK, path_remove_directory(ROOT, S("d")));
    IS(OK, fd_close(f));
    printf("fine\n");
}
