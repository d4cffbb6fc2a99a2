//! What a program has written into its files since their chunks were last looked at, so that a log of a gigabyte that has grown by a line
//! costs its last chunk.
//!
//! A list of chunks is trusted, but for the ranges that the program has written, only while nobody else has changed the file: its time
//! of change, which nobody can set, is what it was when last looked at, or lies between begin and end of the program's own last
//! changes. They are few: before the first write in a tick of the kernel's clock the file is looked at again ([`Writes::due`]). So
//! a change by others goes unnoticed only if it comes in the same tick (10 ms at most) as one of the program's own, and behind it, on a
//! kernel whose file times are no finer than a tick (before Linux 6.13). Everything else costs no more than reading the file anew.

use super::chunked::{List, Ranges};
use super::host::Stat;
use super::identity::settled;
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// Files remembered, at most.
const REMEMBERED: usize = 1 << 20;

/// A file of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    /// Device number.
    pub(super) dev: u64,
    /// Inode number.
    pub(super) ino: u64,
}

impl FileId {
    pub(super) fn of(stat: &Stat) -> FileId {
        FileId {
            dev: stat.dev,
            ino: stat.ino,
        }
    }
}

/// What is known of one file.
#[derive(Debug, Default)]
struct Known {
    /// Its chunks when they were last looked at; `None` if they have to be read.
    list: Option<Arc<List>>,
    /// What the program has changed since.
    dirty: Ranges,
    /// Its time of change when that was last looked at.
    seen: u64,
    /// When the program has changed it since then: begin of the first change, end of the last.
    own: Option<(u64, u64)>,
}

impl Known {
    /// Was the program the last to change it?
    fn is_own(&self, changed: u64) -> bool {
        let Some((begin, end)) = self.own else { return false };
        // File systems keep times in units of up to a microsecond, or of whole seconds (two on FAT).
        let unit = if changed.is_multiple_of(1_000_000_000) {
            2_000_000_000
        } else {
            1_000
        };
        changed.saturating_add(unit) > begin && changed <= end
    }

    /// Looks at it: whoever else has changed it is noticed.
    fn look(&mut self, stat: &Stat) -> bool {
        let own = self.is_own(stat.changed);
        if !own && stat.changed != self.seen {
            self.list = None;
        }
        (self.seen, self.own) = (stat.changed, None);
        own
    }
}

/// What is known of files.
#[derive(Debug, Default)]
pub(super) struct Writes {
    files: Mutex<HashMap<FileId, Known>>,
    /// Files that a call is changing.
    under_way: Vec<FileId>,
}

impl Writes {
    fn lock(&self) -> MutexGuard<'_, HashMap<FileId, Known>> {
        self.files.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn known(&mut self, id: FileId) -> &mut Known {
        let files = self.files.get_mut().unwrap_or_else(|e| e.into_inner());
        if files.len() >= REMEMBERED && !files.contains_key(&id) {
            files.clear();
        }
        files.entry(id).or_default()
    }

    /// A change is about to begin.
    fn begin(&mut self, id: FileId) -> &mut Ranges {
        if self.under_way.last() != Some(&id) {
            self.under_way.push(id);
        }
        let now = now(ClockId::RealtimeCoarse);
        let known = self.known(id);
        known.own = Some((known.own.map_or(now, |own| own.0), u64::MAX));
        &mut known.dirty
    }

    /// A range of bytes is about to be written; none of them: its attributes are about to change.
    pub(super) fn wrote(&mut self, id: FileId, at: u64, len: u64) {
        self.begin(id).add_bytes(at, len);
    }

    /// Its size is about to change.
    pub(super) fn resized(&mut self, id: FileId, from: u64, to: u64) {
        self.begin(id).add_from(from.min(to));
    }

    /// It was opened, and is of this size. Of an empty file nothing is known: it may be a new one in the place of another.
    pub(super) fn opened(&mut self, id: FileId, size: u64) {
        if size == 0 {
            self.known(id).dirty.add_from(0);
        }
    }

    /// The call that changes files is over.
    pub(super) fn returned(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let now = now(ClockId::Realtime);
        let files = self.files.get_mut().unwrap_or_else(|e| e.into_inner());
        for id in self.under_way.drain(..) {
            if let Some((_, end)) = files.get_mut(&id).and_then(|known| known.own.as_mut()) {
                *end = now;
            }
        }
    }

    /// Is it time to look at a file again, before the program changes it?
    pub(super) fn due(&self, id: FileId) -> bool {
        let own = self.lock().get(&id).and_then(|known| known.own);
        own.is_none_or(|(begin, _)| begin != now(ClockId::RealtimeCoarse))
    }

    /// What the host says of a file, before the program changes it.
    pub(super) fn seen(&mut self, stat: &Stat) {
        self.known(FileId::of(stat)).look(stat);
    }

    /// The chunks of a file, of which only what may have changed is read. `file` must be open for reading.
    pub(super) fn list(&self, file: &File, stat: &Stat) -> io::Result<Arc<List>> {
        let settled = settled(stat);
        let mut known = self.lock().remove(&FileId::of(stat)).unwrap_or_default();
        let trusted = known.look(stat) | known.list.is_some() | settled;
        let list = match &known.list {
            Some(list) if list.len == stat.size && known.dirty.is_empty() => list.clone(),
            Some(list) => Arc::new(list.renewed(file, stat.size, std::mem::take(&mut known.dirty))?),
            None => Arc::new(List::read(file, stat.size)?),
        };
        known.dirty = Ranges::default();
        // Else the next change may get the same time.
        known.list = trusted.then(|| list.clone());
        let mut files = self.lock();
        if files.len() >= REMEMBERED {
            files.clear();
        }
        files.insert(FileId::of(stat), known);
        Ok(list)
    }
}

