#!/usr/bin/env python3
"""Side-by-side benchmarks: Dunlin with and without migration points, wasmtime, and native code.

Every number comes from interleaved runs: in each round every engine runs a kernel once, one right after the other, so that what
the machine does meanwhile hits all of them. Ratios are taken within a round; the median over the rounds is reported, with the
range of the middle half behind it. Kernels time themselves, so start-up and compilation don't count.

Started by ci/bench with the Python that has the `wasmtime` package. Writes everything below target/bench.
"""

import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target/bench"
DUNLIN = Path(os.environ.get("DUNLIN_BIN", ROOT / "target/release/dunlin"))
HERE = Path(__file__).resolve().parent
GROUPS = {
    "mix": "CoreMark-like",
    "recursive": "recursive",
    "interpreter": "interpreter",
    "lua": "interpreter",
    "sqlite": "database",
    "numeric": "PolyBench-like",
    "bytes": "bytes",
}
WASM_FLAGS = ["--target=wasm32-wasi", "--no-wasm-opt", "-O2", "-w"]


def sh(*args, **kw):
    kw.setdefault("check", True)
    kw.setdefault("capture_output", True)
    kw.setdefault("text", True)
    done = subprocess.run([str(a) for a in args], **{**kw, "check": False})
    if kw["check"] and done.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, args))} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def crate_source(name):
    """Directory of a crate's sources, as cargo unpacked them."""
    meta = json.loads(sh("cargo", "metadata", "--format-version", "1", "--locked", cwd=ROOT).stdout)
    return next(Path(p["manifest_path"]).parent for p in meta["packages"] if p["name"] == name)


# --- building -------------------------------------------------------------------------------------------------------------------


class Module:
    """A program, built for every engine."""

    def __init__(self, name, sources, flags=(), wasm_sources=(), wasm_flags=()):
        self.name = name
        self.group = GROUPS[name]
        self.dir = WORK / name
        self.dir.mkdir(parents=True, exist_ok=True)
        self.wasm = self.dir / f"{name}.wasm"
        self.native = self.dir / f"{name}.native"
        stamp = self.dir / "stamp"
        key = repr([str(s) + str(os.stat(s).st_mtime_ns) for s in [*sources, *wasm_sources]] + [flags, wasm_flags])
        if not stamp.exists() or stamp.read_text() != key:
            sh("clang-22", *WASM_FLAGS, *flags, *wasm_flags, *sources, *wasm_sources, "-o", self.wasm)
            sh("clang-22", "-O2", "-w", "-D_GNU_SOURCE", *flags, *sources, "-o", self.native, "-lm")
            stamp.write_text(key)

    def build(self, wasmtime):
        for kind, options in [("dunlin", []), ("baseline", ["--no-migration"])]:
            sh(DUNLIN, "build", self.wasm, "-o", self.dir / kind, *options)
        if wasmtime:
            engine = wasmtime.Engine()
            module = wasmtime.Module(engine, self.wasm.read_bytes())
            (self.dir / "wasmtime.cwasm").write_bytes(module.serialize())

    def text_sizes(self):
        """Bytes of machine code for the module itself."""
        sizes = {k: section_size(self.dir / f"{k}.x86_64", ".dunlin.text") for k in ("dunlin", "baseline")}
        cwasm = self.dir / "wasmtime.cwasm"
        if cwasm.exists():
            sizes["wasmtime"] = section_size(cwasm, ".text")
        return sizes


def section_size(path, wanted):
    """Size of a section of a 64-bit little-endian ELF file; 0 if it has none of that name."""
    data = path.read_bytes()
    offset, = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    header = lambda i: struct.unpack_from("<IIQQQQ", data, offset + i * size)
    strings = header(names)[4]
    for i in range(count):
        name, _, _, _, _, length = header(i)
        end = data.index(b"\0", strings + name)
        if data[strings + name:end].decode() == wanted:
            return length
    return 0


def modules():
    programs = HERE / "programs"
    out = [Module(n, [programs / f"{n}.c"]) for n in ("mix", "recursive", "interpreter", "numeric", "bytes")]
    lua = crate_source("lua-src") / "lua-5.4.9"
    ours = ROOT / "tests/programs"
    out.append(
        Module(
            "lua",
            [*sorted(lua.glob("*.c")), ours / "lua.c"],
            [f"-I{ours}/lua-include", f"-I{lua}"],
            wasm_flags=["-D_WASI_EMULATED_SIGNAL", "-D_WASI_EMULATED_PROCESS_CLOCKS", "-lwasi-emulated-signal",
                        "-lwasi-emulated-process-clocks", "-Wl,-z,stack-size=1048576"],
        )
    )
    sqlite = crate_source("libsqlite3-sys") / "sqlite3"
    out.append(
        Module(
            "sqlite",
            [sqlite / "sqlite3.c", ours / "sqlite.c"],
            ["-DSQLITE_THREADSAFE=0", "-DSQLITE_TEMP_STORE=3", "-DSQLITE_OMIT_LOAD_EXTENSION", "-DSQLITE_OMIT_WAL", f"-I{sqlite}"],
            [sqlite / "wasm32-wasi-vfs.c"],
            ["-DSQLITE_OS_OTHER=1", "-DLONGDOUBLE_TYPE=double", "-Wl,-z,stack-size=262144"],
        )
    )
    return out


