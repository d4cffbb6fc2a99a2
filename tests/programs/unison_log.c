// A program that writes a log, for kills at any instant: `unison_log DIR SEED LINES [PATIENCE]`. Every line has a number and tells
// where the line before it ended. Now and then the log is rotated. A line that is doubled, missing or torn ends the program with code 3.
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "unison_full.h"

enum { KEPT = 6, PER_FILE = 400 };

static const char *dir;
static char names[KEPT + 2][512];

static const char *name(int nth) {
    if (nth == 0) snprintf(names[0], sizeof names[0], "%s/log", dir);
    else snprintf(names[nth], sizeof names[nth], "%s/log.%d", dir, nth);
    return names[nth];
}

static void wrong(const char *what, long found, long expected) {
    fprintf(stderr, "the log is wrong: %s: %ld, not %ld\n", what, found, expected);
    exit(3);
}

// Numbers of the lines of one file; `*next` is the first line's number, and becomes that of the line after the last.
static long check_file(const char *path, long *next) {
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    char line[256];
    long lines = 0, at = 0;
    while (fgets(line, sizeof line, f)) {
        long number, start;
        if (sscanf(line, "line %ld at %ld ", &number, &start) != 2) wrong("a torn line after line", *next, *next);
        if (*next < 0) *next = number;
        if (number != *next) wrong("number of a line", number, *next);
        if (start != at) wrong("where a line says it begins", start, at);
        at += (long)strlen(line);
        if (line[strlen(line) - 1] != '\n') wrong("a line without end", number, *next);
        ++*next;
        lines++;
    }
    fclose(f);
    return lines;
}

// All that is kept must be one sequence that ends with the line before `end`.
static long check_all(long end) {
    long next = -1, lines = 0;
    for (int nth = KEPT; nth >= 0; nth--) {
        long n = check_file(name(nth), &next);
        if (n > 0) lines += n;
    }
    if (next >= 0 && next != end) wrong("the next line's number", next, end);
    long gone = (end - 1) / PER_FILE - KEPT;
    long kept = end - (gone > 0 ? gone * PER_FILE : 0);
    if (lines != kept) wrong("lines in all files", lines, kept);
    return lines;
}

static void put(FILE *f, const char *text) {
    // Line by line, each at once: a failed flush has kept what it could not write.
    size_t len = strlen(text);
    while (len > 0) {
        ssize_t n = write(fileno(f), text, len);
        if (n < 0) {
            if (!no_room("write")) wrong("error of write", errno, 0);
            continue;
        }
        text += n;
        len -= (size_t)n;
    }
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    dir = argv[1];
    state_of_random = strtoull(argv[2], NULL, 10);
    long lines = atol(argv[3]);
    if (argc > 4) patience = atol(argv[4]);
    long next = -1, before = 0;
    for (int nth = KEPT; nth >= 0; nth--) {
        long n = check_file(name(nth), &next);
        if (n > 0) before += n;
    }
    if (before) wrong("lines at the beginning", before, 0);
    FILE *log = NULL;
    long at = 0;
    uint32_t sum = 0;
    for (long n = 0; n < lines; n++) {
        if (n % PER_FILE == 0) {
            if (log) {
                fclose(log);
                for (int nth = KEPT; nth > 0; nth--)
                    while (rename(name(nth - 1), name(nth)) != 0 && errno != ENOENT)
                        if (!no_room("rename")) wrong("error of rename", errno, 0);
            }
            while (!(log = fopen(name(0), "a")))
                if (!no_room("open")) wrong("error of open", errno, 0);
            at = 0;
        }
        char line[256], filler[160];
        uint32_t fill = rnd(sizeof filler);
        memset(filler, 'a' + (int)(n % 26), fill);
        filler[fill] = 0;
        work(500 + rnd(3000));
        int len = snprintf(line, sizeof line, "line %ld at %ld %08x %s\n", n, at, worked, filler);
        if (n % 3 == 0) {
            put(log, line);
        } else {
            // In two parts, as programs do whose buffer is full in the middle of a line.
            char half[256];
            memcpy(half, line, (size_t)len / 2);
            half[len / 2] = 0;
            put(log, half);
            work(200);
            put(log, line + len / 2);
        }
        at += len;
        for (int i = 0; i < len; i++) sum = sum * 31 + (unsigned char)line[i];
        struct stat s;
        if (fstat(fileno(log), &s) != 0) wrong("error of fstat", errno, 0);
        if (s.st_size != at) wrong("length of the log", (long)s.st_size, at);
        if (n % 97 == 0) check_all(n + 1);
    }
    if (log) fclose(log);
    long kept = check_all(lines);
    printf("%ld lines, %ld kept, sum %08x, done\n", lines, kept, sum);
}
