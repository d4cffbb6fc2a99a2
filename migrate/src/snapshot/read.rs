//! Reads a snapshot, trusting none of its bytes.

use super::bases::{BaseFile, Bases};
use super::contents::{Stored, copy_chunk, files_of, places};
use super::header::{ENTRY_LEN, HEADER_LEN, Header, Section, flag, parse_table};
use super::origin::{Origin, load};
use super::pages::{PageIndex, PageRun, verify_pages};
use super::{PAGE_SIZE, SectionKind, SnapshotError};
use crate::state::State;
use crate::state::files::{Chunk, ContentHash};
use dunlin_format::module::ModuleHash;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

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

/// Opens a snapshot file, and the bases beside it. The name of a pipe or device is an error, and isn't opened.
pub fn open_file(path: &Path) -> Result<Snapshot<File>, SnapshotError> {
    let open = |path: &Path| match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::other("it is not a regular file")),
        Ok(_) => File::open(path),
        Err(e) => Err(e),
    };
    let file = open(path).map_err(SnapshotError::io(format!("open {}", path.display())))?;
    let mut snapshot = Snapshot::open(file)?;
    snapshot.attach_all(|name| open(&path.with_file_name(name)))?;
    Ok(snapshot)
}

/// A snapshot whose state and index of pages are read, and whose pages are to be read or mapped.
///
/// An incremental one takes pages from its [`Snapshot::bases`]; they are attached with [`Snapshot::attach`] before any
/// page is read.
#[derive(Debug)]
pub struct Snapshot<R> {
    reader: R,
    header: Header,
    identity: [u8; 32],
    sections: Vec<Section>,
    state: State,
    index: PageIndex,
    bases: Bases,
    attached: Vec<Option<Attached<R>>>,
    digests: Option<Vec<u128>>,
    data_offset: u64,
    contents_offset: u64,
}

/// A base whose identity was checked.
#[derive(Debug)]
struct Attached<R> {
    reader: R,
    data_offset: u64,
    /// The chunks of carried contents that it stores, and where; only if the snapshot that takes pages from it takes
    /// contents too.
    contents: Vec<(Chunk, u64)>,
}

/// A snapshot's header, its identity, and its sections.
struct Outline {
    header: Header,
    identity: [u8; 32],
    sections: Vec<Section>,
}

/// Reads header and section table, and checks the file's length.
fn outline(reader: &mut (impl Read + Seek)) -> Result<Outline, SnapshotError> {
    let failed = || SnapshotError::io("read the snapshot");
    let found = reader.seek(SeekFrom::End(0)).map_err(failed())?;
    reader.seek(SeekFrom::Start(0)).map_err(failed())?;
    let mut bytes = vec![0; HEADER_LEN];
    let header = match reader.read_exact(&mut bytes) {
        Ok(()) => header_only(&mut &bytes[..])?,
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(SnapshotError::NotASnapshot),
        Err(e) => return Err(failed()(e)),
    };
    if found != header.total_len {
        return Err(SnapshotError::Length {
            expected: header.total_len,
            found,
        });
    }
    let table_len = header.sections as usize * ENTRY_LEN;
    if ((HEADER_LEN + table_len) as u64) > header.total_len {
        return Err(SnapshotError::Damaged("the section table is too short"));
    }
    bytes.resize(HEADER_LEN + table_len, 0);
    reader.read_exact(&mut bytes[HEADER_LEN..]).map_err(failed())?;
    let sections = parse_table(&header, &bytes[HEADER_LEN..])?;
    Ok(Outline {
        header,
        identity: ModuleHash::of(&bytes).0,
        sections,
    })
}

/// The section of a kind, if there is one.
fn find(sections: &[Section], kind: SectionKind) -> Option<&Section> {
    sections.iter().find(|s| s.id == kind.id())
}

/// The section of the stored pages.
fn data_section(sections: &[Section]) -> Result<&Section, SnapshotError> {
    let data = find(sections, SectionKind::Data).ok_or(SnapshotError::Damaged("it has no page data"))?;
    if data.len > 0 && !data.offset.is_multiple_of(PAGE_SIZE as u64) {
        return Err(SnapshotError::Damaged("the page data isn't aligned to 64 KiB"));
    }
    if data.flags & flag::CHECKED_ELSEWHERE == 0 || data.crc != 0 {
        return Err(SnapshotError::Damaged("the page data has a checksum of its own"));
    }
    Ok(data)
}

