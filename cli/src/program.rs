//! Executables on disk: finding the right one for this machine, and becoming it.

use crate::failure::Failure;
use crate::{cache, show, trust};
use dunlin_format::arch::Arch;
use dunlin_format::image::{self, Header};
use dunlin_format::module::ModuleHash;
use dunlin_interface::options::{OPTS_VARIABLE, Options};
use dunlin_migrate::control::Info;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a file is to Dunlin.
#[derive(Debug)]
pub enum Kind {
    /// An executable built by `dunlin build`.
    Program(Header),
    /// Anything else.
    Other,
    /// An executable of Dunlin's that can't be used, or a file that can't be read.
    Unusable(String),
}

/// Looks at a file's headers.
pub fn kind(path: &Path) -> Kind {
    let mut file = match trust::open(path) {
        Ok(file) => file,
        Err(e) => return Kind::Unusable(e.to_string()),
    };
    match image::find_in_elf(&mut file) {
        Ok(Some(found)) => Kind::Program(found.header),
        Ok(None) => Kind::Other,
        Err(e) => Kind::Unusable(e.to_string()),
    }
}

/// Are an executable's contents those that its header speaks of? If not, why.
pub fn verify(path: &Path) -> Result<(), String> {
    let mut file = trust::open(path).map_err(|e| e.to_string())?;
    let found = image::find_in_elf(&mut file).map_err(|e| e.to_string())?;
    let found = found.ok_or("it is no program built by `dunlin build`")?;
    // One without a seal was built before there were seals: what it claims can't be compared with anything.
    found.verify(&mut file).map(drop).map_err(|e| e.to_string())
}

/// This machine's architecture.
pub fn host(doing: &str) -> Result<Arch, Failure> {
    Arch::host().ok_or_else(|| Failure::new(format!("{doing}: this machine is neither x86_64 nor aarch64")))
}

/// `NAME.ARCH`.
pub fn with_arch(base: &Path, arch: Arch) -> PathBuf {
    let mut name = OsString::from(base);
    name.push(format!(".{arch}"));
    PathBuf::from(name)
}

/// `NAME` of `NAME.ARCH`; what has no such suffix stays as it is.
pub fn without_arch(path: &Path) -> PathBuf {
    let has = Arch::ALL.iter().any(|a| path.extension() == Some(OsStr::new(a.name())));
    if has { path.with_extension("") } else { path.to_owned() }
}

/// The executable that a person names: a file, or `NAME` for this machine's `NAME.ARCH`. A `NAME` that is something
/// else (the module's folder, another compiler's output) doesn't hide `NAME.ARCH`.
pub fn named(path: &Path, host: Arch) -> Result<(PathBuf, Header), String> {
    let why = match kind(path) {
        Kind::Program(header) => return Ok((path.to_owned(), header)),
        Kind::Other => "it is no program built by `dunlin build`".into(),
        Kind::Unusable(why) => why,
    };
    let suffixed = with_arch(path, host);
    match kind(&suffixed) {
        Kind::Program(header) => Ok((suffixed, header)),
        _ => Err(why),
    }
}

/// Where a snapshot's executable is looked for, in this order; last in the cache of `dunlin run`.
#[derive(Debug)]
pub struct Search {
    /// Directories in which every `*.ARCH` is looked at.
    pub directories: Vec<PathBuf>,
    /// Directories in which only `NAME.ARCH` and `NAME` are looked at.
    pub path: Vec<PathBuf>,
    /// It is to be run: it must be one's own ([`trust::own`]) and whole.
    to_run: bool,
}

impl Search {
    /// Beside the snapshot, in the current directory, then on the `PATH`. What is found may be run without being asked
    /// for by name.
    pub fn for_snapshot(file: &Path) -> Search {
        let beside = file
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut directories = vec![beside.to_owned()];
        if beside != Path::new(".") {
            directories.push(".".into());
        }
        let path = env::var_os("PATH")
            .map(|p| env::split_paths(&p).collect())
            .unwrap_or_default();
        let to_run = true;
        Search {
            directories,
            path,
            to_run,
        }
    }

    /// The same, but what is found is only looked into, or told of: anyone's will do.
    pub fn for_reading(self) -> Search {
        Search { to_run: false, ..self }
    }

