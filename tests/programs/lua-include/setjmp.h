// Lua wants setjmp for errors and coroutines. WebAssembly without exceptions has none: an error that Lua would catch ends the
// program instead, so scripts here use neither pcall nor coroutines. `ldo.c` includes this before it looks at these macros.
#ifndef DUNLIN_TEST_SETJMP_H
#define DUNLIN_TEST_SETJMP_H
typedef int jmp_buf;
_Noreturn void dunlin_lua_throw(void);
#define LUAI_THROW(L, c) dunlin_lua_throw()
#define LUAI_TRY(L, c, a) { a }
#define luai_jmpbuf int
#endif
