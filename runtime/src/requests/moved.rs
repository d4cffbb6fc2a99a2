//! `FILE.moved` beside `--checkpoint-to`: the mark that a program which has moved is another machine's. Whatever starts
//! its command again (a service manager at the next boot) must not begin it anew, or from an older snapshot.
//!
//! It is made, durably, before the program can be released, and removed when it goes on here; so there is no moment at
//! which the program could run elsewhere and start here, too.

use crate::os::messages::warn;
use dunlin_interface::options::Options;
use dunlin_transfer::records::{remove_if_there, sync_directory, write_durably};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The mark of one `--checkpoint-to`.
#[derive(Debug)]
pub(crate) struct Mark(PathBuf);

impl Mark {
    /// The mark beside a file or directory. Its own name is made absolute now.
    pub(crate) fn beside(to: &Path) -> Mark {
        let to = std::path::absolute(to).unwrap_or_else(|_| to.to_owned());
        let mut path = to.into_os_string();
        path.push(".moved");
        Mark(path.into())
    }

    /// Refuses to start a program that has moved, unless it is said what it goes on from.
    pub(crate) fn refuse(options: &Options) -> Result<(), String> {
        let Some(to) = &options.checkpoint_to else {
            return Ok(());
        };
        let mark = Mark::beside(to);
        let chosen = options.resume.is_some() || options.resume_latest.is_some();
        match mark.0.try_exists() {
            Ok(false) => Ok(()),
            Ok(true) if chosen || options.check => Ok(()),
            Ok(true) => Err(format!(
                "--checkpoint-to {}: the program has moved to another machine (or was about to when it was killed: \
                 `dunlin settle` tells), and would run twice; remove {} to start it here all the same",
                to.display(),
                mark.0.display()
            )),
            Err(e) => Err(format!("--checkpoint-to {}: {}: {e}", to.display(), mark.0.display())),
        }
    }

    /// The program may be another machine's from now on; `place` is the transfer's directory.
    pub(super) fn set(&self, place: &Path) -> io::Result<()> {
        write_durably(&self.0, place.as_os_str().as_bytes())?;
        self.0.parent().map_or(Ok(()), sync_directory)
    }

    /// The program is here.
    pub(super) fn remove(&self) {
        if let Err(e) = remove_if_there(&self.0) {
            warn(&format!(
                "{} can't be removed: {e}; the program runs here, remove it",
                self.0.display()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_moved_is_not_started_again_by_the_same_command() {
        let dir = tempfile::tempdir().unwrap();
        let options = |resume: Option<&str>| Options {
            checkpoint_to: Some(dir.path().join("s")),
            resume: resume.map(PathBuf::from),
            ..Options::default()
        };
        let mark = Mark::beside(&dir.path().join("s"));
        assert_eq!(Mark::refuse(&options(None)), Ok(()));
        mark.set(Path::new("/x/out-1")).unwrap();
        let why = Mark::refuse(&options(None)).unwrap_err();
        assert!(why.contains("s.moved"), "{why}");
        assert_eq!(Mark::refuse(&options(Some("x"))), Ok(()));
        assert_eq!(Mark::refuse(&Options::default()), Ok(()));
        mark.remove();
        assert_eq!(Mark::refuse(&options(None)), Ok(()));
    }
}