impl<R: Origin> Snapshot<R> {
    /// Reads everything but the pages themselves.
    ///
    /// Checked then: the file's length; that sections are known, lie in the file in order and apart; every checksum but
    /// the pages'; that the state decodes, to its last byte, and is of the module that the header names; that stored
    /// pages are unique, in order, and lie in the state's memories; that the list of carried files can be
    /// ([`crate::state::files::Files::check`]) and their chunks are as long. Not checked: what the state says
    /// ([`crate::validate`]), the pages' own checksums ([`Snapshot::verify_pages`], [`PageRun::verify`]), and the
    /// carried chunks' hashes ([`Snapshot::verify_contents`], [`copy_chunk`]).
    pub fn open(mut reader: R) -> Result<Snapshot<R>, SnapshotError> {
        let Outline {
            header,
            identity,
            sections,
        } = outline(&mut reader)?;
        for section in &sections {
            let Some(kind) = SectionKind::of(section.id) else {
                match section.flags & flag::OPTIONAL != 0 {
                    true => continue,
                    false => return Err(SnapshotError::UnknownSection(section.id)),
                }
            };
            if section.version == 0 || (section.version > kind.version() && section.flags & flag::OPTIONAL == 0) {
                return Err(SnapshotError::Version {
                    what: kind.title(),
                    found: section.version,
                    known: kind.version(),
                });
            }
        }
        let needed = |kind, what| find(&sections, kind).ok_or(SnapshotError::Damaged(what));
        let data = data_section(&sections)?;
        let bytes = load(
            &mut reader,
            needed(SectionKind::State, "it has no state section")?,
            SectionKind::State,
        )?;
        let (mut state, rest) = postcard::take_from_bytes::<State>(&bytes).map_err(SnapshotError::State)?;
        if !rest.is_empty() {
            return Err(SnapshotError::Damaged("there are bytes behind the state"));
        }
        // It may be large, and so may be what comes next.
        drop(bytes);
        if state.module != header.module {
            return Err(SnapshotError::Damaged("header and state name different modules"));
        }
        if let Some(section) = find(&sections, SectionKind::Exceptions) {
            let bytes = load(&mut reader, section, SectionKind::Exceptions)?;
            let (exceptions, rest) = postcard::take_from_bytes(&bytes).map_err(SnapshotError::State)?;
            if !rest.is_empty() {
                return Err(SnapshotError::Damaged("there are bytes behind the exceptions"));
            }
            state.exceptions = exceptions;
        }
        let index = load(
            &mut reader,
            needed(SectionKind::Pages, "it has no index of pages")?,
            SectionKind::Pages,
        )?;
        let index = PageIndex::parse(&index, &state.memories, data.len)?;
        let files = find(&sections, SectionKind::Files);
        let contents = find(&sections, SectionKind::Contents);
        if let Some(section) = files {
            let bytes = load(&mut reader, section, SectionKind::Files)?;
            let files = files_of(&bytes, section.version)?;
            files.check(state.wasi.grants.len())?;
            state.wasi.files = files;
        }
        if contents.map_or(0, |s| s.len) != state.wasi.files.stored_len() {
            return Err(SnapshotError::Damaged(
                "the carried contents are not as long as the list of files says",
            ));
        }
        let contents_offset = contents.map_or(0, |s| s.offset);
        let bases = match find(&sections, SectionKind::Bases) {
            Some(section) => Bases::parse(
                &load(&mut reader, section, SectionKind::Bases)?,
                &state.memories,
                &index,
            )?,
            None => Bases::default(),
        };
        let digests = match find(&sections, SectionKind::Digests) {
            // Of another function they tell nothing: the next snapshot stores every page.
            Some(section) if section.version != super::digest::VERSION => None,
            Some(section) => {
                let bytes = load(&mut reader, section, SectionKind::Digests)?;
                let (digests, rest) = bytes.as_chunks::<16>();
                if !rest.is_empty() || digests.len() as u64 != index.stored() + bases.pages() {
                    return Err(SnapshotError::Damaged("there are more or fewer digests than pages"));
                }
                Some(digests.iter().map(|d| u128::from_le_bytes(*d)).collect())
            }
            None => None,
        };
        Ok(Snapshot {
            contents_offset,
            data_offset: data.offset,
            reader,
            header,
            identity,
            sections,
            state,
            index,
            attached: bases.files.iter().map(|_| None).collect(),
            bases,
            digests,
        })
    }

    /// Attaches every base, opened by its name.
    pub fn attach_all(&mut self, mut open: impl FnMut(&str) -> io::Result<R>) -> Result<(), SnapshotError> {
        for nth in 0..self.bases.files.len() {
            let name = self.bases.files[nth].name.clone();
            let reader = open(&name).map_err(|e| SnapshotError::Base {
                name,
                why: match e.kind() {
                    io::ErrorKind::NotFound => "it isn't there; it must be in the same directory".into(),
                    _ => e.to_string(),
                },
            })?;
            self.attach(nth, reader)?;
        }
        Ok(())
    }

