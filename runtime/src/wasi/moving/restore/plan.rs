//! The plan of a restore: what is to be done on this machine, and all that hinders it.

use super::grants::open_grants;
use super::opening::{Opening, What, needs_carried_files};
use super::placement::{Placement, unexpected};
use super::problem::{Problems, RestoreError, RestoreProblem};
use super::stage::Stage;
use super::unlinked;
use crate::wasi::calls::clock::Clocks;
use crate::wasi::changes::touched::Touched;
use crate::wasi::host::Stat;
use crate::wasi::table::Descriptor;
use crate::wasi::{Wasi, WasiError};
use dunlin_interface::options::WasiConfig;
use dunlin_migrate::snapshot::{Contents, NoContents, copy_chunk};
use dunlin_migrate::state::files::NodeKind;
use dunlin_migrate::state::wasi::WasiState;
use rustix::fs::SeekFrom;
use std::collections::HashSet;
use std::io;

/// What will be done to put a state back. Nothing on this machine is changed before [`Plan::commit`].
#[derive(Debug)]
pub struct Plan<'a> {
    pub(super) state: &'a WasiState,
    pub(super) config: &'a WasiConfig,
    /// The host side as far as looking goes: granted directories, what is hidden in them, and the descriptors whose
    /// files no snapshot brings. Those are open: the program gets the very files that were compared.
    pub(super) wasi: Wasi,
    /// Descriptors that are opened once carried files are there.
    late: Vec<Opening<'a>>,
    placement: Placement<'a>,
    /// Where standard input is read on from, in bytes, if it is a file.
    pub(super) stdin: Option<u64>,
    findings: Problems,
}

impl Wasi {
    /// Puts a state back that carries no contents; see [`Wasi::restore_with`].
    pub fn restore(state: &WasiState, config: &WasiConfig) -> Result<Wasi, RestoreError> {
        Wasi::restore_with(state, config, &NoContents)
    }

    /// Puts a state back: the program's own arguments and environment, the grants of `config`, and carried files with
    /// their `contents`.
    pub fn restore_with(state: &WasiState, config: &WasiConfig, contents: &dyn Contents) -> Result<Wasi, RestoreError> {
        Plan::new(state, config)?.commit(contents)
    }

    /// All for which [`Wasi::restore_with`] would refuse a state, as the plan finds it. All contents are read.
    pub fn restore_problems(state: &WasiState, config: &WasiConfig, contents: &dyn Contents) -> Vec<RestoreProblem> {
        match Plan::new(state, config) {
            Ok(mut plan) => {
                plan.verify_contents(contents);
                plan.findings
            }
            Err(RestoreError(problems)) => problems,
        }
    }

    /// Refuses a state whose directories are not granted here, or that contradicts itself: the first part of the plan.
    /// No file is looked at, and a directory that can't be opened is no reason: until the files are taken back to where
    /// they were, both may be others.
    pub fn check_grants(state: &WasiState, config: &WasiConfig) -> Result<(), RestoreError> {
        let mut problems = Plan::with_grants(state, config)?.findings;
        problems.retain(|p| !matches!(p, RestoreProblem::Grant(_)));
        match problems.is_empty() {
            true => Ok(()),
            false => Err(RestoreError(problems)),
        }
    }
}

