//! Compiling a module that came from elsewhere: in a process of its own, with limits, so that whatever it does to the
//! compiler, nothing else ends with it.

use super::compile::read;
use crate::find::executables::with_arch;
use crate::show;
use crate::spawn::spawn;
use dunlin_format::arch::Arch;
use dunlin_format::module::ModuleHash;
use dunlin_interface::machine;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

/// How long it may take.
const MOST_TIME: Duration = Duration::from_secs(540);

/// Memory that it may always have, in bytes, however little the machine seems to have.
const LEAST_MEMORY: u64 = 1 << 30;

/// Bytes of what the compiler says that are told on, at most.
const MOST_SAID: u64 = 4096;

/// How often it is looked whether something has ended.
const STEP: Duration = Duration::from_millis(20);

/// Held by whoever compiles.
static TURN: Mutex<()> = Mutex::new(());

/// The compiler that runs.
static COMPILER: Mutex<Compiler> = Mutex::new(Compiler {
    child: None,
    over: false,
});

#[derive(Debug)]
struct Compiler {
    child: Option<Child>,
    /// None may begin any more.
    over: bool,
}

/// Compiles a module, if it is the one with this hash, to an executable for an architecture, whose program is called
/// `name`. What is made meanwhile lies in the directory of `executable`.
pub(crate) fn compile(
    module: &Path,
    hash: ModuleHash,
    name: &str,
    arch: Arch,
    executable: &Path,
) -> Result<Vec<u8>, String> {
    let bytes = read(module)?;
    if ModuleHash::of(&bytes) != hash {
        return Err("it is another module".into());
    }
    if Path::new(name).file_name() != Some(name.as_ref()) || name.len() > 200 {
        return Err("its name can't be that of a file".into());
    }
    let base = executable.with_file_name(name);
    let own = std::env::current_exe().map_err(|e| format!("dunlin can't be run: {e}"))?;
    let mut command = Command::new(own);
    command
        .args(["build", "--quiet", "--target", arch.name(), "-o"])
        .arg(&base)
        .arg("--")
        .arg(module);
    let built = with_arch(&base, arch);
    let (status, text) = run(command).inspect_err(|_| drop(fs::remove_file(&built)))?;
    if !status.success() {
        let _ = fs::remove_file(&built);
        return Err(match text.trim() {
            "" => format!("the compiler ended with {status}"),
            text => show::clean(text.strip_prefix("dunlin: cannot ").unwrap_or(text)),
        });
    }
    fs::rename(&built, executable).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// Waits for this process's turn: one module is compiled at a time, for each may take all of the memory.
fn turn(deadline: Instant) -> Result<MutexGuard<'static, ()>, String> {
    loop {
        match TURN.try_lock() {
            Ok(turn) => return Ok(turn),
            Err(TryLockError::Poisoned(e)) => return Ok(e.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(STEP),
            Err(TryLockError::WouldBlock) => return Err("others are being compiled there; try again later".into()),
        }
    }
}

fn compiler() -> MutexGuard<'static, Compiler> {
    COMPILER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the compiler that runs, if one does, and lets none begin any more.
pub(crate) fn end() {
    let mut compiler = compiler();
    compiler.over = true;
    if let Some(child) = &mut compiler.child {
        let _ = child.kill();
    }
}

/// Runs a compiler to its end, within limits; returns how it ended and the beginning of what it said.
fn run(mut command: Command) -> Result<(ExitStatus, String), String> {
    let cannot = |e: io::Error| format!("dunlin can't be run: {e}");
    let _turn = turn(Instant::now() + MOST_TIME)?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let said = {
        let mut compiler = compiler();
        if compiler.over {
            return Err("it ends there; try again later".into());
        }
        let child = compiler.child.insert(spawn(&mut command).map_err(cannot)?);
        limit(child.id());
        child.stderr.take()
    };
    // All of it is read, so that it never waits for that.
    let reader = thread::Builder::new().spawn(move || {
        let (mut text, Some(mut said)) = (Vec::new(), said) else {
            return Vec::new();
        };
        let _ = said.by_ref().take(MOST_SAID).read_to_end(&mut text);
        let _ = io::copy(&mut said, &mut io::sink());
        text
    });
    let deadline = Instant::now() + MOST_TIME;
    let ended = loop {
        let mut compiler = compiler();
        let Some(child) = &mut compiler.child else {
            break Err("the compiler is gone".into());
        };
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if Instant::now() < deadline => {}
            other => {
                let _ = child.kill();
                let _ = child.wait();
                break Err(other.map_or_else(|e| e.to_string(), |_| "compiling it takes too long".into()));
            }
        }
        drop(compiler);
        thread::sleep(STEP);
    };
    compiler().child = None;
    let text = reader.ok().and_then(|reader| reader.join().ok()).unwrap_or_default();
    Ok((ended?, String::from_utf8_lossy(&text).into_owned()))
}

/// It may not take more memory than a program could have, nor more time of the processors than there is until it is
/// ended: whoever would end it may be ended before.
fn limit(process: u32) {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let to = |resource: Resource, most: u64| {
        let most = most.min(getrlimit(resource).maximum.unwrap_or(u64::MAX));
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        // It may have ended already.
        let _ = prlimit(pid, resource, limit);
    };
    let processors = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    to(Resource::Cpu, MOST_TIME.as_secs() * processors);
    if let Some(most) = machine::describe().memory_bytes {
        to(Resource::As, most.max(LEAST_MEMORY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One after the other: the second test would end the first.
    #[test]
    fn a_compiler_is_never_waited_for_in_vain() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        // More than a pipe holds.
        let (status, said) = run(shell("head -c 300000 /dev/zero | tr '\\0' x >&2; exit 3")).unwrap();
        assert_eq!((status.code(), said), (Some(3), "x".repeat(MOST_SAID as usize)));
        let (_, said) = run(shell("ulimit -t >&2")).unwrap();
        assert!(said.trim().parse::<u64>().is_ok(), "{said}");
        let ended = thread::spawn(move || run(shell("exec sleep 100")));
        while compiler().child.is_none() {
            thread::sleep(STEP);
        }
        end();
        assert!(!ended.join().unwrap().unwrap().0.success());
        assert!(run(Command::new("true")).is_err());
    }
}
