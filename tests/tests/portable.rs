//! Interpreted code: guests run undisturbed, with forced migration and moved to and from the machine's own code (a
//! slice of them), and stop at the same point with the same snapshot; files of portable code are run, gone on with, and
//! refused when they are damaged.

use dunlin_format::arch::Arch;
use dunlin_migrate::state::wasi::Times;
use dunlin_tests::guest::{Guest, all, guest};
use dunlin_tests::moves::{growing, ping_pong_between};
use dunlin_tests::process::{Input, Outcome, run};
use dunlin_tests::program::{CHECKPOINTED, Program, Run, TRAP, scratch};
use dunlin_tests::snapshots::{Loaded, load};
use dunlin_tests::{slice, tools};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// One guest in so many is taken, unless all are asked for.
const GUESTS: u64 = 10;

/// Guests that do the same on every run, of every kind of state.
const COMPARED: [&str; 20] = [
    "all_types",
    "append_mode",
    "args_env",
    "big_frame",
    "bulk_memory",
    "deep_recursion",
    "directory",
    "exceptions",
    "file_offset",
    "function_pointers",
    "globals",
    "malloc_heavy",
    "many_files",
    "many_memories",
    "many_params",
    "memory_grow",
    "multi_value",
    "nan_bits",
    "simd_locals",
    "tables",
];
/// One of these in so many is taken, unless all are asked for.
const COMPARISONS: u64 = 4;

const PULLEY: Arch = Arch::Pulley64;

/// The guests of this run: a slice, and what a slice might leave out for long.
fn guests() -> impl Iterator<Item = String> {
    let always = ["exceptions", "tail_calls", "simd_kernels", "many_memories"];
    let taken = move |name: &String| always.contains(&&name[..]) || slice::takes(name, GUESTS);
    all().into_iter().filter(taken)
}

fn interpreted(guest: &Guest) -> Program {
    guest.rebuilt(&["--target", "pulley64"])
}

/// The build for an architecture, of one for machines and one for the interpreter.
fn on<'p>(guest: &'p Guest, portable: &'p Program, arch: Arch) -> &'p Program {
    if arch == PULLEY { portable } else { &guest.program }
}

#[test]
fn guests_run_and_move() {
    for name in guests() {
        let guest = guest(&name);
        let portable = interpreted(&guest);
        for force in [None, Some(guest.directives.force)] {
            let data = guest.data();
            let mut run = guest.of(&portable, PULLEY, data.as_ref()).stdin(guest.input());
            if let Some(every) = force {
                run = run.forced(every);
            }
            guest.check(&run.output(), data.as_ref());
        }
        for route in [[Arch::X86_64, PULLEY], [PULLEY, Arch::X86_64]] {
            moved(&guest, &portable, route);
        }
    }
}

#[test]
fn the_same_point_has_the_same_snapshot() {
    for name in COMPARED.into_iter().filter(|name| slice::takes(name, COMPARISONS)) {
        let guest = guest(name);
        same_points(name, &guest, &interpreted(&guest));
    }
}

fn moved(guest: &Guest, portable: &Program, route: [Arch; 2]) {
    let data = guest.data();
    let (pipe, mut writer) = std::io::pipe().expect("a pipe");
    writer
        .write_all(guest.directives.stdin.as_deref().unwrap_or("").as_bytes())
        .expect("the pipe takes a short text");
    drop(writer);
    let journey = ping_pong_between(
        route,
        growing(12),
        |arch| guest.of(on(guest, portable, arch), arch, data.as_ref()),
        || Input::Fd(pipe.try_clone().expect("a pipe can be duplicated").into()),
    );
    let what = format!(
        "{} moves along {route:?}; stderr: {}",
        journey.moves,
        String::from_utf8_lossy(&journey.stderr)
    );
    guest.check_verdict(&guest.verdict(journey.code, &journey.stdout, data.as_ref()), &what);
    assert!(journey.moves >= 3, "only {what}");
}

/// The snapshot at a point, without clock readings and what the file system chose; `None` if the guest ends before.
fn stopped(guest: &Guest, program: &Program, arch: Arch, point: u64, to: &Path) -> Option<Loaded> {
    let data = guest.data();
    let run = guest.of(program, arch, data.as_ref()).stdin(guest.input());
    let outcome = run.stop_at(point, to).output();
    if outcome.code() != CHECKPOINTED {
        guest.check(&outcome, data.as_ref());
        return None;
    }
    let mut loaded = load(to);
    loaded.state.wasi.times = Times::default();
    for file in &mut loaded.state.wasi.files.identities {
        (file.modified, file.changed, file.place) = Default::default();
    }
    Some(loaded)
}

fn same_points(name: &str, guest: &Guest, portable: &Program) {
    let dir = scratch();
    for point in [1, 3, 17, 151, 1000] {
        let paths = [Arch::X86_64, PULLEY].map(|arch| dir.path().join(format!("{arch}-{point}.snap")));
        let native = stopped(guest, &guest.program, Arch::X86_64, point, &paths[0]);
        let here = stopped(guest, portable, PULLEY, point, &paths[1]);
        let (Some(native), Some(here)) = (&native, &here) else {
            assert_eq!(native.is_none(), here.is_none(), "{name} at point {point}");
            break;
        };
        assert_eq!(native.state, here.state, "states of {name} at point {point}");
        assert!(native.memories == here.memories, "memories of {name} at point {point}");
        native.store(&paths[0]);
        here.store(&paths[1]);
        let [native, here] = paths.map(|path| std::fs::read(path).expect("it was just written"));
        assert!(native == here, "files of {name} at point {point}");
    }
}

