"""The same kind of work in Python: counts primes, with a line of progress a second or so. Usage: sieve.py [LIMIT]"""
import sys

limit = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000_000
composites, count = {}, 0
for n in range(2, limit):
    p = composites.pop(n, None)
    if p is None:
        count += 1
        if n * n < limit:
            composites[n * n] = n
    else:
        x = n + p
        while x in composites:
            x += p
        composites[x] = p
    if n % (limit // 20) == 0:
        print(f"{count} primes up to {n}", flush=True)
print(f"{count} primes below {limit}")