impl<'a> Plan<'a> {
    /// Looks at everything. An error is a state that contradicts itself, for which nothing can be planned.
    pub fn new(state: &'a WasiState, config: &'a WasiConfig) -> Result<Plan<'a>, RestoreError> {
        let mut plan = Plan::with_grants(state, config)?;
        if let Err(e) = plan.wasi.hide_snapshots(config) {
            plan.findings.push(WasiError::from(e).into());
        }
        let (late, now): (Vec<_>, Vec<_>) = state.descriptors.iter().partition(|d| needs_carried_files(state, d));
        for d in now {
            let opened = plan.opening(d).and_then(|opening| plan.open(&opening, &[]));
            plan.insert(d.fd, opened);
        }
        let (placement, hindrances) = Placement::new(state, &plan.wasi.grants, config);
        plan.placement = placement;
        let mut numbers = HashSet::new();
        for d in late {
            let opening = plan.opening(d);
            let found = opening.and_then(|opening| {
                plan.try_late(&opening)?;
                Ok(opening)
            });
            match found {
                Ok(_) if plan.wasi.table.get(d.fd).is_ok() || !numbers.insert(d.fd) => {
                    plan.findings.push(bad_number(d.fd));
                }
                Ok(opening) => plan.late.push(opening),
                Err(problem) => plan.findings.extend(problem),
            }
        }
        plan.findings.extend(hindrances);
        Ok(plan)
    }

    /// The first part: the state by itself, and the directories that it needs.
    fn with_grants(state: &'a WasiState, config: &'a WasiConfig) -> Result<Plan<'a>, RestoreError> {
        state.check().map_err(|e| RestoreError(vec![e.into()]))?;
        let files = state.files.check(state.grants.len());
        files.map_err(|e| RestoreError(vec![e.into()]))?;
        let (grants, findings) = open_grants(state, config);
        Ok(Plan {
            state,
            config,
            wasi: Wasi {
                grants,
                ..Wasi::empty()
            },
            late: Vec::new(),
            placement: Placement::default(),
            stdin: None,
            findings,
        })
    }

    /// All that hinders, as far as it was looked for.
    pub fn findings(&self) -> &[RestoreProblem] {
        &self.findings
    }

    /// Reads all contents that will be written, and adds to the findings which of them are damaged or not there. A
    /// commit reads them anyway.
    pub fn verify_contents(&mut self, contents: &dyn Contents) {
        let files = &self.state.files;
        let unlinked = files
            .unlinked
            .iter()
            .filter_map(|u| files.contents.get(u.content as usize));
        let mut seen = HashSet::new();
        let wanted = self.placement.missing(files).chain(unlinked);
        for (_, chunk) in wanted.flat_map(|content| content.chunks(&files.chunks)) {
            if seen.insert(chunk.hash) {
                let read = copy_chunk(contents, chunk, &mut io::sink());
                self.findings.extend(read.err().map(RestoreProblem::from));
            }
        }
    }

    /// Opens what will not change before the commit, to see whether it can be.
    fn try_late(&mut self, opening: &Opening<'a>) -> Result<(), Option<RestoreProblem>> {
        let (grant, path, was) = match opening.what {
            What::File { grant, path, .. } => (grant, path, "file"),
            What::Directory { grant, path, .. } => (grant, path, "directory"),
            What::Stdio { .. } | What::Unlinked { .. } | What::Listener { .. } => return Ok(()),
        };
        let nodes = &self.state.files.nodes;
        let brought = nodes.binary_search_by(|n| (n.grant, n.path.as_str()).cmp(&(grant, path)));
        if let Some(node) = brought.ok().and_then(|at| nodes.get(at)) {
            let fits = match node.kind {
                NodeKind::Directory => was == "directory",
                NodeKind::File { .. } | NodeKind::HardLink { .. } => was == "file",
                NodeKind::Symlink { .. } => false,
            };
            if !fits {
                return Err(self.wrong_kind(grant, path, was));
            }
            if !self.placement.stays(grant, path) {
                return Ok(());
            }
        }
        self.open(opening, &[]).map(drop)
    }

    fn insert(&mut self, fd: u32, opened: Result<Descriptor, Option<RestoreProblem>>) {
        match opened {
            Err(problem) => self.findings.extend(problem),
            Ok(descriptor) => {
                if !self.wasi.table.insert_at(fd, descriptor) {
                    self.findings.push(bad_number(fd));
                }
            }
        }
    }

    /// Does what was planned, all of it or nothing: contents are written beside their places; what others have changed
    /// gets another name; files get their names; descriptors are opened; and only then is what was replaced removed.
    pub fn commit(mut self, contents: &dyn Contents) -> Result<Wasi, RestoreError> {
        if !self.findings.is_empty() {
            return Err(RestoreError(self.findings));
        }
        let files = &self.state.files;
        self.wasi.clear_killed_restores();
        let placement = std::mem::take(&mut self.placement);
        let mut stage = Stage::write(self.state, placement, &self.wasi.grants, contents).map_err(RestoreError)?;
        self.wasi.warnings.extend(stage.set_aside().map_err(RestoreError)?);
        let unlinked = unlinked::make(files, &self.wasi.grants, contents).map_err(RestoreError)?;
        stage.install().map_err(RestoreError)?;
        for opening in std::mem::take(&mut self.late) {
            let opened = self.open(&opening, &unlinked);
            self.insert(opening.of.fd, opened);
        }
        if !self.findings.is_empty() {
            // With that, the stage puts everything back.
            return Err(RestoreError(self.findings));
        }
        let Plan { mut wasi, stdin, .. } = self;
        let warnings = unexpected(files, &wasi);
        let installed = stage.finish();
        wasi.warnings.extend(warnings);
        wasi.warnings
            .extend(installed.set_attributes(files, &wasi.grants, &unlinked));
        wasi.warnings.extend(stdin.and_then(advance_stdin));
        wasi.take_values(self.state);
        wasi.touched = Touched::new(wasi.grants.iter().map(|g| g.mode));
        wasi.touched.restored(files);
        for (stat, list) in installed.known(files, &wasi.grants) {
            wasi.touched.know(&stat, list);
        }
        wasi.remember_carried(files);
        Ok(wasi)
    }
}

impl Wasi {
    /// Takes from a state what needs nothing of this machine.
    fn take_values(&mut self, state: &WasiState) {
        // Every field by name: a new one must not be left out here.
        let WasiState {
            args,
            env,
            grants: _,      // Opened by `open_grants`.
            descriptors: _, // Opened by `Plan::open`.
            times,
            files, // What is on this machine's disks is there already.
        } = state;
        self.args.clone_from(args);
        self.env.clone_from(env);
        self.listeners.clone_from(&files.listeners);
        self.clocks = Clocks::from(times);
        self.poll_started = times.poll_started;
        // Files keep the inode numbers that the program knows them by.
        for times in &times.files {
            if let Ok(stat) = self.table.get(times.fd).and_then(Descriptor::stat) {
                self.aliases.insert((stat.dev, stat.ino), times.inode);
            }
        }
        // What isn't a file has inode 0, which means nothing.
        self.aliases.remove(&(0, 0));
    }
}

fn bad_number(fd: u32) -> RestoreProblem {
    let what = "its number is too great or occurs twice";
    RestoreProblem::Invalid { fd, what }
}

/// Standard input that is a file is read on from where the program was, unless whoever started this process has already
/// moved it. Returns a warning.
fn advance_stdin(offset: u64) -> Option<String> {
    let fd = rustix::stdio::stdin();
    let size = Stat::of_fd(fd).map_or(0, |s| s.size);
    if offset > size {
        return Some(format!(
            "standard input has {size} bytes, and the program had already read {offset}"
        ));
    }
    if rustix::fs::tell(fd) == Ok(0) {
        let _ = rustix::fs::seek(fd, SeekFrom::Start(offset));
    }
    None
}