# --- running --------------------------------------------------------------------------------------------------------------------


def command(module, engine, args, data):
    """The command line and environment of one run. `data` is granted as /data."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("DUNLIN")}
    grant = f"--dir {data}::/data --env TIMES=1"
    at = lambda d: [a.replace("@", d) for a in args]
    if engine in ("dunlin", "baseline"):
        return [module.dir / f"{engine}.x86_64", *at("/data")], {**env, "DUNLIN_OPTS": grant}
    if engine == "wasmtime":
        return [sys.executable, HERE / "wasmtime_run.py", module.dir / "wasmtime.cwasm", data, *at("/data")], env
    return [module.native, *at(str(data))], {**env, "TIMES": "1"}


def run_once(module, engine, args, expected):
    """Nanoseconds of one run, as the program measured them. Its output must be the first engine's."""
    with tempfile.TemporaryDirectory(dir=WORK) as data:
        for f in ("script.lua",):
            shutil.copy(ROOT / "tests/programs" / f, data)
        argv, env = command(module, engine, args, data)
        done = sh(*argv, env=env)
        if module.name in ("lua", "sqlite"):
            output, elapsed = done.stdout, int(done.stderr.split()[-1])
        else:
            name, checksum, elapsed = done.stdout.split()
            output, elapsed = f"{name} {checksum}", int(elapsed)
        if expected.setdefault("output", output) != output:
            sys.exit(f"bench: {module.name} {args} on {engine} printed\n{output}\ninstead of\n{expected['output']}")
        return elapsed


def kernels(module):
    if module.name == "lua":
        return [("script", ["@/script.lua", "120", "@"])]
    if module.name == "sqlite":
        return [("workload", ["@/test.db", "40"])]
    return [(k, [k]) for k in sh(module.native).stdout.split()]


def middle(values):
    """Median, and the range of the middle half."""
    values = sorted(values)
    quarter = len(values) // 4
    return statistics.median(values), values[quarter], values[-1 - quarter]


def geomean(values):
    return statistics.geometric_mean(values) if values else float("nan")


def time_kernels(all_modules, engines, rounds, only, show):
    results = []
    for module in all_modules:
        for kernel, args in kernels(module):
            name = f"{module.name}/{kernel}"
            if only and not any(o in name for o in only):
                continue
            times = {e: [] for e in engines}
            expected = {}
            for n in range(rounds):
                # Each round begins with another engine.
                for e in engines[n % len(engines):] + engines[:n % len(engines)]:
                    times[e].append(run_once(module, e, args, expected))
            row = {"kernel": name, "group": module.group, "ns": {e: statistics.median(t) for e, t in times.items()}, "ratios": {}}
            for label, over, under in [("migration", "dunlin", "baseline"), ("to wasmtime", "dunlin", "wasmtime"),
                                       ("to native", "dunlin", "native")]:
                if over in times and under in times:
                    row["ratios"][label] = middle([a / b for a, b in zip(times[over], times[under])])
            results.append(row)
            show(row)
    return results


# --- sizes, start-up, checkpoints -----------------------------------------------------------------------------------------------


def startup(rounds):
    """Microseconds from just before exec to the first instruction of main."""
    out = WORK / "start"
    out.mkdir(exist_ok=True)
    sh("clang-22", *WASM_FLAGS, HERE / "programs/start.c", "-o", out / "start.wasm")
    sh(DUNLIN, "build", out / "start.wasm", "-o", out / "start")
    sh("clang-22", "-O2", HERE / "programs/start.c", "-o", out / "start.native")
    times = {"dunlin": [], "native": []}
    for _ in range(rounds):
        for kind, exe in [("dunlin", out / "start.x86_64"), ("native", out / "start.native")]:
            before = time.clock_gettime_ns(time.CLOCK_REALTIME)
            times[kind].append((int(sh(exe).stdout) - before) / 1000)
    return {k: middle(v) for k, v in times.items()}


