//! Standing still for `dunlin migrate`: the program is stopped at a migration point, its whole state is durable in the
//! transfer's directory, and whoever moves it says whether it goes on here or has gone.
//!
//! If that process dies first, what is on record decides (the files: [`dunlin_transfer::records`]; the rules:
//! [`dunlin_handover`]): a program that was not released goes on, one that was released ends here, and what can't be
//! read is waited for.

use crate::os::messages::{complain, warn};
use crate::requests::inbox::{Job, send};
use dunlin_handover::{Encoded, SenderRecord, SenderStage};
use dunlin_migrate::control::{Reply, Verdict};
use dunlin_migrate::printable;
use dunlin_transfer::records::{Place, STANDING, remove_if_there};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long is waited before a record that can't be read is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// Bytes of a verdict, at most.
const MAX_VERDICT: u64 = 64 << 10;

/// What becomes of a program that has stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// It goes on here.
    GoesOn,
    /// It is another machine's; here it ends.
    Leaves,
}

/// The mark that this process stands still: a locked file, gone before the program goes on.
#[derive(Debug)]
pub(super) struct Standing {
    place: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Standing {
    /// Marks that the process stands still from now on.
    pub(super) fn begin(place: &Path) -> io::Result<Standing> {
        let path = place.join(STANDING);
        let file = File::create_new(path)?;
        file.lock()?;
        let place = place.to_owned();
        Ok(Standing { place, _file: file })
    }

    /// Waits for the verdict. `job` has been told that the state is durable. Before the program goes on, `stays` is
    /// called.
    pub(super) fn wait(self, job: &Job, stays: impl FnOnce()) -> Stay {
        // Whoever moves the program takes as long as it takes.
        let _ = job.stream.set_read_timeout(None);
        let stay = match verdict(&job.stream) {
            Some(Verdict::GoOn) => Stay::GoesOn,
            Some(Verdict::End { peer }) => {
                warn(&format!("the program has moved to {}", printable::line(&peer)));
                Stay::Leaves
            }
            None => self.on_record(),
        };
        if stay == Stay::GoesOn {
            stays();
            self.goes_on();
            let _ = send(&mut &job.stream, &Reply::GoesOn);
        }
        stay
    }

    /// It was never stopped for this, as nobody heard that its state is durable.
    pub(super) fn abandon(self) {
        self.goes_on();
    }

    fn goes_on(&self) {
        if let Err(e) = remove_if_there(&self.place.join(STANDING)) {
            warn(&format!("the mark that the program stands still can't be removed: {e}"));
        }
    }

    /// Nobody says any more what is to be done: the record does.
    fn on_record(&self) -> Stay {
        let mut told = false;
        loop {
            match decide(&self.place) {
                Ok(Stay::Leaves) => {
                    warn("the program was given to another machine; `dunlin settle` tells whether it runs there");
                    return Stay::Leaves;
                }
                Ok(Stay::GoesOn) => return Stay::GoesOn,
                Err(why) if !told => {
                    complain(&format!(
                        "the program was to be moved, and whoever did that is gone; it stands still until it is known \
                         whether it may go on ({}): {why}",
                        self.place.display()
                    ));
                    told = true;
                }
                Err(_) => {}
            }
            std::thread::sleep(AGAIN);
        }
    }
}

fn verdict(stream: &UnixStream) -> Option<Verdict> {
    let mut line = String::new();
    let read = BufReader::new(Read::take(stream, MAX_VERDICT)).read_line(&mut line);
    read.ok().filter(|_| line.ends_with('\n'))?;
    serde_json::from_str(&line).ok()
}

/// What the record says, once nobody else works at the transfer. That the program goes on is made durable before.
fn decide(place: &Path) -> io::Result<Stay> {
    let place = Place::at(place)?;
    match place.record::<SenderRecord>()? {
        Some(SenderRecord {
            stage: SenderStage::Released { .. },
            ..
        }) => Ok(Stay::Leaves),
        Some(SenderRecord {
            stage: SenderStage::Home,
            ..
        }) => Ok(Stay::GoesOn),
        Some(SenderRecord {
            transfer,
            stage: SenderStage::Moving,
        }) => {
            let stage = SenderStage::Home;
            place.persist(Some(SenderRecord { transfer, stage }.encode()))?;
            Ok(Stay::GoesOn)
        }
        None => Err(io::Error::other("there is no record of it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::inbox::Task;
    use dunlin_handover::{Id, Transfer};
    use dunlin_transfer::records::{Shelf, Side, random};
    use std::io::Write;
    use std::time::Instant;

    struct Scene {
        _dir: tempfile::TempDir,
        shelf: Shelf,
        transfer: Transfer,
    }

    fn scene() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(&dir.path().join("d")).unwrap();
        let transfer = Transfer {
            program: Id([1; 16]),
            store: shelf.store(),
            attempt: random().unwrap(),
        };
        Scene {
            _dir: dir,
            shelf,
            transfer,
        }
    }

    fn stand(place: &Path, said: &str) -> (Stay, String) {
        let (mut client, stream) = UnixStream::pair().unwrap();
        client.write_all(said.as_bytes()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let job = Job {
            stream,
            task: Task::Check,
            asked: Instant::now(),
        };
        let stay = Standing::begin(place).unwrap().wait(&job, || ());
        drop(job);
        let mut heard = String::new();
        client.read_to_string(&mut heard).unwrap();
        (stay, heard)
    }

    #[test]
    fn what_is_said_is_done() {
        let scene = scene();
        let place = scene.shelf.create(Side::Out, scene.transfer.attempt).unwrap();
        let (stay, heard) = stand(place.path(), "{\"verdict\":\"go-on\"}\n");
        assert_eq!((stay, heard.trim()), (Stay::GoesOn, "{\"reply\":\"goes-on\"}"));
        assert!(!place.file(STANDING).exists());
        let (stay, _) = stand(place.path(), "{\"verdict\":\"end\",\"peer\":\"x\"}\n");
        assert_eq!(stay, Stay::Leaves);
        assert!(place.file(STANDING).exists());
    }

    #[test]
    fn without_a_word_the_record_decides() {
        let stages = [
            (SenderStage::Moving, Stay::GoesOn),
            (SenderStage::Home, Stay::GoesOn),
            (
                SenderStage::Released {
                    receipt: Id([9; 16]),
                    own: true,
                },
                Stay::Leaves,
            ),
        ];
        for (stage, expected) in stages {
            for said in ["", "{\"verdict\":\"go-on\"}", "nonsense\n"] {
                let scene = scene();
                let transfer = scene.transfer;
                let place = scene.shelf.create(Side::Out, transfer.attempt).unwrap();
                place.persist(Some(SenderRecord { transfer, stage }.encode())).unwrap();
                let path = place.path().to_owned();
                drop(place);
                assert_eq!(stand(&path, said).0, expected, "{stage:?} {said:?}");
                let place = scene.shelf.find(Side::Out, transfer.attempt).unwrap().unwrap();
                let record = place.record::<SenderRecord>().unwrap().unwrap();
                assert_eq!(record.stage == SenderStage::Home, expected == Stay::GoesOn);
                assert_eq!(place.file(STANDING).exists(), expected == Stay::Leaves);
            }
        }
    }

    #[test]
    fn while_somebody_works_at_it_and_without_a_record_it_stands_still() {
        let scene = scene();
        let transfer = scene.transfer;
        let place = scene.shelf.create(Side::Out, transfer.attempt).unwrap();
        let path = place.path().to_owned();
        std::thread::scope(|scope| {
            let standing = scope.spawn(|| stand(&path, "").0);
            std::thread::sleep(Duration::from_millis(100));
            assert!(!standing.is_finished(), "it is locked");
            drop(place);
            std::thread::sleep(Duration::from_millis(100));
            assert!(!standing.is_finished(), "there is no record");
            let place = scene.shelf.find(Side::Out, transfer.attempt).unwrap().unwrap();
            let stage = SenderStage::Home;
            place.persist(Some(SenderRecord { transfer, stage }.encode())).unwrap();
            drop(place);
            assert_eq!(standing.join().unwrap(), Stay::GoesOn);
        });
    }
}
