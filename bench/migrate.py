#!/usr/bin/env python3
"""How long a program stands still while it moves, over networks as they are.

Two machines are two network namespaces with directories of their own, and a link between them (`bench/network.py`; root only): 1 Gbit/s,
or 50 Mbit/s with 10 ms each way and 1 % loss. A program with a heap of so many MiB, which changes so many of them a second, goes back and
forth between them. Its output, put together, must be that of a run without moves; anything else ends this script with an error.

`stands` is from the request to stop until the other machine says that the program runs, as `dunlin migrate` reports it: median, 99th
percentile and worst of all moves, in milliseconds; `seen` is the longest time between two steps of the program as its own clock saw
it, all moves included (steps are 10 ms long).

Started by `ci/bench --migrate`. Without root, or with --pipe, the machines speak over a pipe, as through ssh.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import network
from run import DUNLIN, HERE, WASM_FLAGS, WORK, sh

NETWORKS = {"1 Gbit/s": {"rate": 1000}, "50 Mbit/s, 20 ms, 1 % loss": {"rate": 50, "delay": 10, "loss": 1}}
SIZES = [1, 64, 1024]
PORT = 7746


def build():
    out = WORK / "heap"
    out.mkdir(parents=True, exist_ok=True)
    sh("clang-22", *WASM_FLAGS, HERE / "programs/heap.c", "-o", out / "heap.wasm")
    sh(DUNLIN, "build", out / "heap.wasm", "-o", out / "heap")
    return out


class Machine:
    """A machine: its name, its directories, and the namespace it is in, if any."""

    def __init__(self, name, home, link, emulator):
        self.name, self.home, self.link, self.emulator = name, home, link, emulator
        self.served = None
        for part in ("run", "state", "cache", "config"):
            (home / part).mkdir(parents=True, mode=0o700)

    def env(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith("DUNLIN")}
        for variable, part in (("RUNTIME_DIR", "run"), ("STATE_HOME", "state"), ("CACHE_HOME", "cache"), ("CONFIG_HOME", "config")):
            env["XDG_" + variable] = str(self.home / part)
        return env

    def words(self, *words):
        return [*(self.link.inside(self.name) if self.link else []), *map(str, words)]

    def start(self, *words, **more):
        return subprocess.Popen(self.words(*words), env=self.env(), text=True, **more)

    def serve(self):
        emulator = ["--emulator", self.emulator] if self.emulator else []
        listen = f"{network.ADDRESSES[self.name]}:{PORT}"
        self.served = self.start(DUNLIN, "serve", "--listen", listen, "--executables", "paired", *emulator, stdout=subprocess.DEVNULL,
                                 stderr=open(self.home / "serve.log", "w"))

    def stop(self):
        if self.served:
            self.served.send_signal(signal.SIGTERM)
            self.served.wait(60)


class House:
    """Machines a and b, and how they speak with each other."""

    def __init__(self, dir, link, emulator):
        self.link = link
        self.machines = {name: Machine(name, dir / name, link, emulator if name == "b" else None) for name in "ab"}
        if link:
            self._pair()
            for machine in self.machines.values():
                machine.serve()
            time.sleep(1)
        else:
            self.shell = dir / "rsh"
            lines = ["#!/bin/sh", 'case "$1" in']
            for machine in self.machines.values():
                ours = {k: v for k, v in machine.env().items() if k.startswith("XDG_")}
                lines.append(f"{machine.name}) export " + " ".join(f"{k}={v}" for k, v in ours.items()) + " ;;")
            self.shell.write_text("\n".join([*lines, "esac", "shift", 'eval exec "$*"', ""]))
            self.shell.chmod(0o755)

    def _pair(self):
        """Each gets to know the other, with the code that one shows."""
        a, b = self.machines["a"], self.machines["b"]
        shows = b.start(DUNLIN, "pair", "--listen", f"{network.ADDRESSES['b']}:{PORT}", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        code = ""
        for line in shows.stdout:
            if line.startswith("Code:"):
                code = "".join(c for c in line.split("(")[0] if c.isdigit())
                break
        a.start(DUNLIN, "pair", f"{network.ADDRESSES['b']}:{PORT}", code, stdout=subprocess.DEVNULL).wait(60)
        if shows.wait(60):
            sys.exit("bench: the machines can't be paired")

    def migrate(self, pid, source, target, options):
        machine = self.machines[source]
        if self.link:
            to = [f"{network.ADDRESSES[target]}:{PORT}"]
            rest = []
        else:
            to = [f"ssh://{target}", "--rsh", self.shell, "--remote-dunlin", DUNLIN]
            emulator = self.machines[target].emulator
            rest = ["--", f"--emulator={emulator}"] if emulator else []
        done = subprocess.run(machine.words(DUNLIN, "migrate", pid, *to, "--json", *options, *rest), env=machine.env(), text=True,
                              capture_output=True)
        if done.returncode:
            sys.exit(f"bench: dunlin migrate failed ({done.returncode}): {done.stderr.strip()}")
        # Lines of progress, then the report; it may be on several lines itself.
        lines = done.stdout.strip().splitlines()
        return json.loads("\n".join(lines[max(n for n, line in enumerate(lines) if line.startswith("{")) :]))

    def close(self):
        for machine in self.machines.values():
            machine.stop()


def exe_for(out, name):
    return out / ("heap.aarch64" if name == "qemu" else f"heap.{os.uname().machine}")


def output_of(text):
    """The program's own lines, and the longest time between two steps in ms."""
    lines = [line for line in text.splitlines() if line.split() and line.split()[0] in ("ready", "heap", "longest") or line[:1].isdigit()]
    longest = [int(line.split()[1]) / 1e3 for line in lines if line.startswith("longest")]
    return [line for line in lines if not line.startswith("longest")], longest[-1] if longest else float("nan")


