// A bank on SQLite, for kills at any instant: `unison_bank DIR SEED ROUNDS JOURNAL [PATIENCE]`, where JOURNAL is delete, truncate,
// persist, memory or wal. Money is neither made nor lost, and what the program remembers of balances and documents must be what the
// database says: else it ends with code 3. Prints at the end only.
#include "unison_vfs.h"

enum { ACCOUNTS = 120, DOCUMENTS = 24, BALANCE = 1000 };

static sqlite3 *db;
static char path[512];
static const char *journal;
static long balance[ACCOUNTS];
static uint32_t document[DOCUMENTS], length[DOCUMENTS];
// As they were at the last commit, and at the savepoint.
static long committed_balance[ACCOUNTS], saved_balance[ACCOUNTS];
static uint32_t committed_document[DOCUMENTS], committed_length[DOCUMENTS], saved_document[DOCUMENTS], saved_length[DOCUMENTS];
static long transfers;

static void wrong(const char *what, long found, long expected) {
    fprintf(stderr, "the bank is wrong: %s: %ld, not %ld\n", what, found, expected);
    exit(3);
}

static void fail(const char *what) {
    fprintf(stderr, "the bank is wrong: %s: %s (%d)\n", what, sqlite3_errmsg(db), sqlite3_extended_errcode(db));
    exit(3);
}

static void sql(const char *text) {
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK) fail(text);
}

static sqlite3_stmt *prepare(const char *text) {
    sqlite3_stmt *s;
    if (sqlite3_prepare_v2(db, text, -1, &s, NULL) != SQLITE_OK) fail(text);
    return s;
}

static long number(const char *text) {
    sqlite3_stmt *s = prepare(text);
    if (sqlite3_step(s) != SQLITE_ROW) fail(text);
    long n = (long)sqlite3_column_int64(s, 0);
    if (sqlite3_finalize(s) != SQLITE_OK) fail(text);
    return n;
}

static void run(const char *text, long a, long b, long c) {
    sqlite3_stmt *s = prepare(text);
    long values[] = {a, b, c};
    for (int i = 0; i < sqlite3_bind_parameter_count(s) && i < 3; i++) sqlite3_bind_int64(s, i + 1, values[i]);
    if (sqlite3_step(s) != SQLITE_DONE) fail(text);
    if (sqlite3_finalize(s) != SQLITE_OK) fail(text);
}

static void open_bank(void) {
    if (sqlite3_open(path, &db) != SQLITE_OK) fail("open");
    char mode[64];
    // The memory's share must be small, so that pages are written in the middle of a transaction.
    // The locking mode comes first: else a database with WAL would be opened with shared memory.
    sql("PRAGMA locking_mode=EXCLUSIVE; PRAGMA page_size=1024; PRAGMA cache_size=12; PRAGMA synchronous=NORMAL;");
    snprintf(mode, sizeof mode, "PRAGMA journal_mode=%s", journal);
    sqlite3_stmt *s = prepare(mode);
    if (sqlite3_step(s) != SQLITE_ROW) fail(mode);
    const char *is = (const char *)sqlite3_column_text(s, 0);
    if (sqlite3_stricmp(is, journal) != 0) {
        fprintf(stderr, "the journal mode is %s, not %s\n", is, journal);
        exit(2);
    }
    sqlite3_finalize(s);
    sql("PRAGMA wal_autocheckpoint=60");
}

static void close_bank(void) {
    if (sqlite3_close(db) != SQLITE_OK) fail("close");
}

static void fill(unsigned char *bytes, uint32_t len, uint32_t seed) {
    for (uint32_t i = 0; i < len; i++) bytes[i] = (unsigned char)((seed = seed * 1664525 + 1013904223) >> 24);
}

static unsigned char bytes[20000];

