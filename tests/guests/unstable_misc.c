//! What is left of preview1's predecessor, `wasi_unstable`: as in `wasi_misc.c`, with its own numbers and layouts.
//! not-native
//! dir
//! file: text=0123456789
//! args: one two
//! env: A=1
//! stdout: fine
#define UNSTABLE
#include "wasi_misc.c"