    /// The executable of this module for this architecture; otherwise what was found instead, for a message. One to be
    /// run is the file itself, no link to it.
    pub fn find(&self, module: ModuleHash, name: &str, host: Arch) -> Result<PathBuf, String> {
        // The nearest miss, best reason first.
        let mut near: Option<(u8, String)> = None;
        let mut look = |path: PathBuf| {
            let Kind::Program(header) = kind(&path) else {
                return None;
            };
            let shown = show::path(&path);
            let miss = if header.module != module {
                let same_name = without_arch(&path).file_name() == Some(OsStr::new(name));
                let why = || format!("{shown} is another program, or was built from another version of its module");
                same_name.then(|| (2, why()))
            } else if header.arch != host {
                let why = format!(
                    "{shown} is the right program, but for {}, and this machine is {host}",
                    header.arch
                );
                Some((1, why))
            } else if !header.migratable {
                Some((0, format!("{shown} was built with --no-migration")))
            } else {
                match self.usable(&path) {
                    Ok(path) => return Some(path),
                    Err(why) => Some((0, format!("{shown} is the right program, but it {why}"))),
                }
            };
            near = [near.take(), miss].into_iter().flatten().min_by_key(|(rank, _)| *rank);
            None
        };
        let on_path = self
            .path
            .iter()
            .flat_map(|dir| [dir.join(format!("{name}.{host}")), dir.join(name)]);
        // A name is a file's name here, never a way out of a directory.
        let on_path = on_path.filter(|_| Path::new(name).file_name() == Some(OsStr::new(name)));
        let candidates = self
            .directories
            .iter()
            .flat_map(|dir| executables(dir, name))
            .chain(on_path);
        let candidates = candidates.chain(cache::place(module, host));
        for candidate in candidates {
            if let Some(found) = look(candidate) {
                return Ok(found);
            }
        }
        Err(near.map(|(_, why)| why).unwrap_or_else(|| {
            format!("found none named *.{host} beside it or in the current directory, and no {name} on the PATH")
        }))
    }
}

impl Search {
    /// The file to use, or why this one is not used, as in "it ...".
    fn usable(&self, path: &Path) -> Result<PathBuf, String> {
        if !self.to_run {
            return Ok(path.to_owned());
        }
        let file = trust::own(path).map_err(|why| format!("{why}, so it is not run unless --exe names it"))?;
        verify(&file).map_err(|why| format!("can't be used: {why}"))?;
        Ok(file)
    }
}

/// The files of a directory that may be executables of Dunlin's: `*.ARCH` and `NAME`, those called `NAME` first.
fn executables(directory: &Path, name: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let named = |p: &Path| without_arch(p).file_name() == Some(OsStr::new(name));
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.retain(|p| (without_arch(p) != *p || named(p)) && p.is_file());
    paths.sort_by_key(|p| (!named(p), p.clone()));
    paths
}

/// Becomes an executable, with these runtime options. Returns only if that fails.
pub fn become_program(path: &Path, options: &Options, args: &[OsString], doing: &str) -> Failure {
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
        && let Some(host) = Arch::host().filter(|&h| h != header.arch)
        && !emulated(header.arch)
    {
        let right = with_arch(&without_arch(&path), host);
        return Failure::new(format!(
            "{doing}: it is for {}, and this machine is {host}; use {}",
            header.arch,
            show::path(&right)
        ));
    }
    let error = command.exec();
    let why = match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{error}; is it executable (chmod +x)?"),
        _ => error.to_string(),
    };
    Failure::new(format!("{doing}: {why}"))
}

/// Does the kernel hand executables of another architecture to qemu (binfmt_misc)?
fn emulated(arch: Arch) -> bool {
    let entry = format!("/proc/sys/fs/binfmt_misc/qemu-{arch}");
    fs::read_to_string(entry).is_ok_and(|text| text.starts_with("enabled"))
}

/// How to go on from a program's snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// The command, with what the program was granted: as exact as can be known from outside.
    pub command: String,
    /// What is not in it, because it can't be known.
    pub notes: Vec<String>,
}

/// The command that resumes a program's snapshot.
pub fn resume_hint(info: &Info, file: &Path) -> Hint {
    let mut words = vec![OsString::from("dunlin"), "resume".into()];
    words.push(file.into());
    let mut notes = Vec::new();
    let module = parse_hash(&info.module);
    let proc = Path::new("/proc").join(info.pid.to_string());
    let host = Arch::host();
    let found = module
        .zip(host)
        .is_some_and(|(m, host)| Search::for_snapshot(file).find(m, &info.name, host).is_ok());
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
    let mut options = Options {
        env: Vec::new(),
        argv0: None,
        invoke: None,
        resume: None,
        accept_changed: false,
        resume_latest: None,
        ..given
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

/// A module hash from its hexadecimal form.
pub fn parse_hash(hex: &str) -> Option<ModuleHash> {
    let mut hash = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (n, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(ModuleHash(hash))
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
