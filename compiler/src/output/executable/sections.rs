//! The section table of the executable: the runtime's sections under their old numbers, some with new contents, then
//! new ones.

use super::pad;
use super::runtime_file::{RuntimeFile, Section};
use crate::error::Error;
use object::elf::{SHN_LORESERVE, SHT_PROGBITS, SHT_STRTAB, SHT_SYMTAB, SectionHeader64, Sym64};
use object::pod::bytes_of_slice;
use object::read::elf::Sym as _;
use object::{LittleEndian as LE, U32, U64};
use std::borrow::Cow;

/// Sections on their way into a file.
pub(super) struct SectionTable<'a> {
    entries: Vec<Entry<'a>>,
    /// Number of the section that holds sections' names.
    names_at: usize,
}

/// A section of the executable.
struct Entry<'a> {
    name: &'a [u8],
    header: SectionHeader64<LE>,
    /// What to append to the file; none for a section whose place is settled.
    bytes: Option<Cow<'a, [u8]>>,
}

impl<'a> SectionTable<'a> {
    /// The runtime's sections. Those that are loaded stay where they are, the others' bytes will be appended.
    pub(crate) fn new(runtime: &RuntimeFile<'a>) -> SectionTable<'a> {
        let entry = |s: &Section<'a>| Entry {
            name: s.name,
            header: s.header,
            bytes: (!s.is_loaded() && !s.data.is_empty()).then_some(Cow::Borrowed(s.data)),
        };
        let mut table = SectionTable {
            entries: runtime.sections.iter().map(entry).collect(),
            names_at: 0,
        };
        table.names_at = match runtime.header.e_shstrndx.get(LE) as usize {
            0 => table.find_or_add(b".shstrtab", SHT_STRTAB),
            at => at,
        };
        table
    }

    /// Contents of a section that isn't loaded; empty if there is none of this name.
    pub(crate) fn bytes(&self, name: &[u8]) -> &[u8] {
        let found = self.entries.iter().find(|e| e.name == name);
        found.and_then(|e| e.bytes.as_deref()).unwrap_or_default()
    }

    /// Replaces or adds a section of plain contents.
    pub(crate) fn set_progbits(&mut self, name: &'static [u8], bytes: Vec<u8>, align: u64) {
        let at = self.find_or_add(name, SHT_PROGBITS);
        self.entries[at].header.sh_addralign = U64::new(LE, align);
        self.entries[at].bytes = Some(Cow::Owned(bytes));
    }

    /// Replaces or adds the symbol table and its names. Local symbols come first.
    pub(crate) fn set_symbols(&mut self, symbols: Vec<Sym64<LE>>, strings: Vec<u8>) {
        let symtab = match self.entries.iter().position(|e| e.header.sh_type.get(LE) == SHT_SYMTAB) {
            Some(at) => at,
            None => {
                let at = self.find_or_add(b".symtab", SHT_SYMTAB);
                let strtab = self.find_or_add(b".strtab", SHT_STRTAB);
                self.entries[at].header.sh_link = U32::new(LE, strtab as u32);
                at
            }
        };
        let locals = symbols.iter().take_while(|s| s.is_local()).count();
        let entry = &mut self.entries[symtab];
        entry.bytes = Some(Cow::Owned(bytes_of_slice(&symbols).to_vec()));
        entry.header.sh_info = U32::new(LE, locals as u32);
        entry.header.sh_entsize = U64::new(LE, size_of::<Sym64<LE>>() as u64);
        entry.header.sh_addralign = U64::new(LE, 8);
        let strtab = entry.header.sh_link.get(LE) as usize;
        self.entries[strtab].bytes = Some(Cow::Owned(strings));
    }

    /// Appends the contents to the file. Returns the section headers, and the number of the section with the names.
    pub(crate) fn write(mut self, out: &mut Vec<u8>) -> Result<(Vec<SectionHeader64<LE>>, u16), Error> {
        if self.entries.len() >= SHN_LORESERVE as usize {
            return Err(Error::Runtime(format!("it has {} sections", self.entries.len())));
        }
        let mut names = vec![0];
        for entry in self.entries.iter_mut().filter(|e| !e.name.is_empty()) {
            entry.header.sh_name = U32::new(LE, names.len() as u32);
            names.extend_from_slice(entry.name);
            names.push(0);
        }
        self.entries[self.names_at].bytes = Some(Cow::Owned(names));
        for entry in &mut self.entries {
            let Some(bytes) = &entry.bytes else { continue };
            pad(out, entry.header.sh_addralign.get(LE));
            entry.header.sh_offset = U64::new(LE, out.len() as u64);
            entry.header.sh_size = U64::new(LE, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
        Ok((self.entries.iter().map(|e| e.header).collect(), self.names_at as u16))
    }

    /// Number of the section of this name that isn't loaded.
    fn find_or_add(&mut self, name: &'static [u8], kind: u32) -> usize {
        if let Some(at) = self
            .entries
            .iter()
            .position(|e| e.name == name && e.header.sh_type.get(LE) == kind)
        {
            return at;
        }
        let zero = U64::new(LE, 0);
        let header = SectionHeader64 {
            sh_name: U32::new(LE, 0),
            sh_type: U32::new(LE, kind),
            sh_flags: zero,
            sh_addr: zero,
            sh_offset: zero,
            sh_size: zero,
            sh_link: U32::new(LE, 0),
            sh_info: U32::new(LE, 0),
            sh_addralign: U64::new(LE, 1),
            sh_entsize: zero,
        };
        self.entries.push(Entry {
            name,
            header,
            bytes: None,
        });
        self.entries.len() - 1
    }
}
