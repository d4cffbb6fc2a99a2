//! Reads a snapshot, trusting none of its bytes.

use super::contents::{Contents, copy_contents};
use super::header::{ENTRY_LEN, HEADER_LEN, Header, Section, flag, id, parse_table};
use super::pages::{PAGE_SIZE, PageIndex, PageRun};
use super::{MAX_FILES, MAX_INDEX, MAX_STATE, SnapshotError};
use crate::state::State;
use crate::state::files::{Content, ContentHash, Files};
use std::cell::RefCell;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes read at once when pages are verified.
const CHUNK_PAGES: usize = 64;

/// Reads only the first 64 bytes of a snapshot: whose it is, and how long the file must be.
pub fn header_only(reader: &mut impl Read) -> Result<Header, SnapshotError> {
    let mut bytes = [0; HEADER_LEN];
    match reader.read_exact(&mut bytes) {
        Ok(()) => Header::parse(&bytes),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(SnapshotError::NotASnapshot),
        Err(e) => Err(SnapshotError::io("read the snapshot")(e)),
    }
}

/// A snapshot whose state and index of pages are read, and whose pages are to be read or mapped.
#[derive(Debug)]
pub struct Snapshot<R> {
    reader: R,
    header: Header,
    state: State,
    index: PageIndex,
    data_offset: u64,
    contents_offset: u64,
}

impl<R: Read + Seek> Snapshot<R> {
    /// Reads everything but the pages themselves.
    ///
    /// Checked then: the file's length; that sections are known, lie in the file in order and apart; every checksum but the
    /// pages'; that the state decodes, to its last byte, and is of the module that the header names; that stored pages are unique,
    /// in order, and lie in the state's memories; that the list of carried files can be ([`Files::check`]) and their contents are as
    /// long. Not checked: what the state says ([`crate::state::validate`]), the pages' own checksums ([`Snapshot::verify_pages`],
    /// [`PageRun::verify`]), and the carried contents' hashes ([`Snapshot::verify_contents`], [`copy_contents`]).
    pub fn open(mut reader: R) -> Result<Snapshot<R>, SnapshotError> {
        let failed = || SnapshotError::io("read the snapshot");
        let found = reader.seek(SeekFrom::End(0)).map_err(failed())?;
        reader.seek(SeekFrom::Start(0)).map_err(failed())?;
        let header = header_only(&mut reader)?;
        if found != header.total_len {
            return Err(SnapshotError::Length {
                expected: header.total_len,
                found,
            });
        }
        let mut table = vec![0; header.sections as usize * ENTRY_LEN];
        if ((HEADER_LEN + table.len()) as u64) > header.total_len {
            return Err(SnapshotError::Damaged("the section table is too short"));
        }
        reader.read_exact(&mut table).map_err(failed())?;
        let sections = parse_table(&header, &table)?;
        for section in &sections {
            let name = match section.id {
                id::STATE => "state section",
                id::PAGES => "page index",
                id::DATA => "page data",
                id::EXCEPTIONS => "exceptions",
                id::FILES => "files section",
                id::CONTENTS => "carried contents",
                _ if section.flags & flag::OPTIONAL != 0 => continue,
                other => return Err(SnapshotError::UnknownSection(other)),
            };
            if section.version != 1 {
                return Err(SnapshotError::Version {
                    what: name,
                    found: section.version,
                    known: 1,
                });
            }
        }
        let find = |id, what| sections.iter().find(|s| s.id == id).ok_or(SnapshotError::Damaged(what));
        let data = find(id::DATA, "it has no page data")?;
        if data.len > 0 && !data.offset.is_multiple_of(PAGE_SIZE as u64) {
            return Err(SnapshotError::Damaged("the page data isn't aligned to 64 KiB"));
        }
        if data.flags & flag::CHECKED_ELSEWHERE == 0 || data.crc != 0 {
            return Err(SnapshotError::Damaged("the page data has a checksum of its own"));
        }
        let state = load(&mut reader, find(id::STATE, "it has no state section")?, "state", MAX_STATE)?;
        let (mut state, rest) = postcard::take_from_bytes::<State>(&state).map_err(SnapshotError::State)?;
        if !rest.is_empty() {
            return Err(SnapshotError::Damaged("there are bytes behind the state"));
        }
        if state.module != header.module {
            return Err(SnapshotError::Damaged("header and state name different modules"));
        }
        if let Some(section) = sections.iter().find(|s| s.id == id::EXCEPTIONS) {
            let bytes = load(&mut reader, section, "exceptions", MAX_STATE)?;
            let (exceptions, rest) = postcard::take_from_bytes(&bytes).map_err(SnapshotError::State)?;
            if !rest.is_empty() {
                return Err(SnapshotError::Damaged("there are bytes behind the exceptions"));
            }
            state.exceptions = exceptions;
        }
        let index = load(&mut reader, find(id::PAGES, "it has no index of pages")?, "pages", MAX_INDEX)?;
        let index = PageIndex::parse(&index, &state.memories, data.len)?;
        let files = sections.iter().find(|s| s.id == id::FILES);
        let contents = sections.iter().find(|s| s.id == id::CONTENTS);
        if let Some(section) = files {
            let bytes = load(&mut reader, section, "files", MAX_FILES)?;
            let (files, rest) = postcard::take_from_bytes::<Files>(&bytes).map_err(SnapshotError::FilesCode)?;
            if !rest.is_empty() {
                return Err(SnapshotError::Damaged("there are bytes behind the list of files"));
            }
            files.check(state.wasi.grants.len())?;
            state.wasi.files = files;
        }
        if contents.map_or(0, |s| s.len) != state.wasi.files.stored_len() {
            return Err(SnapshotError::Damaged(
                "the carried contents are not as long as the list of files says",
            ));
        }
        let contents_offset = contents.map_or(0, |s| s.offset);
        Ok(Snapshot {
            contents_offset,
            reader,
            header,
            state,
            index,
            data_offset: data.offset,
        })
    }

