#!/usr/bin/env python3
"""What it costs a program that writes files to be one with them: the undo journal of --checkpoint-every.

Programs run alone, with --checkpoint-every, and with --durable besides, in turn within each round. A ratio is that of a round's two
run times, as the program measured them; the median over the rounds is reported, with the range of the middle half. How much a
program does is chosen at the beginning so that it runs for about --seconds. Some of the time goes for the snapshots themselves, which
the program stands still for: that is counted, too.

Started by `ci/bench --files`. Writes everything below target/bench, or --at.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from run import DUNLIN, HERE, WASM_FLAGS, WORK, crate_source, middle, sh

# How often, to begin with.
PROGRAMS = {"inserts": 20_000, "wal": 20_000, "log": 50_000, "overwrite": 50_000, "create": 5_000}
VARIANTS = ["plain", "journal", "durable"]


def build():
    out = WORK / "writer"
    out.mkdir(parents=True, exist_ok=True)
    sqlite = crate_source("libsqlite3-sys") / "sqlite3"
    flags = ["-DSQLITE_THREADSAFE=0", "-DSQLITE_TEMP_STORE=3", "-DSQLITE_OMIT_LOAD_EXTENSION", "-DSQLITE_OS_OTHER=1",
             "-DLONGDOUBLE_TYPE=double", f"-I{sqlite}", "-Wl,-z,stack-size=262144"]
    sh("clang-22", *WASM_FLAGS, *flags, HERE / "programs/writer.c", sqlite / "sqlite3.c", "-o", out / "writer.wasm")
    sh(DUNLIN, "build", out / "writer.wasm", "-o", out / "writer")
    return out / "writer.x86_64"


def run(exe, what, count, variant, options):
    """Seconds of one run in a fresh directory."""
    with tempfile.TemporaryDirectory(dir=options.at) as scratch:
        data, saves = Path(scratch, "data"), Path(scratch, "saves")
        data.mkdir()
        if what == "overwrite":
            with open(data / "large", "wb") as f:
                for _ in range(options.size):
                    f.write(os.urandom(1 << 20))
            os.sync()
        words = [options.grant, f"{data}::/data"]
        if variant != "plain":
            words += ["--checkpoint-every", options.every, "--checkpoint-to", str(saves)]
        if variant == "durable":
            words += ["--durable"]
        env = {k: v for k, v in os.environ.items() if not k.startswith("DUNLIN")}
        done = sh(exe, what, "/data", str(count), env={**env, "DUNLIN_OPTS": " ".join(words)})
        if done.stderr:
            print(f"  {what} {variant} warns: {done.stderr.strip()}", file=sys.stderr)
        return int(done.stdout) / 1e9


def main():
    parser = argparse.ArgumentParser(prog="ci/bench --files", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of interleaved runs (default 5)")
    parser.add_argument("--seconds", type=float, default=35, help="how long each run takes (default 35: a snapshot is among it)")
    parser.add_argument("--every", default="30s", help="a snapshot so often (default 30s)")
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="size of the file that is overwritten (default 1024)")
    parser.add_argument("--grant", default="--dir", help="--dir, --carry or --carry-all (default --dir)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=f"only these of {', '.join(PROGRAMS)}")
    parser.add_argument("--without-durable", action="store_true", help="leave out --durable")
    parser.add_argument("--at", type=Path, default=WORK / "files", metavar="DIR", help="where the files are (default target/bench/files)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results as JSON too")
    options = parser.parse_args()
    if not DUNLIN.exists():
        sys.exit(f"bench: {DUNLIN} is missing: run ./ci/build first")
    options.at.mkdir(parents=True, exist_ok=True)
    exe = build()
    variants = [v for v in VARIANTS if v != "durable" or not options.without_durable]
    print(f"a snapshot every {options.every}, {options.grant}, {options.rounds} interleaved rounds; median [middle half]")
    print(f"{'program':10} {'count':>10} {'s':>7}  " + "  ".join(f"{v + ' to plain':20}" for v in variants[1:]))
    rows = []
    for what, first in PROGRAMS.items():
        if options.only and what not in options.only:
            continue
        # Twice: what is short is not exact.
        count = first
        for target in (min(options.seconds, 3.0), options.seconds):
            count = max(1, int(count * target / max(run(exe, what, count, "plain", options), 1e-3)))
        times = {v: [] for v in variants}
        for n in range(options.rounds):
            turn = n % len(variants)
            for v in variants[turn:] + variants[:turn]:
                times[v].append(run(exe, what, count, v, options))
        ratios = {v: middle([a / b for a, b in zip(times[v], times["plain"])]) for v in variants[1:]}
        rows.append({"program": what, "count": count, "seconds": times, "ratios": ratios})
        shown = "  ".join(f"{r[0]:6.3f} [{r[1]:5.3f} {r[2]:5.3f}]" for r in ratios.values())
        print(f"{what:10} {count:10} {statistics.median(times['plain']):7.2f}  {shown}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"every": options.every, "grant": options.grant, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
