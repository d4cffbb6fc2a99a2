// Runs a Lua script: `lua SCRIPT ARGS...`. The interpreter's own sources come from the `lua-src` crate.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"

// What wasi-libc lacks. None of it is called by our scripts.
FILE *tmpfile(void) { return NULL; }
char *tmpnam(char *s) { (void)s; return NULL; }
int system(const char *s) { (void)s; return -1; }

void dunlin_lua_throw(void) {
    fprintf(stderr, "lua: an error was raised, and this build can't catch it\n");
    exit(3);
}

static int read_file(const char *name, char **text, size_t *size) {
    FILE *f = fopen(name, "rb");
    if (!f) return 0;
    size_t room = 1 << 16;
    char *p = malloc(room);
    size_t n = 0, got;
    while (p && (got = fread(p + n, 1, room - n, f)) > 0) {
        n += got;
        if (n == room) p = realloc(p, room *= 2);
    }
    fclose(f);
    *text = p;
    *size = n;
    return p != NULL;
}

static int on_panic(lua_State *L) {
    const char *message = lua_tostring(L, -1);
    fprintf(stderr, "lua: %s\n", message ? message : "(no message)");
    exit(3);
}

int main(int argc, char **argv) {
    char *text;
    size_t size;
    if (argc < 2 || !read_file(argv[1], &text, &size)) {
        fprintf(stderr, "usage: lua SCRIPT ARGS...\n");
        return 2;
    }
    lua_State *L = luaL_newstate();
    lua_atpanic(L, on_panic);
    luaL_openlibs(L);
    lua_createtable(L, argc - 2, 0);
    for (int i = 2; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - 1);
    }
    lua_setglobal(L, "arg");
    if (luaL_loadbuffer(L, text, size, argv[1]) != LUA_OK) return on_panic(L);
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    lua_call(L, 0, 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    // For the benchmarks: what the script took, in nanoseconds.
    if (getenv("TIMES")) fprintf(stderr, "%lld\n", (end.tv_sec - start.tv_sec) * 1000000000ll + (end.tv_nsec - start.tv_nsec));
    lua_close(L);
    return 0;
}