    /// Reads the pages of a run into `buffer`, which must have exactly their size, and checks them.
    pub fn read_run(&mut self, nth: usize, buffer: &mut [u8]) -> Result<(), SnapshotError> {
        let run = self
            .index
            .runs(self.data_offset)
            .nth(nth)
            .ok_or(SnapshotError::Damaged("there is no such run of pages"))?;
        if buffer.len() as u64 != run.len() {
            return Err(SnapshotError::BufferSize {
                pages: run.count,
                len: buffer.len(),
            });
        }
        self.reader
            .seek(SeekFrom::Start(run.offset))
            .and_then(|_| self.reader.read_exact(buffer))
            .map_err(SnapshotError::io("read a page"))?;
        run.verify(buffer)
    }

    /// Reads one page of a memory, and checks it. A page that isn't stored is zero.
    pub fn read_page(&mut self, memory: u32, page: u64, buffer: &mut [u8; PAGE_SIZE]) -> Result<(), SnapshotError> {
        let holds = |run: &PageRun<'_>| run.memory == memory && (run.first..run.first + run.count).contains(&page);
        let Some(run) = self.index.runs(self.data_offset).find(holds) else {
            buffer.fill(0);
            return Ok(());
        };
        let nth = page - run.first;
        self.reader
            .seek(SeekFrom::Start(run.offset + nth * PAGE_SIZE as u64))
            .and_then(|_| self.reader.read_exact(buffer))
            .map_err(SnapshotError::io("read a page"))?;
        PageRun {
            first: page,
            count: 1,
            crcs: &run.crcs[nth as usize..][..1],
            ..run
        }
        .verify(buffer)
    }

