// Does with files what standard input says, line by line, and answers each line with "ok": `unison_steps DIR`. What fails is told, and
// ends it with code 1.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char line[4096], a[1024], b[1024];

static void must(int good) {
    if (good) return;
    printf("failed: error %d at %s\n", errno, line);
    exit(1);
}

static void put(int fd, const char *text) {
    size_t len = strlen(text);
    must(write(fd, text, len) == (ssize_t)len);
    must(write(fd, "\n", 1) == 1);
}

static void put_into(const char *path, int flags, const char *text) {
    int fd = open(path, O_WRONLY | flags, 0644);
    must(fd >= 0);
    put(fd, text);
    must(close(fd) == 0);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    int held = -1;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        char copy[sizeof line];
        strcpy(copy, line);
        char *what = strtok(copy, " "), *first = strtok(NULL, " "), *rest = strtok(NULL, "");
        if (!what) continue;
        snprintf(a, sizeof a, "%s/%s", argv[1], first ? first : "");
        snprintf(b, sizeof b, "%s/%s", argv[1], rest ? rest : "");
        if (!strcmp(what, "quit")) return 0;
        else if (!strcmp(what, "write")) put_into(a, O_CREAT | O_TRUNC, rest);
        else if (!strcmp(what, "append")) put_into(a, O_CREAT | O_APPEND, rest);
        else if (!strcmp(what, "overwrite")) put_into(a, 0, rest);
        else if (!strcmp(what, "hold")) must((held = open(a, O_RDWR | O_CREAT | O_APPEND, 0644)) >= 0);
        else if (!strcmp(what, "more")) put(held, first);
        else if (!strcmp(what, "truncate")) must(truncate(a, atol(rest)) == 0);
        else if (!strcmp(what, "unlink")) must(unlink(a) == 0);
        else if (!strcmp(what, "rename")) must(rename(a, b) == 0);
        else if (!strcmp(what, "link")) must(link(a, b) == 0);
        else if (!strcmp(what, "symlink")) must(symlink(first, b) == 0);
        else if (!strcmp(what, "mkdir")) must(mkdir(a, 0755) == 0);
        else if (!strcmp(what, "rmdir")) must(rmdir(a) == 0);
        else if (!strcmp(what, "times")) {
            struct timespec t[2] = {{atol(rest), 5}, {atol(rest), 5}};
            must(utimensat(AT_FDCWD, a, t, 0) == 0);
        } else if (!strcmp(what, "show")) {
            char bytes[4096];
            int fd = open(a, O_RDONLY);
            must(fd >= 0);
            ssize_t n = read(fd, bytes, sizeof bytes);
            must(n >= 0);
            fwrite(bytes, 1, (size_t)n, stdout);
            close(fd);
        } else must(0);
        printf("ok\n");
        fflush(stdout);
    }
}
