//! The `fd_*` functions of preview1's predecessor, `wasi_unstable`: as in `wasi_files.c`, with its own numbers and layouts.
//! not-native
//! dir
//! file: text=0123456789
//! stdout: fine
#define UNSTABLE
#include "wasi_files.c"
