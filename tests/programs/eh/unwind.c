// libunwind for WebAssembly, which Debian doesn't package. The linker wants the tag defined somewhere.
#include "Unwind-wasm.c"

__asm__(".globl __cpp_exception\n.tagtype __cpp_exception i32\n__cpp_exception:\n");
