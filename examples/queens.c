// In how many ways can N queens stand on an N x N board so that none attacks another?
//
// A deep recursion that runs for seconds and says how far it has come: a good traveller. With N = 14 it takes a few seconds
// on a laptop, with N = 15 half a minute.
//
//   examples/build-c examples/queens.c queens.wasm
#include <stdio.h>
#include <stdlib.h>

static int n;
static int row_of[32]; // by column, of the queens placed so far

static int attacked(int column, int row) {
    for (int c = 0; c < column; c++) {
        int distance = column - c;
        if (row_of[c] == row || row_of[c] == row - distance || row_of[c] == row + distance) return 1;
    }
    return 0;
}

static unsigned long place(int column) {
    if (column == n) return 1;
    unsigned long ways = 0;
    for (int row = 0; row < n; row++) {
        if (attacked(column, row)) continue;
        row_of[column] = row;
        ways += place(column + 1);
    }
    return ways;
}

int main(int argc, char **argv) {
    n = argc > 1 ? atoi(argv[1]) : 8;
    if (n < 1 || n > 20) {
        fprintf(stderr, "usage: %s [N]   (N from 1 to 20)\n", argv[0]);
        return 1;
    }
    unsigned long total = 0;
    for (int row = 0; row < n; row++) {
        row_of[0] = row;
        unsigned long ways = place(1);
        total += ways;
        printf("first queen in row %2d: %7lu ways\n", row + 1, ways);
        fflush(stdout);
    }
    printf("%d queens: %lu ways in all\n", n, total);
    return 0;
}