static void write_document(void) {
    uint32_t id = rnd(DOCUMENTS), len = 1 + rnd(rnd(4) ? 2000 : sizeof bytes);
    document[id] = rnd(1u << 30);
    length[id] = len;
    fill(bytes, len, document[id]);
    sqlite3_stmt *s = prepare("INSERT OR REPLACE INTO document(id, body) VALUES(?, ?)");
    sqlite3_bind_int(s, 1, (int)id);
    sqlite3_bind_blob(s, 2, bytes, (int)len, SQLITE_STATIC);
    if (sqlite3_step(s) != SQLITE_DONE) fail("a document");
    sqlite3_finalize(s);
}

static void remove_document(void) {
    uint32_t id = rnd(DOCUMENTS);
    length[id] = 0;
    run("DELETE FROM document WHERE id = ?", (long)id, 0, 0);
}

static void check_document(uint32_t id) {
    sqlite3_stmt *s = prepare("SELECT body FROM document WHERE id = ?");
    sqlite3_bind_int(s, 1, (int)id);
    int got = sqlite3_step(s);
    long len = got == SQLITE_ROW ? sqlite3_column_bytes(s, 0) : 0;
    if (len != (long)length[id]) wrong("length of a document", len, (long)length[id]);
    fill(bytes, length[id], document[id]);
    if (len && memcmp(bytes, sqlite3_column_blob(s, 0), (size_t)len) != 0) wrong("contents of document", (long)id, -1);
    if (sqlite3_finalize(s) != SQLITE_OK) fail("a document");
}

static void transfer(void) {
    uint32_t from = rnd(ACCOUNTS), to = rnd(ACCOUNTS);
    long amount = 1 + (long)rnd(50);
    run("UPDATE account SET balance = balance - ?1, changes = changes + 1 WHERE id = ?2", amount, from, 0);
    work(300);
    run("UPDATE account SET balance = balance + ?1, changes = changes + 1 WHERE id = ?2", amount, to, 0);
    balance[from] -= amount;
    balance[to] += amount;
    run("INSERT INTO transfer(source, target, amount) VALUES(?, ?, ?)", from, to, amount);
    transfers++;
}

static void keep(long *b, uint32_t *d, uint32_t *l) {
    memcpy(b, balance, sizeof balance);
    memcpy(d, document, sizeof document);
    memcpy(l, length, sizeof length);
}

static void go_back(long *b, uint32_t *d, uint32_t *l) {
    memcpy(balance, b, sizeof balance);
    memcpy(document, d, sizeof document);
    memcpy(length, l, sizeof length);
}

static void changes(int most) {
    for (int n = 1 + (int)rnd((uint32_t)most); n > 0; n--) {
        uint32_t what = rnd(10);
        if (what < 7) transfer();
        else if (what < 9) write_document();
        else remove_document();
        work(500 + rnd(2000));
    }
}

static void check(void) {
    long sum = number("SELECT sum(balance) FROM account");
    if (sum != (long)ACCOUNTS * BALANCE) wrong("sum of all balances", sum, (long)ACCOUNTS * BALANCE);
    for (int i = 0; i < 3; i++) {
        uint32_t id = rnd(ACCOUNTS);
        char text[100];
        snprintf(text, sizeof text, "SELECT balance FROM account WHERE id = %u", id);
        long is = number(text);
        if (is != balance[id]) wrong("balance of an account", is, balance[id]);
        snprintf(text, sizeof text, "SELECT count(*) FROM account INDEXED BY by_owner WHERE owner = 'owner %u'", id % 17);
        long by_index = number(text);
        long all = ACCOUNTS / 17 + (id % 17 < ACCOUNTS % 17);
        if (by_index != all) wrong("accounts of an owner", by_index, all);
    }
    check_document(rnd(DOCUMENTS));
}

static void check_integrity(void) {
    sqlite3_stmt *s = prepare("PRAGMA integrity_check");
    if (sqlite3_step(s) != SQLITE_ROW) fail("integrity_check");
    const char *text = (const char *)sqlite3_column_text(s, 0);
    if (strcmp(text, "ok") != 0) {
        fprintf(stderr, "the bank is wrong: integrity_check: %s\n", text);
        exit(3);
    }
    if (sqlite3_finalize(s) != SQLITE_OK) fail("integrity_check");
}