    /// Attaches a base, if it is the one that the snapshot was made from.
    pub fn attach(&mut self, nth: usize, mut reader: R) -> Result<(), SnapshotError> {
        let Some(file) = self.bases.files.get(nth) else {
            return Err(SnapshotError::Damaged("there is no such base"));
        };
        let wrong = |why: String| SnapshotError::Base {
            name: file.name.clone(),
            why,
        };
        let outline = outline(&mut reader).map_err(|e| wrong(e.to_string()))?;
        if outline.identity != file.identity {
            return Err(wrong(
                "it is another snapshot than the one this one was made from".into(),
            ));
        }
        let data = data_section(&outline.sections).map_err(|e| wrong(e.to_string()))?;
        if file.pages.checked_mul(PAGE_SIZE as u64) != Some(data.len) {
            return Err(wrong("it stores another number of pages".into()));
        }
        let data_offset = data.offset;
        let contents = match self.state.wasi.files.chunks.iter().all(|c| c.stored) {
            true => Vec::new(),
            false => contents_of(&mut reader, &outline.sections).map_err(|e| wrong(e.to_string()))?,
        };
        self.attached[nth] = Some(Attached {
            reader,
            data_offset,
            contents,
        });
        Ok(())
    }

    /// Reads the pages of a run into `buffer`, which must have exactly their size, and checks them.
    pub fn read_run(&self, nth: usize, buffer: &mut [u8]) -> Result<(), SnapshotError> {
        let run = self.runs().nth(nth);
        let run = run.ok_or(SnapshotError::Damaged("there is no such run of pages"))?;
        if buffer.len() as u64 != run.len() {
            return Err(SnapshotError::BufferSize {
                pages: run.count,
                len: buffer.len(),
            });
        }
        self.read_pages(&run, buffer)
    }

    /// Reads one page of a memory, and checks it. A page that isn't stored is zero.
    pub fn read_page(&self, memory: u32, page: u64, buffer: &mut [u8; PAGE_SIZE]) -> Result<(), SnapshotError> {
        let holds = |run: &PageRun<'_>| run.memory == memory && (run.first..run.first + run.count).contains(&page);
        let Some(run) = self.runs().find(holds) else {
            buffer.fill(0);
            return Ok(());
        };
        let nth = page - run.first;
        let page = PageRun {
            first: page,
            count: 1,
            offset: run.offset + nth * PAGE_SIZE as u64,
            crcs: &run.crcs[nth as usize..][..1],
            ..run
        };
        self.read_pages(&page, buffer)
    }

    /// Reads all stored pages, those of bases too, and checks them.
    pub fn verify_pages(&self) -> Result<(), SnapshotError> {
        let mut buffer = vec![0; CHUNK_PAGES * PAGE_SIZE];
        for run in self.runs().flat_map(|run| run.parts(CHUNK_PAGES)) {
            self.read_pages(&run, &mut buffer[..run.len() as usize])?;
        }
        Ok(())
    }

    /// Reads the pages of a run, which may be a part of a stored one, and checks them.
    pub(super) fn read_pages(&self, run: &PageRun<'_>, buffer: &mut [u8]) -> Result<(), SnapshotError> {
        let read = self.reader_of(run)?.read_at(buffer, run.offset);
        read.map_err(SnapshotError::io("read a page"))?;
        verify_pages(run.memory, run.first, run.crcs, buffer)
    }

    /// Reads all carried contents that are stored, and checks them.
    pub fn verify_contents(&self) -> Result<(), SnapshotError> {
        let copy = |(chunk, offset): (Chunk, u64)| {
            copy_chunk(&Stored::one(chunk.hash, &self.reader, offset), &chunk, &mut io::sink())
        };
        self.stored_contents().try_for_each(copy)
    }

    /// Reads a chunk of carried contents, and checks it.
    pub fn read_chunk(&self, hash: ContentHash, out: &mut dyn Write) -> Result<(), SnapshotError> {
        let found = self.stored_contents().find(|(chunk, _)| chunk.hash == hash);
        let missing = SnapshotError::Content {
            hash,
            what: "the snapshot doesn't hold them",
        };
        let (chunk, offset) = found.ok_or(missing)?;
        copy_chunk(&Stored::one(hash, &self.reader, offset), &chunk, out)
    }
}

