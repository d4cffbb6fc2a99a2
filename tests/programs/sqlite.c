// A deterministic workload for SQLite on a file database: `sqlite DATABASE SCALE`. The library's own sources come from the
// `libsqlite3-sys` crate.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sqlite3.h"

static sqlite3 *db;
static uint32_t seed = 1;
static uint32_t rnd(uint32_t n) {
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

static void fail(const char *what) {
    printf("%s: %s\n", what, sqlite3_errmsg(db));
    exit(1);
}

static int show(void *unused, int n, char **values, char **names) {
    (void)unused;
    (void)names;
    for (int i = 0; i < n; i++) printf("%s%s", i ? "|" : "", values[i] ? values[i] : "NULL");
    printf("\n");
    return 0;
}

static void sql(const char *text) {
    if (sqlite3_exec(db, text, show, NULL, NULL) != SQLITE_OK) fail(text);
}

static sqlite3_stmt *prepare(const char *text) {
    sqlite3_stmt *s;
    if (sqlite3_prepare_v2(db, text, -1, &s, NULL) != SQLITE_OK) fail(text);
    return s;
}

static void run(sqlite3_stmt *s) {
    if (sqlite3_step(s) != SQLITE_DONE) fail("step");
    sqlite3_reset(s);
}

// An aggregate of ours, so that the library calls back into the program.
static void fold_step(sqlite3_context *c, int n, sqlite3_value **v) {
    uint64_t *h = sqlite3_aggregate_context(c, sizeof *h);
    (void)n;
    *h = *h * 31 + (uint64_t)sqlite3_value_int64(v[0]);
}
static void fold_end(sqlite3_context *c) {
    uint64_t *h = sqlite3_aggregate_context(c, sizeof *h);
    sqlite3_result_int64(c, (sqlite3_int64)*h);
}

// The crate's VFS for WASI answers "done" to every file control, which makes SQLite believe that it handled all PRAGMAs.
static sqlite3_io_methods methods;
static int not_handled(sqlite3_file *file, int op, void *arg) {
    (void)file;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}
static void let_pragmas_through(void) {
    sqlite3_file *file;
    if (sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK) fail("file control");
    methods = *file->pMethods;
    methods.xFileControl = not_handled;
    file->pMethods = &methods;
}

int main(int argc, char **argv) {
    int scale = argc > 2 ? atoi(argv[2]) : 1;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    if (argc < 2 || sqlite3_open(argv[1], &db) != SQLITE_OK) fail("open");
    let_pragmas_through();
    sqlite3_create_function(db, "fold", 1, SQLITE_UTF8, NULL, NULL, fold_step, fold_end);
    sql("PRAGMA page_size=1024; PRAGMA cache_size=40;");
    sql("CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, town TEXT, age INT, score REAL);"
        "CREATE TABLE visit(person INT REFERENCES person, place TEXT, year INT);"
        "CREATE INDEX visit_person ON visit(person);");
    static const char *towns[] = {"Lund", "Delft", "Graz", "Porto", "Turku"};
    char name[32];
    sqlite3_stmt *add = prepare("INSERT INTO person(name, town, age, score) VALUES(?, ?, ?, ?)");
    sqlite3_stmt *visit = prepare("INSERT INTO visit VALUES(?, ?, ?)");
    for (int round = 1; round <= scale; round++) {
        sql("BEGIN");
        for (int i = 0; i < 60; i++) {
            snprintf(name, sizeof name, "person-%u", rnd(100000));
            sqlite3_bind_text(add, 1, name, -1, SQLITE_TRANSIENT);
            sqlite3_bind_text(add, 2, towns[rnd(5)], -1, SQLITE_STATIC);
            sqlite3_bind_int(add, 3, (int)rnd(90));
            sqlite3_bind_double(add, 4, rnd(1000) / 7.0);
            run(add);
            for (uint32_t v = rnd(3); v > 0; v--) {
                sqlite3_bind_int64(visit, 1, sqlite3_last_insert_rowid(db));
                sqlite3_bind_text(visit, 2, towns[rnd(5)], -1, SQLITE_STATIC);
                sqlite3_bind_int(visit, 3, 2000 + (int)rnd(25));
                run(visit);
            }
        }
        sql(round % 4 == 0 ? "ROLLBACK" : "COMMIT");
        sql("SELECT town, count(*), avg(age), round(sum(score), 3) FROM person GROUP BY town ORDER BY 2 DESC, 1");
        sql("SELECT p.town, v.place, count(*) FROM person p JOIN visit v ON v.person = p.id WHERE p.age BETWEEN 20 AND 60 "
            "GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 4");
        sql("UPDATE person SET score = score * 1.01, name = upper(substr(name, 1, 3)) || substr(name, 4) WHERE id % 7 = 3");
        sql("DELETE FROM visit WHERE year < 2003");
        sql("WITH RECURSIVE fib(n, a, b) AS (VALUES(1, 0, 1) UNION ALL SELECT n + 1, b, a + b FROM fib WHERE n < 30) "
            "SELECT max(a) FROM fib");
        sql("SELECT fold(age), fold(length(name)) FROM (SELECT age, name FROM person ORDER BY name, id)");
        sql("SELECT name, printf('%.4f', score) FROM person WHERE name LIKE '%99%' ORDER BY score LIMIT 3");
    }
    sqlite3_finalize(add);
    sqlite3_finalize(visit);
    sql("CREATE INDEX by_town ON person(town, age); ANALYZE; PRAGMA integrity_check;");
    if (sqlite3_close(db) != SQLITE_OK) fail("close");
    clock_gettime(CLOCK_MONOTONIC, &end);
    // For the benchmarks: what it took, in nanoseconds.
    if (getenv("TIMES")) fprintf(stderr, "%lld\n", (end.tv_sec - start.tv_sec) * 1000000000ll + (end.tv_nsec - start.tv_nsec));
    printf("done\n");
}
