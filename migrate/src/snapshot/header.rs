//! The fixed header and the section table.

use super::SnapshotError;
use dunlin_format::bytes::Reader;
use dunlin_format::module::ModuleHash;

/// First bytes of every snapshot.
pub(super) const MAGIC: [u8; 8] = *b"DUNLIN\0S";
/// The newest format version, which is written.
pub const VERSION: u32 = 1;
/// Size of the header in bytes.
pub(super) const HEADER_LEN: usize = 64;
/// Size of an entry of the section table in bytes.
pub(super) const ENTRY_LEN: usize = 32;
/// Greatest number of sections.
pub(super) const MAX_SECTIONS: u32 = 64;

/// Section flags.
pub(super) mod flag {
    /// Readers that don't know the section may skip it.
    pub(crate) const OPTIONAL: u32 = 1;
    /// Another section holds the checksums.
    pub(crate) const CHECKED_ELSEWHERE: u32 = 2;
}

/// The first 64 bytes of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Format version.
    pub version: u32,
    /// Hash of the module of the program whose state it is.
    pub module: ModuleHash,
    /// Length of the whole file in bytes.
    pub total_len: u64,
    pub(super) sections: u32,
    pub(super) table_crc: u32,
}

impl Header {
    /// Reads a header from a snapshot's first bytes.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Header, SnapshotError> {
        let mut r = Reader::new(bytes);
        if r.array() != Some(MAGIC) {
            return Err(SnapshotError::NotASnapshot);
        }
        let mut read = || {
            let (version, sections) = (r.u32()?, r.u32()?);
            let header = Header {
                version,
                sections,
                module: ModuleHash(r.array()?),
                total_len: r.u64()?,
                table_crc: r.u32()?,
            };
            Some((header, r.u32()?))
        };
        let (header, crc) = read().ok_or(SnapshotError::Damaged("the header is too short"))?;
        // The version first: a later format may have its checksum elsewhere.
        if header.version == 0 || header.version > VERSION {
            return Err(SnapshotError::Version {
                what: "format",
                found: header.version,
                known: VERSION,
            });
        }
        if crc32fast::hash(&bytes[..HEADER_LEN - 4]) != crc {
            return Err(SnapshotError::Checksum("header"));
        }
        if header.sections > MAX_SECTIONS {
            return Err(SnapshotError::Damaged("it has too many sections"));
        }
        Ok(header)
    }
}

/// An entry of the section table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// The number of its kind ([`super::SectionKind::id`]).
    pub id: u32,
    /// Version of its encoding.
    pub version: u32,
    /// See [`flag`].
    pub flags: u32,
    /// CRC-32 of its bytes.
    pub crc: u32,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// The bytes of header and section table.
pub(super) fn encode(module: ModuleHash, total_len: u64, sections: &[Section]) -> Vec<u8> {
    let mut table = Vec::with_capacity(ENTRY_LEN * sections.len());
    for s in sections {
        [s.id, s.version, s.flags, s.crc]
            .iter()
            .for_each(|n| table.extend(n.to_le_bytes()));
        [s.offset, s.len].iter().for_each(|n| table.extend(n.to_le_bytes()));
    }
    let mut out = Vec::with_capacity(HEADER_LEN + table.len());
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend((sections.len() as u32).to_le_bytes());
    out.extend(module.0);
    out.extend(total_len.to_le_bytes());
    out.extend(crc32fast::hash(&table).to_le_bytes());
    out.extend(crc32fast::hash(&out).to_le_bytes());
    out.append(&mut table);
    out
}

/// Reads the section table, and checks that sections lie in the file one after another.
pub(super) fn parse_table(header: &Header, table: &[u8]) -> Result<Vec<Section>, SnapshotError> {
    if crc32fast::hash(table) != header.table_crc {
        return Err(SnapshotError::Checksum("section table"));
    }
    let mut r = Reader::new(table);
    let mut sections: Vec<Section> = Vec::new();
    let mut end = (HEADER_LEN + table.len()) as u64;
    for _ in 0..header.sections {
        let mut read = || {
            let (id, version, flags, crc) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?);
            Some(Section {
                id,
                version,
                flags,
                crc,
                offset: r.u64()?,
                len: r.u64()?,
            })
        };
        let section = read().ok_or(SnapshotError::Damaged("the section table is too short"))?;
        if section.offset < end {
            return Err(SnapshotError::Damaged("sections overlap or are out of order"));
        }
        end = section
            .offset
            .checked_add(section.len)
            .filter(|&n| n <= header.total_len)
            .ok_or(SnapshotError::Damaged("a section ends beyond the file"))?;
        if sections.iter().any(|s| s.id == section.id) {
            return Err(SnapshotError::Damaged("a section occurs twice"));
        }
        sections.push(section);
    }
    if end != header.total_len {
        return Err(SnapshotError::Damaged("there are bytes behind the last section"));
    }
    Ok(sections)
}
