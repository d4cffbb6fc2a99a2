//! The records of an undo journal, and the file they lie in.
//!
//! ```text
//!   0   magic "DUNLIN\0U"
//!   8   records, each: length u32 of all that follows its first 8 bytes, CRC-32 u32 of that, length u16 of what postcard encoded, that,
//!       then the record's bytes of contents, if it has any
//! ```
//!
//! The first record is the [`Header`]. A record is appended, whole, before what it describes is done. So a file can end
//! in the middle of a record: then what that one describes was not done. Anything else that can't be read is damage.

use dunlin_format::module::ModuleHash;
use dunlin_migrate::store::UNDO_MAGIC as MAGIC;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of contents that one record holds, at most.
pub(super) const MOST_CONTENTS: usize = 1 << 20;

/// Length of a record without its contents, at most, in bytes: two paths and some numbers.
const MOST_META: usize = 16 << 10;

/// A host's file, whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// The file system's device number.
    pub dev: u64,
    /// The inode number.
    pub ino: u64,
}

impl FileId {
    /// Of what `stat` told. (The fields' types differ between architectures, hence the casts.)
    #[allow(clippy::unnecessary_cast)]
    pub fn of(stat: &rustix::fs::Stat) -> FileId {
        FileId {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
        }
    }
}

/// A name below a granted directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name {
    /// Index of the grant.
    pub grant: u32,
    /// Names joined by `/`, without links, `.` and `..`; the granted directory itself is the empty path.
    pub path: Vec<u8>,
}

impl Name {
    /// The directory that it lies in.
    pub fn parent(&self) -> Name {
        let at = self.path.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Name {
            grant: self.grant,
            path: self.path[..at].to_vec(),
        }
    }

    /// Is it `above` or something in it?
    pub fn is_within(&self, above: &Name) -> bool {
        let inside = |rest: &[u8]| above.path.is_empty() || rest.is_empty() || rest[0] == b'/';
        self.grant == above.grant && self.path.strip_prefix(&above.path[..]).is_some_and(inside)
    }

    /// The same place once `from`, in which it lies, has become `to`.
    pub fn moved(&self, from: &Name, to: &Name) -> Name {
        let rest = self.path.get(from.path.len()..).unwrap_or_default();
        Name {
            grant: to.grant,
            path: [&to.path[..], rest].concat(),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.path).escape_debug())
    }
}

/// Attributes that going back restores: permission bits, and the time of modification as seconds and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attributes {
    /// Permission bits and file type (`st_mode`).
    pub mode: u32,
    /// Time of the last modification: seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
}

impl Attributes {
    /// Those that `stat` told. (The fields' types differ between architectures, hence the casts.)
    #[allow(clippy::unnecessary_cast)]
    pub(super) fn of(stat: &rustix::fs::Stat) -> Attributes {
        Attributes {
            mode: stat.st_mode as u32,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
        }
    }
}

/// What a name was created as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A new regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; the CRC-32 of what it says.
    Symlink(u32),
    /// Another name of a file that was there.
    Link(FileId),
}

/// What a removed name was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Was {
    /// A file that had come since the snapshot: nothing has to come back.
    New,
    /// A file, which is kept in `.keep/` under this number.
    Kept(u32),
    /// A file that has this name, too, and couldn't be kept by another one.
    Linked(Name),
    /// An empty directory.
    Directory,
    /// A symbolic link, and its target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Pipe,
}

/// What going back through a journal leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Base {
    /// The program's beginning.
    Beginning,
    /// The snapshot of the journal's own number.
    Own,
    /// A snapshot that lies elsewhere, by the SHA-256 of its header and section table.
    Other([u8; 32]),
}

/// Whose journal it is, and what it begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// The program whose files the journal undoes.
    pub module: ModuleHash,
    /// What the files are as at once all records are undone.
    pub base: Base,
    /// Does it begin where the journal before it ends?
    pub continues: bool,
    /// The granted directories by index: the program's name, and which directory it is.
    pub grants: Vec<(String, Option<FileId>)>,
}

