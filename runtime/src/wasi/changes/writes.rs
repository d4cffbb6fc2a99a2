//! What a program has written into its files since their chunks were last looked at, so that a log of a gigabyte that
//! has grown by a line costs its last chunk.
//!
//! A list of chunks is trusted, but for the ranges that the program has written, only while nobody else has changed the
//! file: its time of change, which nobody can set, is what it was when last looked at, or lies between begin and end of
//! the program's own last changes. They are few: before the first write in a tick of the kernel's clock the file is
//! looked at again ([`Writes::due`]). So a change by others goes unnoticed only if it comes in the same tick (10 ms at
//! most) as one of the program's own, and behind it, on a kernel whose file times are no finer than a tick (before
//! Linux 6.13). Everything else costs no more than reading the file anew.

use crate::journal::FileId;
use crate::wasi::changes::chunked::{List, Ranges};
use crate::wasi::changes::identity::is_racy;
use crate::wasi::host::Stat;
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

/// Files remembered, at most. Others are read each time.
const REMEMBERED: usize = 1 << 20;
/// Files that are remembered before it is looked which of them are of use, at least.
const FORGETFUL: usize = 1 << 12;

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
    /// The last round in which its chunks were asked for.
    round: u64,
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

    /// Compares its time of change with what is known: if someone else has changed it, its chunks have to be read anew.
    fn look(&mut self, stat: &Stat) -> bool {
        let own = self.is_own(stat.changed);
        if !own && stat.changed != self.seen {
            self.list = None;
        }
        (self.seen, self.own) = (stat.changed, None);
        own
    }
}

/// What is known of files, which have numbers here: each write looks nothing up.
#[derive(Debug, Default)]
struct Files {
    numbers: HashMap<FileId, u32>,
    all: Vec<Known>,
    /// The number of snapshots so far.
    round: u64,
    /// With so many files, those that have not been asked for lately are forgotten; 0 for [`FORGETFUL`].
    full: usize,
}

impl Files {
    fn number(&mut self, id: FileId) -> u32 {
        let next = self.all.len() as u32;
        let number = *self.numbers.entry(id).or_insert(next);
        if number == next {
            self.all.push(Known::default());
        }
        number
    }

    /// Forgets files that the last two snapshots didn't ask for: temporary ones, most likely. Numbers change.
    fn forget(&mut self) {
        let Files {
            numbers, all, round, ..
        } = self;
        let mut kept = Vec::new();
        numbers.retain(|_, number| {
            let known = std::mem::take(&mut all[*number as usize]);
            let keep = known.list.is_some() && known.round + 2 > *round;
            *number = kept.len() as u32;
            if keep {
                kept.push(known);
            }
            keep
        });
        self.full = FORGETFUL.max(2 * kept.len());
        self.all = kept;
    }
}

/// The chunks of files as they were last read, and what the program has written since.
#[derive(Debug, Default)]
pub(in crate::wasi) struct Writes {
    files: Mutex<Files>,
    /// Files that a call is changing.
    under_way: Vec<u32>,
}

impl Writes {
    fn known(&mut self, number: u32) -> Option<&mut Known> {
        let files = self.files.get_mut().unwrap_or_else(|e| e.into_inner());
        files.all.get_mut(number as usize)
    }

    /// The number of a file; `None` if there are too many.
    pub(in crate::wasi) fn number(&mut self, id: FileId) -> Option<u32> {
        let files = self.files.get_mut().unwrap_or_else(|e| e.into_inner());
        if files.all.len() >= REMEMBERED && !files.numbers.contains_key(&id) {
            return None;
        }
        Some(files.number(id))
    }

    /// A change of a file is about to begin.
    pub(in crate::wasi) fn begin(&mut self, number: u32) {
        if self.under_way.last() != Some(&number) {
            self.under_way.push(number);
        }
        let now = now(ClockId::RealtimeCoarse);
        if let Some(known) = self.known(number) {
            known.own = Some((known.own.map_or(now, |own| own.0), u64::MAX));
        }
    }

    /// A range of bytes was written.
    pub(in crate::wasi) fn wrote(&mut self, number: u32, at: u64, len: u64) {
        if let Some(known) = self.known(number) {
            known.dirty.add_bytes(at, len);
        }
    }

    /// Its size was changed, or may have been.
    pub(in crate::wasi) fn resized(&mut self, number: u32, from: u64, to: u64) {
        if let Some(known) = self.known(number) {
            known.dirty.add_from(from.min(to));
        }
    }

    /// A snapshot has asked for all files that it needs.
    pub(in crate::wasi) fn next_round(&self) {
        self.files.lock().unwrap_or_else(|e| e.into_inner()).round += 1;
    }

    /// The call that changes files is over. Returns whether numbers are others now.
    #[must_use]
    pub(in crate::wasi) fn returned(&mut self) -> bool {
        if self.under_way.is_empty() {
            return false;
        }
        let now = now(ClockId::Realtime);
        let files = self.files.get_mut().unwrap_or_else(|e| e.into_inner());
        for number in self.under_way.drain(..) {
            if let Some((_, end)) = files.all.get_mut(number as usize).and_then(|known| known.own.as_mut()) {
                *end = now;
            }
        }
        let forgets = files.all.len() >= files.full.max(FORGETFUL);
        if forgets {
            files.forget();
        }
        forgets
    }

