//! A record's file: room for two, of which the newer one counts. The other one is overwritten by the next, in place, so
//! that making it durable takes one write to one sector and no new room: replacing a file takes several times as long,
//! and many times while others write to the same disk.
//!
//! ```text
//!   0, 4096    magic "DUNLREC\1"    8   number u64    16  length u32    20  CRC-32 of 8..20 and the bytes    24  bytes
//! ```
//!
//! All zero: no record. Numbers ascend. What is written fits into one sector, which disks write whole or not at all; so
//! a slot that is neither sound nor empty is damage, and is not taken for one that was never written: the other one
//! would be old, and an old record is a lie. Files of earlier versions hold the bytes alone.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

const MAGIC: [u8; 8] = *b"DUNLREC\x01";
/// Bytes from slot to slot.
const SLOT: u64 = 4096;
/// Bytes that are written, at once.
const SECTOR: usize = 512;

/// How often a file is read again in which a slot is being written by another process at that moment.
const TRIES: u32 = 20;

/// Makes a file without a record, durably (but for its directory's entry).
pub(super) fn create(path: &Path) -> io::Result<()> {
    super::write_durably(path, &[0; 2 * SLOT as usize])
}

/// What a slot holds.
enum Slot {
    Empty,
    Holds { number: u64, bytes: Vec<u8> },
}

fn parse(slot: &[u8]) -> Option<Slot> {
    if slot.iter().all(|b| *b == 0) {
        return Some(Slot::Empty);
    }
    let (magic, rest) = slot.split_first_chunk::<8>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let bytes = rest.get(..u32::from_le_bytes(*len) as usize)?;
    let sound = *magic == MAGIC && u32::from_le_bytes(*crc) == checksum(*number, *len, bytes);
    sound.then(|| Slot::Holds {
        number: u64::from_le_bytes(*number),
        bytes: bytes.to_vec(),
    })
}

fn checksum(number: [u8; 8], len: [u8; 4], bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    [&number, &len[..], bytes].iter().for_each(|part| crc.update(part));
    crc.finalize()
}

/// The newest record and its slot, if there is one. `None` if a slot is neither sound nor empty.
fn newest(file: &[u8]) -> Option<Option<(u64, u64, Vec<u8>)>> {
    let mut newest: Option<(u64, u64, Vec<u8>)> = None;
    for nth in 0..2 {
        let start = (nth * SLOT) as usize;
        match parse(file.get(start..start + SECTOR)?)? {
            Slot::Holds { number, bytes } if newest.as_ref().is_none_or(|(n, ..)| *n < number) => {
                newest = Some((number, nth, bytes));
            }
            Slot::Holds { .. } | Slot::Empty => {}
        }
    }
    Some(newest)
}

/// A file's bytes; `None` if there is none.
fn load(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(2 * SLOT).read_to_end(&mut bytes)?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    Ok(Some(bytes))
}

/// Where the newest record is; `None` if there is no file, or an old one.
fn look(path: &Path) -> io::Result<Looked> {
    for _ in 0..TRIES {
        match load(path)? {
            None => return Ok(Looked::Nothing),
            Some(file) if file.len() as u64 != 2 * SLOT => return Ok(Looked::Alone(file)),
            Some(file) => {
                if let Some(found) = newest(&file) {
                    return Ok(Looked::Slots(found));
                }
            }
        }
        sleep(Duration::from_millis(1));
    }
    let why = format!("{}: the record is damaged", path.display());
    Err(io::Error::new(ErrorKind::InvalidData, why))
}

/// What lies at a path.
enum Looked {
    /// Nothing.
    Nothing,
    /// Bytes alone.
    Alone(Vec<u8>),
    /// Slots: the newest record's number, which slot it is in, and its bytes.
    Slots(Option<(u64, u64, Vec<u8>)>),
}

/// Reads the record; `None` if there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    Ok(match look(path)? {
        Looked::Nothing => None,
        Looked::Alone(bytes) => Some(bytes),
        Looked::Slots(found) => found.map(|(_, _, bytes)| bytes),
    })
}

/// Makes the record be this one, durably (but for its directory's entry).
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (number, nth) = match look(path)? {
        Looked::Slots(Some((number, nth, _))) => (number + 1, 1 - nth),
        Looked::Slots(None) => (1, 0),
        Looked::Nothing | Looked::Alone(_) => {
            // As whole as any other: whoever looks finds the old one, or this one.
            let new = path.with_extension("new");
            super::remove_if_there(&new)?;
            create(&new)?;
            write(&new, bytes)?;
            return std::fs::rename(&new, path);
        }
    };
    let (number, len) = (number.to_le_bytes(), (bytes.len() as u32).to_le_bytes());
    let crc = checksum(number, len, bytes).to_le_bytes();
    let mut slot = [&MAGIC[..], &number, &len, &crc, bytes].concat();
    if slot.len() > SECTOR {
        return Err(io::Error::new(ErrorKind::InvalidInput, "a record is too long"));
    }
    slot.resize(SECTOR, 0);
    let file = OpenOptions::new().write(true).mode(0o600).open(path)?;
    file.write_all_at(&slot, nth * SLOT)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const HEAD: usize = 24;

    #[test]
    fn the_newest_counts_and_one_that_was_not_written_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        assert_eq!(read(&path).unwrap(), None);
        create(&path).unwrap();
        assert_eq!(read(&path).unwrap(), None);
        for n in 0..5 {
            write(&path, &[n; 100]).unwrap();
            assert_eq!(read(&path).unwrap(), Some(vec![n; 100]));
            assert_eq!(fs::metadata(&path).unwrap().len(), 2 * SLOT);
        }
        // A write that the disk never got.
        let before = fs::read(&path).unwrap();
        write(&path, b"lost").unwrap();
        fs::write(&path, &before).unwrap();
        assert_eq!(read(&path).unwrap(), Some(vec![4; 100]));
        assert!(write(&path, &[1; SECTOR]).is_err());
        assert_eq!(read(&path).unwrap(), Some(vec![4; 100]));
    }

    #[test]
    fn damage_is_not_taken_for_an_older_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        create(&path).unwrap();
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        let sound = fs::read(&path).unwrap();
        for at in [0, 9, 17, 21, HEAD, SLOT as usize, SLOT as usize + HEAD + 2] {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::InvalidData, "byte {at}");
            assert!(write(&path, b"next").is_err());
        }
    }

    #[test]
    fn earlier_versions_records_are_read_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        fs::write(&path, b"as it was").unwrap();
        assert_eq!(read(&path).unwrap(), Some(b"as it was".to_vec()));
        write(&path, b"as it is").unwrap();
        assert_eq!(read(&path).unwrap(), Some(b"as it is".to_vec()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
