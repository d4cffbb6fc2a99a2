// The Mandelbrot set in letters: floating point in a tight loop. Usage: mandelbrot [WIDTH HEIGHT ITERATIONS]
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int width = argc > 1 ? atoi(argv[1]) : 78, height = argc > 2 ? atoi(argv[2]) : 32;
    long limit = argc > 3 ? atol(argv[3]) : 200000;
    static const char shades[] = " .:-=+*%@#";
    if (width < 1 || height < 1 || limit < 1) {
        fprintf(stderr, "usage: %s [WIDTH HEIGHT ITERATIONS]\n", argv[0]);
        return 1;
    }
    for (int j = 0; j < height; j++) {
        for (int i = 0; i < width; i++) {
            double cr = -2.1 + 2.9 * i / width, ci = -1.2 + 2.4 * j / height, zr = 0, zi = 0;
            long k = 0;
            while (k < limit && zr * zr + zi * zi < 4) {
                double t = zr * zr - zi * zi + cr;
                zi = 2 * zr * zi + ci;
                zr = t;
                k++;
            }
            putchar(k == limit ? '#' : shades[k % 9]);
        }
        putchar('\n');
        fflush(stdout);
    }
    return 0;
}