def undisturbed(out, size, dirty, steps):
    done = subprocess.run([exe_for(out, "here"), str(size), str(dirty), str(steps), "hurry"], text=True, capture_output=True)
    return output_of(done.stdout)[0]


def measure(out, link, size, dirty, moves, options):
    """A row of figures of so many moves."""
    emulator = f"aarch64={options.qemu}" if options.emulated else None
    with tempfile.TemporaryDirectory(dir=options.at) as dir, contextlib.ExitStack() as stack:
        house = House(Path(dir), link, emulator)
        stack.callback(house.close)
        home = Path(dir) / "programs"
        home.mkdir()
        for file in out.iterdir():
            os.link(file, home / file.name) if file.stat().st_dev == home.stat().st_dev else shutil.copy2(file, home)
        # It runs until it is ended; what it does doesn't depend on when it moves.
        steps = 10**9
        a = house.machines["a"]
        with open(Path(dir) / "first", "w+") as first:
            running = a.start(exe_for(home, "here"), size, dirty, steps, stdout=first, stderr=first)
            while "ready" not in (Path(dir) / "first").read_text():
                time.sleep(0.05)
            # Behind `ip netns exec` is the same process.
            pid, place, reports, logs = running.pid, "a", [], [Path(dir) / "first"]
            for _ in range(moves):
                time.sleep(options.pause)
                target = "b" if place == "a" else "a"
                # Of a program that is emulated, the process is not its executable.
                exe = ["--exe", home / "heap"] if options.emulated else []
                reports.append(house.migrate(pid, place, target, [*exe, *options.options]))
                pid, place = reports[-1]["pid"], target
                logs.append(Path(reports[-1]["log"]))
            # Some more of it, and that was all.
            whole = lambda: output_of(logs[-1].read_text())[0]
            deadline, before = time.monotonic() + 600, len(whole())
            while len(whole()) < before + 2:
                if time.monotonic() > deadline:
                    sys.exit("bench: the program says nothing any more")
                time.sleep(0.1)
            os.kill(pid, signal.SIGKILL)
        said, longest = output_of("".join(log.read_text() for log in logs))
    expected = undisturbed(out, size, dirty, int(said[-1].split()[0]))
    if said != expected[: len(said)]:
        sys.exit(f"bench: {size} MiB, {dirty} MiB/s: the output differs from an undisturbed run's after {moves} moves")
    stands = sorted(report["downtime_us"] / 1e3 for report in reports)
    parts = {part: statistics.median(r[part] / 1e3 for r in reports) for part in ("stop_us", "send_us", "start_us")}
    rank = lambda share: stands[min(len(stands) - 1, int(len(stands) * share))]
    return {"size": size, "dirty": dirty, "moves": moves, "median": statistics.median(stands), "p99": rank(0.99), "worst": stands[-1],
            "seen": longest, "sent": statistics.median(r["state_bytes"] for r in reports), **parts, "reports": reports}


def main():
    parser = argparse.ArgumentParser(prog="ci/bench --migrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=50, help="moves of each program (default 50)")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two moves (default 0.5)")
    parser.add_argument("--size", type=int, action="append", metavar="MIB", help=f"only heaps of this size (default {SIZES})")
    parser.add_argument("--dirty", type=int, action="append", metavar="MIB", help="only programs that change so much a second (default 0, 50)")
    parser.add_argument("--network", choices=["fast", "slow"], action="append", help="only this network")
    parser.add_argument("--pipe", action="store_true", help="over a pipe, as through ssh, without a network")
    parser.add_argument("--emulated", action="store_true", help="machine b is an aarch64, emulated")
    parser.add_argument("--qemu", default="qemu-aarch64-static", help=argparse.SUPPRESS)
    parser.add_argument("--at", type=Path, default=WORK / "migrate", metavar="DIR", help="where the files are (default target/bench/migrate)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results as JSON too")
    parser.add_argument("options", nargs="*", help="options of `dunlin migrate`, after --")
    options = parser.parse_args()
    if not DUNLIN.exists():
        sys.exit(f"bench: {DUNLIN} is missing: run ./ci/build first")
    options.at.mkdir(parents=True, exist_ok=True)
    options.qemu = shutil.which(options.qemu) or options.qemu
    out = build()
    networks = {"a pipe": None} if options.pipe or os.geteuid() else NETWORKS
    if options.network and networks is NETWORKS:
        networks = dict(list(NETWORKS.items())[n] for n in sorted({"fast": 0, "slow": 1}[name] for name in options.network))
    rows = []
    for name, how in networks.items():
        print(f"{name}{', machine b emulated' if options.emulated else ''}: {options.moves} moves each; ms")
        print(f"{'heap':>9} {'changed/s':>10} {'stands':>8} {'p99':>8} {'worst':>8} {'seen':>8}  {'stop':>7} {'send':>7} {'start':>7}  last sent")
        for size in options.size or SIZES:
            for dirty in options.dirty if options.dirty is not None else [0, 50]:
                link = network.Link(**how) if how else None
                try:
                    row = measure(out, link, size, dirty, options.moves, options)
                finally:
                    if link:
                        link.close()
                rows.append({"network": name, **row})
                print(f"{size:>5} MiB {dirty:>6} MiB {row['median']:8.1f} {row['p99']:8.1f} {row['worst']:8.1f} {row['seen']:8.1f}  "
                      f"{row['stop_us']:7.1f} {row['send_us']:7.1f} {row['start_us']:7.1f}  {row['sent'] / 2**20:.2f} MiB", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