/// What is about to be done, or rather what was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Record {
    /// The first record of each journal, with what it is for.
    Header(Header),
    /// A file that was there at the snapshot is about to change for the first time.
    File {
        /// The number by which this journal's records and its table ([`super::seen`]) name the file.
        index: u32,
        /// A name of it; `Err` is the number under which it is kept, if it has no name left, and the number of that
        /// journal.
        place: Result<Name, (u64, u32)>,
        /// Device and inode.
        id: FileId,
        /// Its size at the snapshot, in bytes.
        size: u64,
        /// Its attributes at the snapshot.
        attributes: Attributes,
    },
    /// Contents of a file at the snapshot, which follow the record.
    Data {
        /// The file's number in this journal.
        index: u32,
        /// Their offset in the file, in bytes.
        at: u64,
    },
    /// A part of a file that was a hole.
    Hole {
        /// The file's number in this journal.
        index: u32,
        /// Its offset in the file, in bytes.
        at: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// Contents of a file at the snapshot, kept in a file of their own.
    Copy {
        /// The file's number in this journal.
        index: u32,
        /// Their offset in the file, in bytes.
        at: u64,
        /// Their length in bytes.
        len: u64,
        /// Their name in `.keep/`.
        kept: u32,
    },
    /// The entries of a directory, or the times of a directory or symbolic link, are about to change for the first
    /// time.
    Directory {
        /// Its name.
        name: Name,
        /// Its attributes at the snapshot.
        attributes: Attributes,
    },
    /// A name that nothing has is about to be taken.
    Created {
        /// The name.
        name: Name,
        /// What will have it.
        kind: Kind,
    },
    /// A file was created, and is known by device and inode from now on.
    Born {
        /// The number by which this journal's records and its table name the file.
        index: u32,
        /// Its name.
        name: Name,
        /// Device and inode.
        id: FileId,
    },
    /// A name is about to go, or to be taken by something else.
    Removed {
        /// The name.
        name: Name,
        /// Device and inode of what has it.
        id: FileId,
        /// What that is, and where it is kept.
        was: Was,
        /// Its attributes before.
        attributes: Attributes,
    },
    /// A file was changed by the journals themselves, not later than this, in nanoseconds since 1970: a name that one
    /// had kept is gone.
    Touched {
        /// Device and inode.
        id: FileId,
        /// The latest time of that change, in nanoseconds since 1970.
        until: u64,
    },
    /// All files were as they should be at this time, in nanoseconds since 1970: they had been taken back.
    Restored {
        /// That time.
        at: u64,
    },
    /// Something is about to get another name, which nothing has (a `Removed` has told otherwise).
    Renamed {
        /// The name that it loses.
        from: Name,
        /// The name that it gets.
        to: Name,
        /// Device and inode.
        id: FileId,
    },
}

impl Record {
    /// Does a name come or go with what it is about?
    pub(super) fn is_of_names(&self) -> bool {
        matches!(
            self,
            Record::Created { .. } | Record::Removed { .. } | Record::Renamed { .. }
        )
    }
}

/// The bytes of a record, and of the contents that follow it, as a journal holds them.
pub(super) fn encode(record: &Record, contents: &[u8]) -> Result<Vec<u8>, postcard::Error> {
    let meta = postcard::to_stdvec(record)?;
    if meta.len() > MOST_META || contents.len() > MOST_CONTENTS {
        return Err(postcard::Error::SerializeBufferFull);
    }
    let mut out = Vec::with_capacity(10 + meta.len() + contents.len());
    out.extend(((2 + meta.len() + contents.len()) as u32).to_le_bytes());
    out.extend([0; 4]);
    out.extend((meta.len() as u16).to_le_bytes());
    out.extend_from_slice(&meta);
    out.extend_from_slice(contents);
    let crc = crc32fast::hash(&out[8..]);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
    Ok(out)
}

/// The first bytes of a new journal, up to its header's end.
pub(super) fn beginning(header: &Header) -> Result<Vec<u8>, postcard::Error> {
    Ok([&MAGIC[..], &encode(&Record::Header(header.clone()), &[])?].concat())
}

/// A record as it lies in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// Its offset in the journal, in bytes.
    pub at: u64,
    /// The record.
    pub record: Record,
    /// Its contents: their offset in the journal and their length, in bytes.
    pub contents: (u64, usize),
}

/// A journal that was read: its header, its records in order, and where the last whole one ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// What the journal is for.
    pub header: Header,
    /// The offset behind the header, in bytes: an empty journal's length.
    pub begins: u64,
    /// Everything after the header.
    pub records: Vec<Placed>,
    /// The length without a last record that isn't whole.
    pub end: u64,
}

