// The part of libc++abi that throws and catches. Debian's build of it for WebAssembly has stand-ins that abort.
#define _LIBCXXABI_BUILDING_LIBRARY
#define _LIBCPP_BUILDING_LIBRARY
#include "cxa_exception.cpp"
#include "cxa_personality.cpp"
