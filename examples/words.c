// Counts the words of a text: reads a file in a granted directory (or standard input) and writes a table of the commonest words.
// A file that is half read when the program is moved goes on at its offset. Usage: words [FILE [COUNT]]
//
//   dunlin run --dir . words -- README.md
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    char *word;
    unsigned long count;
};

static struct entry *table;
static size_t size, used;

static struct entry *find(const char *word) {
    unsigned long hash = 5381;
    for (const char *p = word; *p; p++) hash = hash * 33 ^ (unsigned char)*p;
    size_t at = hash & (size - 1);
    while (table[at].word && strcmp(table[at].word, word)) at = (at + 1) & (size - 1);
    return &table[at];
}

static void grow(void) {
    struct entry *old = table;
    size_t old_size = size;
    size = size ? size * 2 : 1024;
    table = calloc(size, sizeof *table);
    if (!table) abort();
    for (size_t i = 0; i < old_size; i++)
        if (old[i].word) *find(old[i].word) = old[i];
    free(old);
}

static void count(const char *word) {
    if (used * 2 >= size) grow();
    struct entry *e = find(word);
    if (!e->word) {
        e->word = strdup(word);
        if (!e->word) abort();
        used++;
    }
    e->count++;
}

static int commoner(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? 1 : -1;
    return x->word && y->word ? strcmp(x->word, y->word) : 0;
}

int main(int argc, char **argv) {
    FILE *in = argc > 1 ? fopen(argv[1], "r") : stdin;
    if (!in) {
        perror(argv[1]);
        return 1;
    }
    char word[64];
    size_t length = 0;
    for (int c; (c = getc(in)) != EOF;) {
        if (isalpha(c) && length < sizeof word - 1) {
            word[length++] = (char)tolower(c);
        } else if (length) {
            word[length] = 0;
            count(word);
            length = 0;
        }
    }
    if (length) {
        word[length] = 0;
        count(word);
    }
    size_t show = argc > 2 ? strtoul(argv[2], NULL, 10) : 10;
    qsort(table, size, sizeof *table, commoner);
    for (size_t i = 0; i < show && i < size && table[i].word; i++) printf("%6lu %s\n", table[i].count, table[i].word);
    printf("%zu different words\n", used);
    return 0;
}
