//! Compiling a module that came from elsewhere: in a process of its own, with limits, so that whatever it does to the
//! compiler, nothing else ends with it.

use super::compile::read;
use crate::find::executables::with_arch;
use crate::show;
use dunlin_format::arch::Arch;
use dunlin_format::module::ModuleHash;
use dunlin_interface::machine;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long it may take.
const MOST_TIME: Duration = Duration::from_secs(540);

/// Memory that it may always have, in bytes, however little the machine seems to have.
const LEAST_MEMORY: u64 = 1 << 30;

/// Bytes of what the compiler says that are told on, at most.
const MOST_SAID: u64 = 4096;

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
    let mut child = Command::new(own)
        .args(["build", "--quiet", "--target", arch.name(), "-o"])
        .arg(&base)
        .arg("--")
        .arg(module)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("dunlin can't be run: {e}"))?;
    limit(child.id());
    let said = child.stderr.take();
    // It says little, and nobody waits for it to be read.
    let deadline = Instant::now() + MOST_TIME;
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            other => {
                let _ = child.kill();
                let _ = child.wait();
                break Err(other.map_or_else(|e| e.to_string(), |_| "compiling it takes too long".into()));
            }
        }
    };
    let built = with_arch(&base, arch);
    let status = ended.inspect_err(|_| drop(fs::remove_file(&built)))?;
    if !status.success() {
        let _ = fs::remove_file(&built);
        let mut text = Vec::new();
        let _ = said.map(|said| said.take(MOST_SAID).read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        return Err(match text.trim() {
            "" => format!("the compiler ended with {status}"),
            text => show::clean(text.strip_prefix("dunlin: cannot ").unwrap_or(text)),
        });
    }
    fs::rename(&built, executable).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// It may not take more memory than a program could have.
fn limit(process: u32) {
    let Some(most) = machine::describe().memory_bytes else {
        return;
    };
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let maximum = getrlimit(Resource::As).maximum;
    let most = most.max(LEAST_MEMORY).min(maximum.unwrap_or(u64::MAX));
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    // It may have ended already.
    let _ = prlimit(pid, Resource::As, limit);
}
