//! The files go back with the program: when it starts, from the undo journals beside its snapshots; while it runs, by
//! recording in one.

use crate::journal::{self, BackError, Base, Journal, Lineage, Root};
use crate::wasi::Wasi;
use dunlin_format::module::ModuleHash;
use dunlin_interface::exit::{BAD_SNAPSHOT, FAILED, Failure, NOT_HERE};
use dunlin_interface::options::{Grant, WasiConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The place that a program goes on from, as journals name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The program's beginning.
    Beginning,
    /// A snapshot in the journals' own directory, by its number.
    Own(u64),
    /// A snapshot that lies elsewhere, by its identity.
    Other([u8; 32]),
}

/// How the files of one run go back.
#[derive(Clone, Debug)]
pub struct Rollback {
    /// Where journals lie: beside the program's own snapshots.
    pub directory: PathBuf,
    /// Hash of the module of the program that they belong to.
    pub module: ModuleHash,
    /// With `--durable`: each record is on the disk before the change that it undoes.
    pub durable: bool,
}

impl BackError {
    /// The exit code for a person who starts the program.
    pub fn exit_code(&self) -> i32 {
        match self {
            BackError::OtherProgram(_) => BAD_SNAPSHOT,
            BackError::Missing(_) | BackError::OtherDirectory { .. } | BackError::Changed(..) => NOT_HERE,
            BackError::Read(..) | BackError::Step(_) | BackError::Io(_) => FAILED,
        }
    }
}

impl std::convert::From<BackError> for Failure {
    fn from(e: BackError) -> Failure {
        Failure::new(e.exit_code(), e)
    }
}

/// A granted directory, opened; one that can't be is refused later, with better words.
fn root(grant: &Grant) -> Root {
    let opened = cap_primitives::fs::open_ambient_dir(&grant.host, cap_primitives::ambient_authority());
    Root {
        guest: grant.guest.clone(),
        dir: opened.ok().map(Arc::new),
        carried: grant.mode.carries(),
    }
}

impl Rollback {
    /// Takes the program's files back to where they were at what it goes on from. Returns where its journal then
    /// stands, what a person should know, and whether the files of all granted directories are back.
    pub fn go_back(&self, from: From, config: &WasiConfig) -> Result<(Lineage, Vec<String>, bool), BackError> {
        let granted: Vec<Root> = config.grants.iter().map(root).collect();
        let (base, number) = match from {
            From::Beginning => (Base::Beginning, 0),
            From::Own(number) => (Base::Own, number),
            From::Other(identity) => (Base::Other(identity), self.greatest()?),
        };
        let went = journal::go_back(
            &self.directory,
            self.module,
            (base, number),
            &granted,
            config.accept_changed,
            self.durable,
        )?;
        let back = went.journal.is_some() && went.everywhere;
        let (number, base, continues) = went.journal.unwrap_or((number, base, false));
        let lineage = Lineage {
            module: self.module,
            number,
            base,
            continues,
        };
        Ok((lineage, went.notices, back))
    }

    /// The number of a snapshot that lies in the journals' directory.
    pub fn own_number(&self, path: &Path) -> Option<u64> {
        let parent = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let same = parent.canonicalize().ok()? == self.directory.canonicalize().ok()?;
        let all = dunlin_migrate::store::list(&self.directory).ok().filter(|_| same)?;
        all.into_iter()
            .find(|(_, p)| p.file_name() == path.file_name())
            .map(|(number, _)| number)
    }

    /// The greatest number that a snapshot in the directory has.
    fn greatest(&self) -> Result<u64, BackError> {
        let all = dunlin_migrate::store::list(&self.directory);
        let all = all.map_err(|e| BackError::Read(self.directory.clone(), e))?;
        Ok(all.first().map_or(0, |(number, _)| *number))
    }

    /// Begins to record what the program changes.
    pub fn record(&self, lineage: Lineage, wasi: &mut Wasi) -> Result<(), Failure> {
        let begin = || {
            Journal::begin(
                &journal::back::open(&self.directory)?,
                lineage,
                wasi.roots(),
                self.durable,
            )
        };
        let journal = begin().map_err(|e| {
            let directory = self.directory.display();
            Failure::new(FAILED, format!("cannot begin an undo journal in {directory}: {e}"))
        })?;
        wasi.set_journal(Some(journal));
        Ok(())
    }
}

/// Files are not to go back: what journals say is not true any more.
pub fn give_up(directory: &Path) -> Result<(), BackError> {
    journal::back::forget_all(directory).map_err(|e| BackError::Read(directory.to_owned(), e))
}