/// Reads a journal. `None` if not even its header is whole: then nothing was recorded in it.
pub(super) fn read(file: &File) -> io::Result<Option<Read>> {
    let damaged = |at: u64| io::Error::other(format!("it is damaged at byte {at}"));
    let total = file.metadata()?.len();
    let mut magic = [0; 8];
    if total < 8 {
        return Ok(None);
    }
    file.read_exact_at(&mut magic, 0)?;
    if magic != MAGIC {
        // A file system may keep the length of what it has lost.
        return match magic {
            [0, 0, 0, 0, 0, 0, 0, 0] => Ok(None),
            _ => Err(io::Error::other("it is no undo journal")),
        };
    }
    let (mut at, mut buffer) = (8, Vec::new());
    let mut found: Option<Read> = None;
    while at < total {
        let mut head = [0; 8];
        let left = total - at;
        let whole = if left >= 8 {
            file.read_exact_at(&mut head, at)?;
            let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            let fits = (2..=2 + MOST_META + MOST_CONTENTS).contains(&len) && len as u64 <= left - 8;
            if fits {
                buffer.resize(len, 0);
                file.read_exact_at(&mut buffer, at + 8)?;
            }
            // A record that is whole in length but not in contents can only be the last one.
            match fits && crc32fast::hash(&buffer) == crc {
                true => Some(len),
                false if len > 2 + MOST_META + MOST_CONTENTS => return Err(damaged(at)),
                false if fits && at + 8 + (len as u64) < total => return Err(damaged(at)),
                false => None,
            }
        } else {
            None
        };
        let Some(len) = whole else { break };
        let meta = u16::from_le_bytes([buffer[0], buffer[1]]) as usize;
        let record = buffer
            .get(2..2 + meta)
            .and_then(|bytes| postcard::from_bytes(bytes).ok());
        let record = record.ok_or_else(|| damaged(at))?;
        let next = at + 8 + len as u64;
        match (&mut found, record) {
            (None, Record::Header(header)) => {
                found = Some(Read {
                    header,
                    begins: next,
                    records: Vec::new(),
                    end: next,
                });
            }
            (Some(read), record) if !matches!(record, Record::Header(_)) => {
                read.records.push(Placed {
                    at,
                    record,
                    contents: (at + 10 + meta as u64, len - 2 - meta),
                });
                read.end = next;
            }
            _ => return Err(damaged(at)),
        }
        at = next;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> Name {
        Name {
            grant: 1,
            path: path.into(),
        }
    }

    #[test]
    fn names_lie_in_each_other_by_whole_components() {
        assert!(name("a/b").is_within(&name("a")) && name("a").is_within(&name("a")) && name("a").is_within(&name("")));
        assert!(!name("ab").is_within(&name("a")) && !name("a").is_within(&name("a/b")));
        assert_eq!(name("a/b/c").moved(&name("a"), &name("x/y")), name("x/y/b/c"));
        assert_eq!((name("a/b").parent(), name("a").parent()), (name("a"), name("")));
    }

    #[test]
    fn what_is_torn_at_the_end_was_not_done_and_other_damage_is_told() {
        let header = Header {
            module: ModuleHash([3; 32]),
            base: Base::Beginning,
            continues: false,
            grants: vec![("/data".into(), None)],
        };
        let mut bytes = beginning(&header).unwrap();
        let begins = bytes.len() as u64;
        let record = Record::Data { index: 7, at: 4096 };
        bytes.extend(encode(&record, b"earlier").unwrap());
        let first = bytes.len();
        bytes.extend(
            encode(
                &Record::Hole {
                    index: 1,
                    at: 2,
                    len: 3,
                },
                &[],
            )
            .unwrap(),
        );
        let file = tempfile::tempfile().unwrap();
        for len in 0..=bytes.len() {
            file.set_len(0).unwrap();
            file.write_all_at(&bytes[..len], 0).unwrap();
            let read = read(&file).unwrap();
            let records = match len {
                l if (l as u64) < begins => {
                    assert!(read.is_none());
                    continue;
                }
                l if l < first => 0,
                l if l < bytes.len() => 1,
                _ => 2,
            };
            let read = read.unwrap();
            assert_eq!((read.records.len(), &read.header), (records, &header));
            if let Some(first) = read.records.first() {
                assert_eq!(first.record, record);
                assert_eq!(first.contents, (first.at + 10 + 4, 7));
            }
        }
        let mut wrong = bytes.clone();
        wrong[begins as usize + 12] ^= 1;
        file.set_len(0).unwrap();
        file.write_all_at(&wrong, 0).unwrap();
        assert!(read(&file).is_err());
        file.write_all_at(b"something else", 0).unwrap();
        assert!(read(&file).is_err());
    }
}
