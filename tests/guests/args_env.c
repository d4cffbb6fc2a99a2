//! Arguments and variables are part of the state: they are read again after moves.
//! args: one two-2 three=3
//! env: COLOUR=dark green
//! env: EMPTY=
#include "guest.h"

int main(int argc, char **argv) {
    for (int round = 0; round < 3; round++) {
        printf("%d", argc);
        for (int i = 1; i < argc; i++) { work(3); printf(" %s", argv[i]); }
        printf(" | %s | %s | %d\n", getenv("COLOUR"), getenv("EMPTY"), getenv("HOME") != NULL);
    }
}