/// A trap tells the same, and from where, whoever runs the code.
#[test]
fn traps_are_told_alike() {
    let memory = "(memory 1)";
    let table = "(table 1 funcref)";
    let cases = [
        ("(i32.div_u (i32.const 1) (local.get 0))", ""),
        (
            "(i32.div_s (i32.const 0x80000000) (i32.sub (local.get 0) (i32.const 1)))",
            "",
        ),
        ("(i32.trunc_f32_s (f32.const nan))", ""),
        ("(i32.trunc_f64_u (f64.const 1e10))", ""),
        ("(i32.wrap_i64 (i64.trunc_f64_s (f64.const -1e30)))", ""),
        ("(unreachable)", ""),
        ("(i32.load (i32.const 65533))", memory),
        ("(i32.load offset=4294967295 (i32.const -1))", memory),
        ("(i32.load8_u (local.get 0))", "(memory 0)"),
        ("(i32.wrap_i64 (i64.load offset=65529 (local.get 0)))", memory),
        ("(drop (f64.load offset=65528 (i32.const 1))) (i32.const 0)", memory),
        (
            "(v128.store (i32.const 65521) (v128.const i64x2 0 0)) (i32.const 0)",
            memory,
        ),
        (
            "(memory.fill (i32.const 65536) (i32.const 0) (i32.const 1)) (i32.const 0)",
            memory,
        ),
        ("(i32.load (i64.const 0xffffffffffffffff))", "(memory i64 1)"),
        ("(call_indirect (result i32) (local.get 0))", table),
        ("(call_indirect (result i32) (i32.const 7))", table),
        ("(call $f (local.get 0))", ""),
    ];
    for (n, (body, items)) in cases.into_iter().enumerate() {
        let text = format!(
            "(module {items} (func $f (param i32) (result i32) (call $g (local.get 0)))
               (func $g (param i32) (result i32) {body})
               (func (export \"_start\") (drop (call $f (i32.const 0)))))"
        );
        let dir = scratch();
        let module = dir.path().join("trap.wat");
        std::fs::write(&module, &text).expect("scratch space is writable");
        let told = [&[][..], &["--target", "pulley64"]].map(|options: &[&str]| {
            let program = Program::build_with(&module, options);
            let arch = if options.is_empty() { Arch::X86_64 } else { PULLEY };
            program.on(arch).opts(["--stack-size", "100000"]).output()
        });
        let [native, here] = &told;
        assert_eq!(native.code(), TRAP, "{n}: {native}");
        assert_eq!(here.code(), TRAP, "{n}: {here}");
        // How deep a stack of so many bytes goes differs.
        let shown = |o: &Outcome| {
            let deep = o.err().contains("call stack exhausted");
            o.err()
                .lines()
                .take(if deep { 3 } else { 99 })
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(native), shown(here), "{n}: {body}");
    }
}

/// `dunlin` with a cache of its own.
fn dunlin(cache: &Path, dir: &Path, args: &[&str]) -> Outcome {
    let mut command = Command::new(tools::dunlin());
    command.args(args).current_dir(dir).env("XDG_CACHE_HOME", cache);
    run(command, Input::Empty, Duration::from_secs(120))
}

#[test]
fn portable_code_is_run_and_gone_on_with() {
    let guest = guest("qsort");
    let (dir, cache) = (scratch(), scratch());
    let module = guest.module().to_str().expect("a name of ours");
    let at = |args: &[&str]| dunlin(cache.path(), dir.path(), args);
    at(&["build", "--target", "portable", module, "-o", "prog"]).expect_code(0);
    let file = dir.path().join("prog.dunlin");
    assert!(file.is_file());
    guest.check(&at(&["run", "prog.dunlin"]), None);

    // The name alone means it, too, where there is no executable; that is said.
    let by_name = at(&["run", "prog"]);
    guest.check(&by_name, None);
    assert!(by_name.err().contains("interpreted"), "{by_name}");

    // A snapshot of the machine's own code.
    let snapshot = dir.path().join("x.snap");
    let stopped = guest.on(Arch::X86_64, None).stop_at(100, &snapshot).output();
    stopped.expect_code(CHECKPOINTED);
    let rest = Run::of(&guest.program.exe(Arch::X86_64), Arch::X86_64)
        .resume(&snapshot)
        .output();
    for how in [&["resume", "x.snap"][..], &["resume", "x.snap", "--exe", "prog.dunlin"]] {
        let gone_on = at(how);
        assert_eq!((gone_on.code(), gone_on.out()), (rest.code(), rest.out()), "{gone_on}");
    }
    // Without the file, the executable that was kept is found; without that, none.
    let said = at(&["resume", "x.snap"]);
    assert!(said.err().contains("interpreted"), "{said}");
    std::fs::rename(&file, dir.path().join("elsewhere")).expect("it is there");
    assert_eq!(at(&["resume", "x.snap"]).out(), rest.out());
    std::fs::remove_dir_all(cache.path().join("dunlin")).expect("it was made");
    at(&["resume", "x.snap"]).expect_code(1);

    // Damage is told, and nothing is run.
    let mut bytes = std::fs::read(dir.path().join("elsewhere")).expect("it is there");
    let middle = bytes.len() / 2;
    for at_byte in [30, middle, bytes.len() - 40] {
        bytes[at_byte] ^= 0x10;
        std::fs::write(&file, &bytes).expect("scratch space is writable");
        let refused = at(&["run", "prog.dunlin"]);
        // The interpreter's two images lie one behind the other: only the one for this machine is looked at.
        if at_byte < middle {
            assert_eq!((refused.code(), refused.out()), (1, String::new()), "{refused}");
        }
        bytes[at_byte] ^= 0x10;
    }
}
