"""A deterministic computation in pure Python: `script.py SCALE DIR`. Generators, closures, classes, exceptions, big integers, sorting,
strings, dictionaries, floats, files."""
import sys, json, zlib, re, collections, itertools, struct, hashlib, decimal, heapq

scale, directory = int(sys.argv[1]), sys.argv[2]

seed = 42
def random(n):
    global seed
    seed = (seed * 1103515245 + 12345) % 2147483648
    return (seed >> 8) % n

def primes():
    composites = {}
    for n in itertools.count(2):
        p = composites.pop(n, None)
        if p is None:
            composites[n * n] = n
            yield n
        else:
            x = n + p
            while x in composites:
                x += p
            composites[x] = p

def queens(n):
    def place(row, cols, up, down):
        if row == n:
            return 1
        return sum(place(row + 1, cols | {c}, up | {row + c}, down | {row - c})
                   for c in range(n) if c not in cols and row + c not in up and row - c not in down)
    return place(0, frozenset(), frozenset(), frozenset())

class Matrix:
    def __init__(self, rows):
        self.rows = rows
    def __matmul__(self, other):
        columns = list(zip(*other.rows))
        return Matrix([[sum(a * b for a, b in zip(row, column)) % 1000003 for column in columns] for row in self.rows])
    def __pow__(self, n):
        result = Matrix([[int(i == j) for j in range(len(self.rows))] for i in range(len(self.rows))])
        base = self
        while n:
            if n & 1:
                result = result @ base
            base, n = base @ base, n >> 1
        return result

class Refused(Exception):
    pass

def refuse(depth):
    try:
        if depth == 0:
            raise Refused("bottom")
        refuse(depth - 1)
    except Refused as e:
        if depth % 10 == 0:
            raise Refused(f"{depth}<{e.args[0]}") from e
        raise
    finally:
        random(2)

# Python calling Python takes no C stack; through a cache or a key function it would, and this CPython has 512 KiB of it.
def paths(x, y, known={}):
    if x == 0 or y == 0:
        return 1
    if (x, y) not in known:
        known[x, y] = paths(x - 1, y) + paths(x, y - 1)
    return known[x, y]

def words(n):
    count = collections.Counter("".join(chr(97 + random(5)) for _ in range(2 + random(3))) for _ in range(n))
    return sorted(count.items(), key=lambda w: (-w[1], w[0]))[:3]

def cheapest(size):
    cost = [[1 + random(9) for _ in range(size)] for _ in range(size)]
    heap, seen = [(0, 0, 0)], set()
    while heap:
        d, x, y = heapq.heappop(heap)
        if (x, y) == (size - 1, size - 1):
            return d
        if (x, y) in seen:
            continue
        seen.add((x, y))
        for nx, ny in (x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1):
            if 0 <= nx < size and 0 <= ny < size:
                heapq.heappush(heap, (d + cost[nx][ny], nx, ny))

def mandelbrot(size):
    rows = []
    for y in range(size):
        row = ""
        for x in range(size):
            z, c = 0j, complex(x * 3 / size - 2, y * 2 / size - 1)
            for n in range(40):
                z = z * z + c
                if abs(z) > 2:
                    break
            row += " .:-=+*#%@"[n // 4]
        rows.append(row)
    return rows

def harmonic(n):
    total = 0.0  # not sum(): Python 3.12 adds floats in another way
    for i in range(1, n):
        total += 1 / (i * i)
    return total

decimal.getcontext().prec = 60
with open(f"{directory}/log.txt", "w") as log, open(f"{directory}/data.bin", "wb") as data:
    for i in range(scale):
        print("round", i, flush=True)
        print("primes", sum(itertools.islice(primes(), 6000)))
        print("queens", queens(7))
        print("matrix", (Matrix([[random(100) for _ in range(8)] for _ in range(8)]) ** 1000).rows[0][:3])
        print("words", words(6000))
        print("cheapest", cheapest(45))
        try:
            refuse(100 + i)
        except Refused as e:
            print("refused", e)
        print("paths", paths(120 + i, 110) % 10**12, len(str(paths(120 + i, 110))))
        print("floats", harmonic(20000), decimal.Decimal(i + 2).sqrt())
        picture = mandelbrot(48)
        log.write("\n".join(picture) + "\n")
        text = json.dumps({"round": i, "picture": picture, "words": words(100)})
        print("text", len(text), len(re.findall(r"[-=+*]{3,}", text)), hashlib.sha256(text.encode()).hexdigest()[:16])
        data.write(struct.pack("<Qd", zlib.crc32(text.encode()), 1 / (i + 3)))
print("done")