def checkpoints(sizes, rounds):
    """Snapshot size, and how long checkpoint and resume take, for programs that touched so many MiB."""
    out = WORK / "touch"
    out.mkdir(exist_ok=True)
    sh("clang-22", *WASM_FLAGS, "-Wl,--max-memory=4294967296", HERE / "programs/touch.c", "-o", out / "touch.wasm")
    sh(DUNLIN, "build", out / "touch.wasm", "-o", out / "touch")
    exe = out / "touch.x86_64"
    rows = []
    for mib in sizes:
        checkpoint, first, whole, size, probe = [], [], [], 0, None
        for _ in range(rounds):
            snapshot = out / "touch.snap"
            snapshot.unlink(missing_ok=True)
            child = subprocess.Popen([exe, str(mib)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            child.stdout.readline()
            time.sleep(0.05)
            start = time.perf_counter()
            sh(DUNLIN, "checkpoint", child.pid, "-o", snapshot)
            checkpoint.append((time.perf_counter() - start) * 1000)
            child.communicate()
            if child.returncode != 85:
                sys.exit(f"bench: the checkpointed program exited with {child.returncode}")
            size = snapshot.stat().st_size
            # To the first answer, then to the one that reads all the memory.
            start = time.perf_counter()
            child = subprocess.Popen([exe, str(mib)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     env={**os.environ, "DUNLIN_OPTS": f"--resume {snapshot}"})
            child.stdin.write(b"s")
            child.stdin.flush()
            answer = child.stdout.readline()
            first.append((time.perf_counter() - start) * 1000)
            child.stdin.write(b"a")
            child.stdin.flush()
            answer += child.stdout.readline()
            whole.append((time.perf_counter() - start) * 1000)
            child.communicate()
            if child.returncode != 0 or (probe or answer) != answer or len(answer) < 4:
                sys.exit(f"bench: the resumed program answered {answer} and exited with {child.returncode}")
            probe = answer
            snapshot.unlink()
        rows.append({"mib": mib, "snapshot_bytes": size, "checkpoint_ms": middle(checkpoint), "resume_ms": middle(first),
                     "resume_and_read_all_ms": middle(whole)})
    return rows


# --- report ---------------------------------------------------------------------------------------------------------------------


def ratio(r):
    return f"{r[0]:5.3f} [{r[1]:5.3f} {r[2]:5.3f}]" if r else " " * 19


def main():
    parser = argparse.ArgumentParser(prog="ci/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of interleaved runs (default 7)")
    parser.add_argument("--quick", action="store_true", help="3 rounds, and no 1 GiB checkpoint")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="only kernels whose name contains TEXT")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results as JSON too")
    parser.add_argument("--no-checkpoints", action="store_true", help="leave out start-up and checkpoints")
    options = parser.parse_args()
    rounds = 3 if options.quick else options.rounds
    WORK.mkdir(parents=True, exist_ok=True)
    if not DUNLIN.exists():
        sys.exit(f"bench: {DUNLIN} is missing: run ./ci/build first")
    import importlib.metadata

    import wasmtime

    version = importlib.metadata.version("wasmtime")

    engines = ["dunlin", "baseline", "wasmtime", "native"]
    all_modules = modules()
    for m in all_modules:
        m.build(wasmtime)

    print(f"wasmtime {version}, native: clang-22 -O2, {rounds} interleaved rounds; median [middle half]")
    print(f"{'kernel':22} {'ms':>7}  {'to --no-migration':19}  {'to wasmtime':19}  {'to native':19}")

    def show(row):
        r = row["ratios"]
        print(f"{row['kernel']:22} {row['ns']['dunlin'] / 1e6:7.1f}  {ratio(r['migration'])}  {ratio(r['to wasmtime'])}  {ratio(r['to native'])}",
              flush=True)

    rows = time_kernels(all_modules, engines, rounds, options.only, show)
    result = {"wasmtime": version, "rounds": rounds, "kernels": rows, "geomeans": {}, "text": {}}

    print("\ngeometric means")
    for group in [*dict.fromkeys(r["group"] for r in rows), "all"]:
        chosen = [r for r in rows if group in ("all", r["group"])]
        means = {k: geomean([r["ratios"][k][0] for r in chosen]) for k in chosen[0]["ratios"]} if chosen else {}
        result["geomeans"][group] = means
        print(f"  {group:20}" + "".join(f"  {k} {v:5.3f}" for k, v in means.items()))

    print("\nmachine code, bytes (x86_64)")
    for m in all_modules:
        sizes = result["text"][m.name] = m.text_sizes()
        print(f"  {m.name:12} dunlin {sizes['dunlin']:8}  to --no-migration {sizes['dunlin'] / sizes['baseline']:5.3f}"
              f"  to wasmtime {sizes['dunlin'] / sizes['wasmtime']:5.3f}")

    print("\nstub (the runtime in every executable), KiB")
    result["stub_bytes"] = {}
    for stub in sorted((ROOT / "target/runtimes").glob("dunlin-runtime.*")):
        result["stub_bytes"][stub.suffix[1:]] = stub.stat().st_size
        print(f"  {stub.suffix[1:]:8} {stub.stat().st_size / 1024:8.0f}")

    if not options.no_checkpoints:
        result["startup_us"] = startup(10 if options.quick else 50)
        print("\nfrom exec to the first instruction of main, microseconds")
        for k, v in result["startup_us"].items():
            print(f"  {k:8} {v[0]:7.0f} [{v[1]:.0f} {v[2]:.0f}]")
        result["checkpoints"] = checkpoints([1, 64] if options.quick else [1, 64, 1024], 3 if options.quick else 5)
        print("\ncheckpoint and resume, milliseconds (whole commands; memory that doesn't compress)")
        for c in result["checkpoints"]:
            print(f"  {c['mib']:5} MiB touched: snapshot {c['snapshot_bytes'] / 2**20:8.1f} MiB  checkpoint {c['checkpoint_ms'][0]:8.1f}"
                  f"  resume to first answer {c['resume_ms'][0]:8.1f}  and all memory read {c['resume_and_read_all_ms'][0]:8.1f}")

    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
