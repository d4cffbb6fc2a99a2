//! Long string operations inside the C library, and strings that outlive moves.
#include "guest.h"

int main(void) {
    static char a[1500], b[1500];
    for (int i = 0; i < 1400; i++) a[i] = 'a' + i % 26;
    memcpy(b, a, sizeof b);
    memmove(b + 3, b, 900);
    CHECK(memcmp(b + 3, a, 900) == 0);
    memset(a + 200, 'x', 500);
    printf("%zu %zu %d\n", strlen(a), strlen(b), strcmp(a, b) < 0);
    char *found = strstr(b, "yzabc");
    printf("%d %s\n", found ? (int)(found - b) : -1, strrchr(b, 'q') ? "q" : "-");
    char list[] = "one,two,,three", *save = NULL;
    for (char *t = strtok_r(list, ",", &save); t; t = strtok_r(NULL, ",", &save)) printf("[%s]", t);
    printf("\n%ld %d\n", strtol("-123456", NULL, 10), atoi("42"));
}