    /// Reads all stored pages, and checks them.
    pub fn verify_pages(&mut self) -> Result<(), SnapshotError> {
        let mut buffer = vec![0; CHUNK_PAGES.min(self.index.stored() as usize) * PAGE_SIZE];
        let failed = || SnapshotError::io("read a page");
        for run in self.index.runs(self.data_offset) {
            self.reader.seek(SeekFrom::Start(run.offset)).map_err(failed())?;
            for (n, crcs) in run.crcs.chunks(CHUNK_PAGES).enumerate() {
                let buffer = &mut buffer[..crcs.len() * PAGE_SIZE];
                self.reader.read_exact(buffer).map_err(failed())?;
                let first = run.first + (n * CHUNK_PAGES) as u64;
                PageRun {
                    first,
                    count: crcs.len() as u64,
                    crcs,
                    ..run
                }
                .verify(buffer)?;
            }
        }
        Ok(())
    }

    /// Reads all carried contents that are stored, and checks them.
    pub fn verify_contents(&mut self) -> Result<(), SnapshotError> {
        let places: Vec<(Content, u64)> = self.stored_contents().collect();
        let reader = RefCell::new(&mut self.reader);
        places
            .iter()
            .try_for_each(|(content, offset)| copy_contents(&One(*offset, &reader), content, &mut io::sink()))
    }

    /// Reads the contents of a carried file, and checks them.
    pub fn read_content(&mut self, hash: ContentHash, out: &mut dyn Write) -> Result<(), SnapshotError> {
        let found = self.stored_contents().find(|(content, _)| content.hash == hash);
        let missing = SnapshotError::Content {
            hash,
            what: "the snapshot doesn't hold them",
        };
        let (content, offset) = found.ok_or(missing)?;
        copy_contents(&One(offset, &RefCell::new(&mut self.reader)), &content, out)
    }
}

/// Contents at a known place of a reader.
struct One<'a, 'r, R>(u64, &'a RefCell<&'r mut R>);

impl<R: Read + Seek> Contents for One<'_, '_, R> {
    fn copy(&self, content: &Content, out: &mut dyn Write) -> io::Result<bool> {
        let mut reader = self.1.borrow_mut();
        reader.seek(SeekFrom::Start(self.0))?;
        io::copy(&mut Read::take(&mut **reader, content.len), out).map(|_| true)
    }
}

impl<R> Snapshot<R> {
    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The state. Not yet validated against a module.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The stored runs of pages, in the order of the file: by memory, then by page.
    pub fn runs(&self) -> impl Iterator<Item = PageRun<'_>> {
        self.index.runs(self.data_offset)
    }

    /// The carried contents that are stored, and where each begins in the file.
    pub fn stored_contents(&self) -> impl Iterator<Item = (Content, u64)> {
        let mut next = self.contents_offset;
        self.state
            .wasi
            .files
            .contents
            .iter()
            .filter(|c| c.stored)
            .map(move |&content| {
                let offset = next;
                next += content.len;
                (content, offset)
            })
    }

    /// How many pages are stored.
    pub fn stored_pages(&self) -> u64 {
        self.index.stored()
    }

    /// The file.
    pub fn reader(&self) -> &R {
        &self.reader
    }

    /// Takes the state out, and gives the file back.
    pub fn into_parts(self) -> (State, R) {
        (self.state, self.reader)
    }
}

/// The bytes of a section, checked against its checksum.
fn load(reader: &mut (impl Read + Seek), section: &Section, name: &'static str, limit: u64) -> Result<Vec<u8>, SnapshotError> {
    if section.len > limit {
        return Err(SnapshotError::TooLarge {
            section: name,
            len: section.len,
            limit,
        });
    }
    let failed = || SnapshotError::io("read the snapshot");
    reader.seek(SeekFrom::Start(section.offset)).map_err(failed())?;
    let mut bytes = Vec::new();
    // `take` reads on demand: a sparse file's length costs no memory before its bytes are there.
    reader.take(section.len).read_to_end(&mut bytes).map_err(failed())?;
    if bytes.len() as u64 != section.len || crc32fast::hash(&bytes) != section.crc {
        return Err(SnapshotError::Checksum(match name {
            "state" => "state section",
            "files" => "files section",
            _ => "index of pages",
        }));
    }
    Ok(bytes)
}
