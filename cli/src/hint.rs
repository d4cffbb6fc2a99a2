//! The command that a person can type to go on from a snapshot that was just written.

use crate::find::executables::{Kind, kind, without_arch};
use crate::find::running::module;
use crate::find::search::Search;
use dunlin_format::arch::Arch;
use dunlin_interface::options::{Group, OPTS_VARIABLE, Options};
use dunlin_migrate::control::Info;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How to go on from a program's snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hint {
    /// The command, with what the program was granted: as exact as can be known from outside.
    pub command: String,
    /// What is not in it, because it can't be known.
    pub notes: Vec<String>,
}

/// The command that resumes a program's snapshot.
pub(crate) fn resume_hint(info: &Info, file: &Path) -> Hint {
    let mut words = vec![OsString::from("dunlin"), "resume".into()];
    words.push(file.into());
    let mut notes = Vec::new();
    let module = module(info);
    let proc = Path::new("/proc").join(info.pid.to_string());
    let search = Search::for_snapshot(file);
    let found = module.is_some_and(|m| {
        let mut archs = [Arch::host(), Arch::portable_host()].into_iter().flatten();
        archs.any(|arch| search.find(m, &info.name, arch).is_ok())
    });
    if !found {
        match fs::read_link(proc.join("exe")) {
            Ok(exe) if matches!(kind(&exe), Kind::Program(header) if Some(header.module) == module) => {
                words.extend(["--exe".into(), without_arch(&exe).into()]);
            }
            _ => notes
                .push("its executable is not at hand: build it with `dunlin build`, and name it with --exe".to_owned()),
        }
    }
    let mut text: Vec<u8> = words
        .iter()
        .map(|w| quote(w.as_bytes()))
        .collect::<Vec<_>>()
        .join(&b' ');
    match granted(&proc) {
        Some(options) => {
            let options = options.to_opts_string();
            if !options.is_empty() {
                text.push(b' ');
                text.extend(options.as_bytes());
            }
        }
        None => notes.push(
            "what it was granted can't be found out (/proc doesn't show it): give it the same --dir and so on"
                .to_owned(),
        ),
    }
    Hint {
        command: String::from_utf8_lossy(&text).into_owned(),
        notes,
    }
}

/// The options a running program was given, as far as they matter to a resumed one: paths made right for our directory.
/// `None` if they can't be found out.
fn granted(proc: &Path) -> Option<Options> {
    let environ = fs::read(proc.join("environ")).ok()?;
    let key = format!("{OPTS_VARIABLE}=");
    let value = environ.split(|&b| b == 0).find_map(|v| v.strip_prefix(key.as_bytes()));
    let given = value
        .and_then(|v| Options::parse_opts(OsStr::from_bytes(v)).ok())
        .unwrap_or_default();
    // The rest is in the snapshot, or was meant for that one start.
    let mut options = Options {
        accept_changed: false,
        ..given.of_group(Group::Host)
    };
    let theirs = fs::read_link(proc.join("cwd")).ok();
    if let Some(theirs) = theirs.filter(|t| env::current_dir().ok().as_ref() != Some(t)) {
        options.dirs.iter_mut().for_each(|d| d.host = theirs.join(&d.host));
        options.checkpoint_to = options.checkpoint_to.map(|p| theirs.join(p));
    }
    Some(options)
}

/// A word as a shell must be told it.
fn quote(word: &[u8]) -> Vec<u8> {
    shlex::bytes::try_quote(word).map_or_else(|_| word.to_vec(), |w| w.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_found_out_is_told() {
        // A process that isn't there is like one of which /proc shows nothing.
        let info = Info {
            pid: 0,
            name: "no such program".into(),
            module: "00".repeat(32),
            arch: "x86_64".into(),
            args: Vec::new(),
            uptime_seconds: 0,
            memory_bytes: 0,
            migratable: true,
            periodic: None,
        };
        let hint = resume_hint(&info, Path::new("x.snap"));
        assert_eq!(hint.command, "dunlin resume x.snap");
        assert!(
            hint.notes.len() == 2 && hint.notes[0].contains("--exe") && hint.notes[1].contains("--dir"),
            "{hint:?}"
        );
    }
}
