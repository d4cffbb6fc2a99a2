//! Becoming a program: what `dunlin run` and `dunlin resume` end with.

use crate::failure::{Failure, could_not};
use crate::find::executables::{Kind, kind, machine, with_arch, without_arch};
use crate::show;
use dunlin_format::arch::Arch;
use dunlin_interface::options::{OPTS_VARIABLE, Options};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Becomes an executable, with these runtime options. Returns only if that fails.
pub(crate) fn become_program(path: &Path, options: &Options, args: &[OsString], doing: &str) -> Failure {
    // A bare name would be looked up on the PATH.
    let path = if path.components().count() == 1 && path.is_relative() {
        Path::new(".").join(path)
    } else {
        path.to_owned()
    };
    let mut command = Command::new(&path);
    command.args(args);
    let opts = options.to_opts_string();
    if opts.is_empty() {
        command.env_remove(OPTS_VARIABLE)
    } else {
        command.env(OPTS_VARIABLE, &opts)
    };
    // The C library hands what the kernel refuses to a shell, which would make nonsense of it: so this is found out
    // before.
    if let Kind::Program(header) = kind(&path)
        && let Some(machine) = machine(&path)
        && let Some(host) = Arch::host().filter(|&h| h != machine)
        && !emulated(machine)
    {
        let right = with_arch(&without_arch(&path), host);
        return could_not(format!(
            "{doing}: it is for {}, and this machine is {host}; use {}",
            machine_of(header.arch, machine),
            show::path(&right)
        ));
    }
    let error = command.exec();
    let why = match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{error}; is it executable (chmod +x)?"),
        _ => error.to_string(),
    };
    could_not(format!("{doing}: {why}"))
}

/// What an executable is for, as a message tells it.
fn machine_of(code: Arch, machine: Arch) -> String {
    match code.is_portable() {
        true => format!("{machine} ({code}, interpreted)"),
        false => machine.to_string(),
    }
}

/// Does the kernel hand executables of another architecture to qemu (binfmt_misc)?
fn emulated(arch: Arch) -> bool {
    let entry = format!("/proc/sys/fs/binfmt_misc/qemu-{arch}");
    fs::read_to_string(entry).is_ok_and(|text| text.starts_with("enabled"))
}