static uint32_t sum_of(const char *text) {
    sqlite3_stmt *s = prepare(text);
    uint32_t sum = 0;
    int step;
    while ((step = sqlite3_step(s)) == SQLITE_ROW)
        for (int c = 0; c < sqlite3_column_count(s); c++) {
            const unsigned char *b = sqlite3_column_blob(s, c);
            for (int i = 0; i < sqlite3_column_bytes(s, c); i++) sum = sum * 31 + b[i];
        }
    if (step != SQLITE_DONE || sqlite3_finalize(s) != SQLITE_OK) fail(text);
    return sum;
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    snprintf(path, sizeof path, "%s/bank.db", argv[1]);
    state_of_random = strtoull(argv[2], NULL, 10);
    long rounds = atol(argv[3]);
    journal = argv[4];
    if (argc > 5) patience = atol(argv[5]);
    struct stat s;
    if (stat(path, &s) == 0) wrong("bytes of the database at the beginning", (long)s.st_size, 0);
    open_bank();
    sql("BEGIN;"
        "CREATE TABLE account(id INTEGER PRIMARY KEY, owner TEXT, balance INT, changes INT);"
        "CREATE INDEX by_owner ON account(owner, balance);"
        "CREATE TABLE transfer(id INTEGER PRIMARY KEY, source INT, target INT, amount INT);"
        "CREATE INDEX by_target ON transfer(target, amount);"
        "CREATE TABLE document(id INTEGER PRIMARY KEY, body BLOB);");
    for (int i = 0; i < ACCOUNTS; i++) {
        run("INSERT INTO account VALUES(?1, 'owner ' || ?2, ?3, 0)", i, i % 17, BALANCE);
        balance[i] = BALANCE;
    }
    sql("COMMIT");
    keep(committed_balance, committed_document, committed_length);
    for (long round = 0; round < rounds; round++) {
        sql("BEGIN");
        changes(5);
        if (rnd(4) == 0) {
            sql("SAVEPOINT here");
            keep(saved_balance, saved_document, saved_length);
            changes(4);
            if (rnd(2)) {
                sql("ROLLBACK TO here");
                go_back(saved_balance, saved_document, saved_length);
            }
            sql("RELEASE here");
        }
        if (rnd(6) == 0) run("DELETE FROM transfer WHERE id < (SELECT max(id) FROM transfer) - ?", 300 + (long)rnd(300), 0, 0);
        if (rnd(7) == 0) {
            sql("ROLLBACK");
            go_back(committed_balance, committed_document, committed_length);
        } else {
            sql("COMMIT");
            keep(committed_balance, committed_document, committed_length);
        }
        check();
        if (round % 61 == 60) sql("VACUUM");
        if (round % 47 == 46) sql("PRAGMA wal_checkpoint(TRUNCATE)");
        if (round % 83 == 82) check_integrity();
        if (round % 37 == 36) {
            close_bank();
            open_bank();
        }
    }
    check_integrity();
    for (uint32_t id = 0; id < DOCUMENTS; id++) check_document(id);
    for (int id = 0; id < ACCOUNTS; id++) {
        char text[100];
        snprintf(text, sizeof text, "SELECT balance FROM account WHERE id = %d", id);
        long is = number(text);
        if (is != balance[id]) wrong("balance of an account", is, balance[id]);
    }
    uint32_t accounts = sum_of("SELECT * FROM account ORDER BY id"), moved = sum_of("SELECT * FROM transfer ORDER BY id");
    uint32_t documents = sum_of("SELECT * FROM document ORDER BY id");
    close_bank();
    printf("%s: %ld transfers, sums %08x %08x %08x, work %08x, done\n", journal, transfers, accounts, moved, documents, worked);
}
