// A small language, interpreted: `shapes SCALE DIR`. Exceptions of many kinds, containers, virtual calls, streams. Everything that
// is thrown passes frames with destructors, some of them deep.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <functional>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <streambuf>
#include <stdexcept>
#include <string>
#include <vector>

using i64 = int64_t; // `long` has 32 bits in WebAssembly

static i64 alive = 0, most = 0;
struct Counted {
    Counted() { most = std::max(most, ++alive); }
    Counted(const Counted &) : Counted() {}
    ~Counted() { --alive; }
};

struct ParseError : std::runtime_error {
    size_t at;
    ParseError(const std::string &what, size_t at) : std::runtime_error(what), at(at) {}
};
struct Unbound : std::out_of_range {
    explicit Unbound(const std::string &name) : std::out_of_range("unbound " + name) {}
};
struct Return {
    i64 value;
};
// Two bases, so that a handler's pointer is not the thrown object's.
struct Tagged {
    virtual ~Tagged() = default;
    virtual std::string tag() const = 0;
};
struct Both : std::logic_error, Tagged {
    i64 n;
    explicit Both(i64 n) : std::logic_error("both"), n(n) {}
    std::string tag() const override { return "tag" + std::to_string(n); }
};

using Scope = std::map<std::string, i64>;

struct Node : Counted {
    virtual ~Node() = default;
    virtual i64 eval(Scope &s, int depth) const = 0;
    virtual void show(std::ostream &o) const = 0;
};
using Ptr = std::unique_ptr<Node>;

struct Number : Node {
    i64 n;
    explicit Number(i64 n) : n(n) {}
    i64 eval(Scope &, int) const override { return n; }
    void show(std::ostream &o) const override { o << n; }
};
struct Name : Node {
    std::string name;
    explicit Name(std::string n) : name(std::move(n)) {}
    i64 eval(Scope &s, int) const override {
        auto found = s.find(name);
        if (found == s.end()) throw Unbound(name);
        return found->second;
    }
    void show(std::ostream &o) const override { o << name; }
};
struct Binary : Node {
    char op;
    Ptr left, right;
    Binary(char op, Ptr l, Ptr r) : op(op), left(std::move(l)), right(std::move(r)) {}
    i64 eval(Scope &s, int depth) const override {
        Counted here;
        if (depth > 400) throw std::length_error("too deep");
        i64 a = left->eval(s, depth + 1);
        if (op == '?') return a ? right->eval(s, depth + 1) : 0;
        i64 b = right->eval(s, depth + 1);
        switch (op) {
        case '+': return (a + b) % 1000003;
        case '-': return a - b;
        case '*': return (a * b) % 1000003;
        case '/':
            if (b == 0) throw b;
            return a / b;
        case '!': throw Return{a * b % 97};
        case '#': throw Both(a);
        default: throw "no such operator";
        }
    }
    void show(std::ostream &o) const override {
        o << '(';
        left->show(o);
        o << op;
        right->show(o);
        o << ')';
    }
};

class Parser {
    const std::string &text;
    size_t at = 0;
    Ptr atom() {
        Counted here;
        if (at >= text.size()) throw ParseError("end", at);
        char c = text[at];
        if (c == '(') {
            at++;
            Ptr inner = expression();
            if (at >= text.size() || text[at] != ')') throw ParseError("no )", at);
            at++;
            return inner;
        }
        if (c >= '0' && c <= '9') {
            i64 n = 0;
            while (at < text.size() && text[at] >= '0' && text[at] <= '9') n = n * 10 + (text[at++] - '0');
            return std::make_unique<Number>(n);
        }
        if (c >= 'a' && c <= 'z') return std::make_unique<Name>(std::string(1, text[at++]));
        throw ParseError(std::string("not ") + c, at);
    }

public:
    explicit Parser(const std::string &t) : text(t) {}
    Ptr expression() {
        Counted here;
        Ptr left = atom();
        while (at < text.size() && text[at] != ')') {
            char op = text[at++];
            left = std::make_unique<Binary>(op, std::move(left), atom());
        }
        return left;
    }
};

static uint32_t seed = 7;
static unsigned rnd(unsigned n) {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff;
    return (seed >> 8) % n;
}

static std::string random_text(int depth) {
    static const char ops[] = "+-*/+-*?!#@+";
    if (depth == 0 || rnd(5) == 0) {
        if (rnd(60) == 0) return ")";
        return rnd(3) ? std::to_string(rnd(50)) : std::string(1, char('a' + rnd(9)));
    }
    std::string text = "(" + random_text(depth - 1);
    text += ops[rnd(12)];
    text += random_text(depth - 1);
    return text + ")";
}