    /// Is it time to look at a file again, before the program changes it?
    pub(in crate::wasi) fn due(&mut self, number: u32) -> bool {
        let own = self.known(number).and_then(|known| known.own);
        own.is_none_or(|(begin, _)| begin != now(ClockId::RealtimeCoarse))
    }

    /// What the host says of a file, before the program changes it.
    pub(in crate::wasi) fn seen(&mut self, number: u32, stat: &Stat) {
        if let Some(known) = self.known(number) {
            known.look(stat);
        }
    }

    /// A file has these chunks, as somebody knows who has read or written all of it.
    pub(in crate::wasi) fn know(&mut self, stat: &Stat, list: List) {
        if let Some(number) = self.number(stat.id())
            && let Some(known) = self.known(number)
        {
            *known = Known {
                list: Some(Arc::new(list)),
                seen: stat.changed,
                ..Known::default()
            };
        }
    }

    /// The chunks of a file, of which only what may have changed is read. `file` must be open for reading.
    pub(in crate::wasi) fn list(&self, file: &File, stat: &Stat) -> io::Result<Arc<List>> {
        let racy = is_racy(stat);
        let mut files = self.files.lock().unwrap_or_else(|e| e.into_inner());
        if files.all.len() >= REMEMBERED && !files.numbers.contains_key(&stat.id()) {
            return Ok(Arc::new(List::read(file, stat.size)?));
        }
        let number = files.number(stat.id()) as usize;
        let round = files.round;
        let known = &mut files.all[number];
        known.round = round;
        let trusted = known.look(stat) | known.list.is_some() | !racy;
        let (old, dirty) = (known.list.take(), std::mem::take(&mut known.dirty));
        let list = match old {
            Some(list) if list.len == stat.size && dirty.is_empty() => list,
            Some(list) => Arc::new(list.renewed(file, stat.size, dirty)?),
            None => Arc::new(List::read(file, stat.size)?),
        };
        // Else the next change may get the same time.
        known.list = trusted.then(|| list.clone());
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
        let number = writes.number(stat(file).id()).unwrap();
        if writes.due(number) {
            writes.seen(number, &stat(file));
        }
        writes.begin(number);
        file.write_all_at(bytes, at).unwrap();
        writes.wrote(number, at, bytes.len() as u64);
        let _ = writes.returned();
    }

    /// Changes what is known of a file's second chunk: if it is still so later, the chunk was not read again.
    fn mark(writes: &Writes, file: &File) {
        let mut files = writes.files.lock().unwrap();
        let number = files.number(stat(file).id()) as usize;
        let known = &mut files.all[number];
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
        for (n, turns) in [[other, own, own], [own, other, own], [own, own, other]]
            .iter()
            .enumerate()
        {
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
    fn what_is_racy_is_not_trusted() {
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
        let number = Writes::number(&mut writes, stat(&file).id()).unwrap();
        let check = |writes: &Writes| {
            let list = writes.list(&file, &stat(&file)).unwrap();
            assert_eq!(*list, List::read(&file, stat(&file).size).unwrap());
        };
        let resize = |writes: &mut Writes, to: u64| {
            writes.begin(number);
            writes.resized(number, stat(&file).size, to);
            file.set_len(to).unwrap();
            let _ = writes.returned();
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
        writes.resized(number, 0, 0);
        write(&mut writes, &file, b"end", 3 * CHUNK);
        check(&writes);
    }

    #[test]
    fn temporary_files_are_forgotten() {
        let (mut writes, file) = (Writes::default(), log(4));
        write(&mut writes, &file, b"x", 0);
        writes.list(&file, &stat(&file)).unwrap();
        mark(&writes, &file);
        writes.next_round();
        for ino in 0..3 * FORGETFUL as u64 {
            let number = writes.number(FileId { dev: 1, ino }).unwrap();
            writes.begin(number);
            writes.wrote(number, 0, 1);
            let _ = writes.returned();
        }
        assert!(writes.files.lock().unwrap().all.len() <= FORGETFUL);
        write(&mut writes, &file, b"end", 3 * CHUNK);
        let list = writes.list(&file, &stat(&file)).unwrap();
        assert!(is_marked(&list), "and what is of use is not");
        assert_eq!(
            hashes(&list).last(),
            hashes(&List::read(&file, 4 * CHUNK).unwrap()).last()
        );
    }

    #[test]
    fn what_was_just_put_is_known() {
        let (mut writes, file) = (Writes::default(), log(4));
        writes.know(&stat(&file), List::read(&file, 4 * CHUNK).unwrap());
        mark(&writes, &file);
        write(&mut writes, &file, b"more", 4 * CHUNK);
        assert!(is_marked(&writes.list(&file, &stat(&file)).unwrap()));
        std::thread::sleep(Duration::from_millis(15));
        file.write_all_at(b"others", 0).unwrap();
        assert!(!is_marked(&writes.list(&file, &stat(&file)).unwrap()));
    }
}