/// Nanoseconds since 1970.
fn now(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000) + now.tv_nsec.unsigned_abs() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_migrate::state::files::{CHUNK, ContentHash};
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;
    use std::time::Duration;

    fn stat(file: &File) -> Stat {
        Stat::of_fd(file.as_fd()).unwrap()
    }

    fn hashes(list: &List) -> Vec<ContentHash> {
        list.chunks().map(|c| c.1).collect()
    }

    /// Writes as the program does.
    fn write(writes: &mut Writes, file: &File, bytes: &[u8], at: u64) {
        let id = FileId::of(&stat(file));
        if writes.due(id) {
            writes.seen(&stat(file));
        }
        writes.wrote(id, at, bytes.len() as u64);
        file.write_all_at(bytes, at).unwrap();
        writes.returned();
    }

    /// Changes what is known of a file's second chunk: if it is still so later, the chunk was not read again.
    fn mark(writes: &Writes, file: &File) {
        let mut files = writes.files.lock().unwrap();
        let known = files.get_mut(&FileId::of(&stat(file))).unwrap();
        let bytes = tempfile::tempfile().unwrap();
        bytes.set_len(stat(file).size).unwrap();
        bytes.write_all_at(b"marked", CHUNK).unwrap();
        let mut dirty = Ranges::default();
        dirty.add_bytes(CHUNK, 1);
        let list = known.list.as_ref().expect("it is trusted");
        known.list = Some(Arc::new(list.renewed(&bytes, list.len, dirty).unwrap()));
    }

    fn is_marked(list: &List) -> bool {
        let mut marked = vec![0; CHUNK as usize];
        marked[..6].copy_from_slice(b"marked");
        hashes(list).contains(&ContentHash::of(&marked))
    }

    fn log(chunks: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        for n in 0..chunks {
            file.write_all_at(&[n as u8 + 1; CHUNK as usize], n * CHUNK).unwrap();
        }
        file
    }

    #[test]
    fn a_program_that_writes_all_the_time_is_trusted() {
        let (mut writes, file) = (Writes::default(), log(4));
        for n in 0..300u64 {
            write(&mut writes, &file, &n.to_le_bytes(), 4 * CHUNK + 8 * n);
            let list = writes.list(&file, &stat(&file)).unwrap();
            if n == 0 {
                mark(&writes, &file);
                continue;
            }
            assert!(is_marked(&list), "{n}: all of it was read again");
            let fresh = List::read(&file, stat(&file).size).unwrap();
            assert_eq!(hashes(&list).last(), hashes(&fresh).last(), "{n}: the end was not");
        }
    }

    #[test]
    fn what_others_write_is_seen_whenever_it_is_in_another_tick() {
        let tick = || std::thread::sleep(Duration::from_millis(15));
        let (mut writes, file) = (Writes::default(), log(4));
        let fresh = |file: &File| List::read(file, stat(file).size).unwrap();
        type Turn = fn(&mut Writes, &File, u8);
        let other: Turn = |_, file, n| file.write_all_at(&[n], CHUNK).unwrap();
        let own: Turn = |writes, file, n| write(writes, file, &[n], 3 * CHUNK);
        for (n, turns) in [[other, own, own], [own, other, own], [own, own, other]].iter().enumerate() {
            write(&mut writes, &file, b"x", 0);
            tick();
            writes.list(&file, &stat(&file)).unwrap();
            mark(&writes, &file);
            for turn in turns {
                tick();
                turn(&mut writes, &file, n as u8 + 100);
            }
            let list = writes.list(&file, &stat(&file)).unwrap();
            assert_eq!(*list, fresh(&file), "order {n}");
            assert!(!is_marked(&list));
        }
    }

    #[test]
    fn what_is_not_settled_is_not_trusted() {
        let (writes, file) = (Writes::default(), log(2));
        for n in 0..100u8 {
            file.write_all_at(&[n], CHUNK).unwrap();
            let list = writes.list(&file, &stat(&file)).unwrap();
            assert_eq!(*list, List::read(&file, 2 * CHUNK).unwrap(), "{n}");
        }
    }

    #[test]
    fn sizes_and_new_files_count() {
        let (mut writes, file) = (Writes::default(), log(4));
        let id = FileId::of(&stat(&file));
        let check = |writes: &Writes| {
            let list = writes.list(&file, &stat(&file)).unwrap();
            assert_eq!(*list, List::read(&file, stat(&file).size).unwrap());
        };
        let resize = |writes: &mut Writes, to: u64| {
            writes.resized(id, stat(&file).size, to);
            file.set_len(to).unwrap();
            writes.returned();
        };
        write(&mut writes, &file, b"x", 0);
        check(&writes);
        // Cut off and made longer again: what was there is zero now.
        resize(&mut writes, CHUNK);
        resize(&mut writes, 4 * CHUNK);
        check(&writes);
        write(&mut writes, &file, &[9; 3 * CHUNK as usize], CHUNK);
        check(&writes);
        // Another file with the same number: of one that was opened while it was empty, nothing is known.
        file.set_len(0).unwrap();
        writes.opened(id, 0);
        write(&mut writes, &file, b"end", 3 * CHUNK);
        check(&writes);
    }
}