// Throws from the bottom of a recursion through frames that each have something to destroy.
static i64 deep(int n, const std::function<i64(int)> &at_bottom) {
    Counted here;
    std::string name = "frame number " + std::to_string(n) + " of a long way down";
    if (n == 0) return at_bottom((int)name.size());
    try {
        return deep(n - 1, at_bottom) + (i64)name.size();
    } catch (std::domain_error &) {
        if (n % 16) throw;
        throw std::range_error(name);
    }
}

struct HalfBuilt {
    Counted first;
    std::vector<i64> room;
    explicit HalfBuilt(i64 n) : room(size_t(n % 10 + 1)) {
        if (n % 3 == 0) throw std::invalid_argument("half built");
    }
};

// Debian's libc++ for WebAssembly has no file streams.
class File : public std::streambuf {
    FILE *file;
    int overflow(int c) override { return c == EOF ? 0 : fputc(c, file); }
    int sync() override { return fflush(file); }

public:
    explicit File(const std::string &name) : file(fopen(name.c_str(), "w")) {
        if (!file) throw std::runtime_error("cannot write " + name);
    }
    File(const File &) = delete;
    ~File() override { fclose(file); }
};

int main(int argc, char **argv) {
    int scale = argc > 1 ? atoi(argv[1]) : 1;
    std::string dir = argc > 2 ? argv[2] : ".";
    try {
        File nowhere(dir + "/no/such/directory");
    } catch (const std::runtime_error &e) {
        std::cout << std::string(e.what()).substr(0, 13) << "\n";
    }
    File file(dir + "/shapes.log");
    std::ostream log(&file);
    std::map<std::string, i64> outcomes;
    std::set<std::string> shown;
    std::deque<i64> results;
    std::list<std::exception_ptr> kept;
    for (int round = 0; round < scale; round++) {
        Scope scope;
        for (char c = 'a'; c < 'h'; c++) scope[std::string(1, c)] = rnd(1000);
        for (int i = 0; i < 120; i++) {
            std::string text = random_text(2 + i % 5);
            try {
                try {
                    Ptr tree = Parser(text).expression();
                    std::ostringstream out;
                    tree->show(out);
                    if (out.str().size() < 12) shown.insert(out.str());
                    results.push_back(tree->eval(scope, 0));
                    outcomes["value"]++;
                } catch (const Return &r) {
                    results.push_front(r.value);
                    outcomes["return"]++;
                } catch (i64 zero) {
                    outcomes["divided by " + std::to_string(zero)]++;
                } catch (const Tagged &t) {
                    outcomes[t.tag().substr(0, 4)]++;
                    throw;
                }
            } catch (const ParseError &e) {
                outcomes[e.what()] += (i64)e.at;
                if (kept.size() < 50) kept.push_back(std::current_exception());
            } catch (const std::out_of_range &e) {
                outcomes[e.what()]++;
            } catch (const std::logic_error &e) {
                outcomes[e.what()]++;
            } catch (const char *text) {
                outcomes[text]++;
            }
        }
        for (int n = 0; n < 64; n += 7) {
            try {
                results.push_back(deep(n, [&](int size) -> i64 {
                    if (n % 2) throw std::domain_error("bottom");
                    if (n % 5 == 0) return std::vector<i64>(3, size).at(size_t(n % 4));
                    return HalfBuilt(n).room.at(0) + size;
                }));
            } catch (const std::range_error &e) {
                outcomes[e.what()]++;
            } catch (const std::exception &e) {
                outcomes[dynamic_cast<const std::out_of_range *>(&e) ? "range" : e.what()]++;
            } catch (...) {
                outcomes["other"]++;
            }
        }
        for (auto &e : kept) {
            try {
                std::rethrow_exception(e);
            } catch (const ParseError &p) {
                outcomes["again"] += (i64)p.at;
            }
        }
        kept.remove_if([&](const std::exception_ptr &) { return rnd(2) == 0; });
        std::sort(results.begin(), results.end(), std::greater<>());
        while (results.size() > 100) results.pop_back();
        log << "round " << round << ": " << results.front() << " " << results.back() << " alive " << alive << "\n";
        if (round % 8 == 0) std::cout << "round " << round << " best " << results.front() << std::endl;
    }
    for (auto &[what, n] : outcomes) std::cout << what << ": " << n << "\n";
    for (auto &s : shown) log << s << "\n";
    std::cout << "alive " << alive << " most " << most << " shown " << shown.size() << "\ndone" << std::endl;
    return std::uncaught_exceptions();
}
