// Compresses a file of generated text with bzip2 and with zstd, and unpacks both again: `squeeze SCALE DIR`. The libraries' own
// sources come from the crates `bzip2-sys` and `zstd-sys`.
#include <bzlib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

static char path[4][512];

static void fail(const char *what) {
    printf("cannot %s\n", what);
    exit(1);
}

static FILE *open_file(const char *name, const char *mode) {
    FILE *f = fopen(name, mode);
    if (!f) fail(name);
    return f;
}

static uint64_t hash_file(const char *name, long *size) {
    FILE *f = open_file(name, "rb");
    uint64_t h = 1469598103934665603u;
    int c;
    for (*size = 0; (c = fgetc(f)) != EOF; ++*size) h = (h ^ (uint64_t)c) * 1099511628211u;
    fclose(f);
    return h;
}

static void generate(const char *name, int lines) {
    static const char *words[] = {"ship", "sail", "wind", "north", "harbour", "anchor", "tide", "lantern", "chart", "captain", "reef", "gull"};
    uint32_t seed = 2463534242u;
    FILE *f = open_file(name, "wb");
    for (int i = 0; i < lines; i++) {
        fprintf(f, "%d:", i);
        for (int j = 0; j < 12; j++) {
            seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
            if (seed % 16 == 0) fprintf(f, " %08x", seed);
            else fprintf(f, " %s", words[seed / 16 % 12]);
        }
        fputc('\n', f);
    }
    fclose(f);
}

static void bzip2(const char *from, const char *to) {
    FILE *in = open_file(from, "rb"), *out = open_file(to, "wb");
    int status;
    BZFILE *b = BZ2_bzWriteOpen(&status, out, 1, 0, 30);
    char buffer[5000];
    size_t n;
    while ((n = fread(buffer, 1, sizeof buffer, in)) > 0) {
        BZ2_bzWrite(&status, b, buffer, (int)n);
        if (status != BZ_OK) fail("compress");
    }
    BZ2_bzWriteClose(&status, b, 0, NULL, NULL);
    fclose(in);
    fclose(out);
}

static void bunzip2(const char *from, const char *to) {
    FILE *in = open_file(from, "rb"), *out = open_file(to, "wb");
    int status;
    BZFILE *b = BZ2_bzReadOpen(&status, in, 0, 0, NULL, 0);
    char buffer[5000];
    do {
        int n = BZ2_bzRead(&status, b, buffer, sizeof buffer);
        if (status != BZ_OK && status != BZ_STREAM_END) fail("uncompress");
        fwrite(buffer, 1, (size_t)n, out);
    } while (status == BZ_OK);
    BZ2_bzReadClose(&status, b);
    fclose(in);
    fclose(out);
}

static void zstd(const char *from, const char *to, int level) {
    FILE *in = open_file(from, "rb"), *out = open_file(to, "wb");
    ZSTD_CStream *s = ZSTD_createCStream();
    ZSTD_CCtx_setParameter(s, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(s, ZSTD_c_checksumFlag, 1);
    char source[4000], target[3000];
    size_t n, left;
    do {
        n = fread(source, 1, sizeof source, in);
        ZSTD_inBuffer input = {source, n, 0};
        do {
            ZSTD_outBuffer output = {target, sizeof target, 0};
            left = ZSTD_compressStream2(s, &output, &input, n ? ZSTD_e_continue : ZSTD_e_end);
            if (ZSTD_isError(left)) fail(ZSTD_getErrorName(left));
            fwrite(target, 1, output.pos, out);
        } while (n ? input.pos < input.size : left != 0);
    } while (n > 0);
    ZSTD_freeCStream(s);
    fclose(in);
    fclose(out);
}

static void unzstd(const char *from, const char *to) {
    FILE *in = open_file(from, "rb"), *out = open_file(to, "wb");
    ZSTD_DStream *s = ZSTD_createDStream();
    char source[1000], target[3000];
    size_t n;
    while ((n = fread(source, 1, sizeof source, in)) > 0) {
        ZSTD_inBuffer input = {source, n, 0};
        ZSTD_outBuffer output;
        do {
            output = (ZSTD_outBuffer){target, sizeof target, 0};
            size_t left = ZSTD_decompressStream(s, &output, &input);
            if (ZSTD_isError(left)) fail(ZSTD_getErrorName(left));
            fwrite(target, 1, output.pos, out);
        } while (input.pos < input.size || output.pos == output.size);
    }
    ZSTD_freeDStream(s);
    fclose(in);
    fclose(out);
}

static void show(const char *what, const char *name) {
    long size;
    uint64_t h = hash_file(name, &size);
    printf("%s: %ld bytes %016llx\n", what, size, (unsigned long long)h);
    fflush(stdout);
}

int main(int argc, char **argv) {
    int scale = argc > 1 ? atoi(argv[1]) : 1;
    const char *names[] = {"plain", "packed.bz2", "packed.zst", "unpacked"};
    for (int i = 0; i < 4; i++) snprintf(path[i], sizeof path[i], "%s/%s", argc > 2 ? argv[2] : ".", names[i]);
    generate(path[0], 300 * scale);
    show("plain", path[0]);
    bzip2(path[0], path[1]);
    show("bzip2", path[1]);
    bunzip2(path[1], path[3]);
    show("back", path[3]);
    for (int level = 1; level <= 19; level += 6) {
        zstd(path[0], path[2], level);
        show("zstd", path[2]);
        unzstd(path[2], path[3]);
        show("back", path[3]);
    }
    printf("done\n");
    return 0;
}
