//! Buffered streams with half-filled buffers in both directions.
//! dir
//! file: words=the quick brown fox jumps over the lazy dog and runs away\n
#include "guest.h"

int main(void) {
    FILE *in = fopen(DATA "/words", "r"), *out = fopen(DATA "/out", "w");
    CHECK(in && out);
    char buffer[64], word[32];
    setvbuf(out, buffer, _IOFBF, sizeof buffer);
    int n = 0;
    while (fscanf(in, "%31s", word) == 1) {
        work(2);
        fprintf(out, "%d=%s ", ++n, word);
        if (n == 5) { int c = fgetc(in); ungetc(c, in); }
    }
    CHECK(feof(in));
    CHECK(fclose(out) == 0);
    printf("%d words, at %ld\n", n, ftell(in));
}