/// The chunks of carried contents that a snapshot stores, and where each begins.
fn contents_of(reader: &mut impl Origin, sections: &[Section]) -> Result<Vec<(Chunk, u64)>, SnapshotError> {
    let (list, contents) = (
        find(sections, SectionKind::Files),
        find(sections, SectionKind::Contents),
    );
    let (Some(list), Some(contents)) = (list, contents) else {
        return Ok(Vec::new());
    };
    let bytes = load(reader, list, SectionKind::Files)?;
    let files = files_of(&bytes, list.version)?;
    if files.stored_len() != contents.len {
        return Err(SnapshotError::Damaged(
            "the carried contents are not as long as the list of files says",
        ));
    }
    Ok(places(&files, contents.offset).collect())
}

fn not_attached(bases: &Bases, nth: usize) -> SnapshotError {
    SnapshotError::Base {
        name: bases.files.get(nth).map_or(String::new(), |f| f.name.clone()),
        why: "it was not opened".into(),
    }
}

impl<R> Snapshot<R> {
    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its sections in the order of the file, those that this Dunlin doesn't know too.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The state. Not yet validated against a module.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// SHA-256 of header and section table, which hold the checksums of everything else.
    pub fn identity(&self) -> [u8; 32] {
        self.identity
    }

    /// The chunks of carried contents that are stored, and where each begins in the file.
    pub fn stored_contents(&self) -> impl Iterator<Item = (Chunk, u64)> {
        places(&self.state.wasi.files, self.contents_offset)
    }

    /// The chunks of carried contents that its bases store, as far as they are attached: in which of them, and where.
    /// Empty unless it takes contents from them.
    pub fn base_contents(&self) -> impl Iterator<Item = (usize, Chunk, u64)> {
        let bases = self.attached.iter().enumerate();
        bases.flat_map(|(nth, base)| {
            base.iter()
                .flat_map(move |b| b.contents.iter().map(move |&(c, at)| (nth, c, at)))
        })
    }

    /// Where the chunks of carried contents are: the reader of the file that stores them, and their place in it.
    pub fn content_places(&self) -> HashMap<ContentHash, (&R, u64)> {
        let of_bases = self.base_contents().filter_map(|(nth, chunk, offset)| {
            let base = self.attached.get(nth)?.as_ref()?;
            Some((chunk.hash, (&base.reader, offset)))
        });
        let own = self
            .stored_contents()
            .map(|(chunk, offset)| (chunk.hash, (&self.reader, offset)));
        of_bases.chain(own).collect()
    }

    /// The runs of pages that aren't zero: first those that the snapshot stores, by memory and page, then those in its
    /// bases.
    pub fn runs(&self) -> impl Iterator<Item = PageRun<'_>> {
        let mut before = 0;
        let in_bases = self.bases.runs.iter().map(move |run| {
            let start = before as usize;
            before += run.count;
            let data_offset = match self.attached.get(run.base as usize) {
                Some(Some(attached)) => attached.data_offset,
                _ => 0,
            };
            PageRun {
                memory: run.memory,
                first: run.first,
                count: run.count,
                file: run.base + 1,
                at: run.at,
                offset: data_offset + run.at * PAGE_SIZE as u64,
                crcs: self
                    .bases
                    .crcs
                    .get(start..start + run.count as usize)
                    .unwrap_or_default(),
            }
        });
        self.index.runs(self.data_offset).chain(in_bases)
    }

    /// How many pages are stored in the file itself.
    pub fn stored_pages(&self) -> u64 {
        self.index.stored()
    }

    /// How many pages are taken from bases.
    pub fn base_pages(&self) -> u64 {
        self.bases.pages()
    }

    /// The earlier snapshots that pages are taken from; none if this one is complete by itself.
    pub fn bases(&self) -> &[BaseFile] {
        &self.bases.files
    }

    /// How many pages are taken from base number `nth`.
    pub fn pages_from(&self, nth: usize) -> u64 {
        u32::try_from(nth).map_or(0, |nth| self.bases.pages_of(nth))
    }

    /// Tells whether base number `nth` is attached.
    pub fn is_attached(&self, nth: usize) -> bool {
        self.attached.get(nth).is_some_and(Option::is_some)
    }

    /// Digests of the pages, in the order of [`Snapshot::runs`], if they were written.
    pub(super) fn digests(&self) -> Option<&[u128]> {
        self.digests.as_deref()
    }

    /// The file itself.
    pub fn reader(&self) -> &R {
        &self.reader
    }

    /// The file that a run's pages lie in.
    pub fn reader_of(&self, run: &PageRun<'_>) -> Result<&R, SnapshotError> {
        match (run.file as usize).checked_sub(1) {
            None => Ok(&self.reader),
            Some(nth) => match self.attached.get(nth) {
                Some(Some(attached)) => Ok(&attached.reader),
                _ => Err(not_attached(&self.bases, nth)),
            },
        }
    }

    /// Takes the state out, and gives the file back.
    pub fn into_parts(self) -> (State, R) {
        (self.state, self.reader)
    }
}
