//! The sections that this Dunlin knows: one table for whoever reads, writes or shows a snapshot.

/// A kind of section. The discriminant is its id in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SectionKind {
    /// The state.
    State = 1,
    /// The index of stored pages.
    Pages = 2,
    /// The stored pages.
    Data = 3,
    /// The list of the program's files: names, kinds, chunks of their contents.
    Files = 4,
    /// Contents of carried files.
    Contents = 5,
    /// Exceptions that references refer to.
    Exceptions = 6,
    /// Pages taken from earlier snapshots.
    Bases = 16,
    /// Digests of the pages.
    Digests = 17,
}

/// A row of the table.
struct Row {
    name: &'static str,
    title: &'static str,
    version: u32,
    max_len: u64,
}

impl SectionKind {
    /// Every kind, in the order of the ids.
    pub const ALL: [SectionKind; 8] = [
        SectionKind::State,
        SectionKind::Pages,
        SectionKind::Data,
        SectionKind::Files,
        SectionKind::Contents,
        SectionKind::Exceptions,
        SectionKind::Bases,
        SectionKind::Digests,
    ];

    /// The table. What has no limit here is as long as another section says.
    const fn row(self) -> Row {
        const fn row(name: &'static str, title: &'static str, version: u32, max_len: u64) -> Row {
            Row {
                name,
                title,
                version,
                max_len,
            }
        }
        match self {
            // 512 MiB: some ten million frames.
            SectionKind::State => row("state", "state section", 1, 512 << 20),
            // 64 MiB: 1 TiB of memory.
            SectionKind::Pages => row("pages", "index of pages", 1, 64 << 20),
            SectionKind::Data => row("data", "page data", 1, u64::MAX),
            SectionKind::Files => row("files", "files section", 2, 512 << 20),
            SectionKind::Contents => row("contents", "carried contents", 1, u64::MAX),
            SectionKind::Exceptions => row("exceptions", "exceptions", 1, 512 << 20),
            SectionKind::Bases => row("bases", "list of bases", 1, 64 << 20),
            // 256 MiB: 1 TiB of memory.
            SectionKind::Digests => row("digests", "list of digests", super::digest::VERSION, 256 << 20),
        }
    }

    /// Its number in the file.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// The inverse of [`SectionKind::id`]; none if this Dunlin doesn't know it.
    pub fn of(id: u32) -> Option<SectionKind> {
        SectionKind::ALL.into_iter().find(|kind| kind.id() == id)
    }

    /// Its name, as the description of the format has it.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// What a person is told that it is: "wrong checksum of the ...".
    pub const fn title(self) -> &'static str {
        self.row().title
    }

    /// The version of its encoding that is written. Older ones are read.
    pub const fn version(self) -> u32 {
        self.row().version
    }

    /// The greatest length that is read or written, in bytes.
    pub const fn max_len(self) -> u64 {
        self.row().max_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of files that exist: a change here makes them unreadable, or is a new version of a section.
    #[test]
    fn ids_names_and_versions_are_those_of_the_format() {
        let found = SectionKind::ALL.map(|kind| (kind.id(), kind.name(), kind.version()));
        let format = [
            (1, "state", 1),
            (2, "pages", 1),
            (3, "data", 1),
            (4, "files", 2),
            (5, "contents", 1),
            (6, "exceptions", 1),
            (16, "bases", 1),
            (17, "digests", 2),
        ];
        assert_eq!(found, format);
        assert!(
            SectionKind::ALL
                .iter()
                .all(|&kind| SectionKind::of(kind.id()) == Some(kind))
        );
        assert_eq!(SectionKind::of(7), None);
    }
}
