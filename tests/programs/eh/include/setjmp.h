// The header that Debian's wasi-libc lacks. clang knows the two functions by their names.
#ifndef DUNLIN_TEST_EH_SETJMP_H
#define DUNLIN_TEST_EH_SETJMP_H
typedef unsigned long long jmp_buf[16]; // more than `struct jmp_buf_impl` of rt.c
int setjmp(jmp_buf) __attribute__((__returns_twice__));
_Noreturn void longjmp(jmp_buf, int);
#endif
