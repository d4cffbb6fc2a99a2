"""Runs a module that wasmtime compiled ahead of time: `wasmtime_run.py FILE.cwasm DIR ARGS...`; DIR is granted as /data."""

import sys

import wasmtime

config = wasmtime.WasiConfig()
config.argv = ["program", *sys.argv[3:]]
config.env = [("TIMES", "1")]
config.preopen_dir(sys.argv[2], "/data")
config.inherit_stdout()
config.inherit_stderr()
engine = wasmtime.Engine()
store = wasmtime.Store(engine)
store.set_wasi(config)
linker = wasmtime.Linker(engine)
linker.define_wasi()
module = wasmtime.Module.deserialize_file(engine, sys.argv[1])
try:
    linker.instantiate(store, module).exports(store)["_start"](store)
except wasmtime.ExitTrap as e:
    sys.exit(e.code)
