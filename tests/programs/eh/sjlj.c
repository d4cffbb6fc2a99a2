// What setjmp and longjmp need at run time: wasi-libc's own `rt.c`, which Debian's wasi-libc is too old to have.
#include "rt.c"

__asm__(".globl __c_longjmp\n.tagtype __c_longjmp i32\n__c_longjmp:\n");
