//! The `code` section: builder and parser of the architecture-dependent half of the frame maps.
//!
//! ```text
//!   u64                       number of functions n
//!   { start u32, len u32,     where each function's code lies in the text, ascending
//!     stream u64 } x n        where its bytes begin, from the end of this index; each ends where the next begins
//!   per function, LEB128:     frame_to_fp, record, number of sites;
//!                             per site: text offset (difference) << 2 | kind, trap code if kind is 2,
//!                             handler's text offset if kind is 3, WebAssembly offset (difference)
//! ```
//!
//! Kinds: 0 call, 1 memory access out of bounds (nearly all traps are), 2 any other trap, 3 handler of a call's
//! exceptions.

use super::{FunctionCode, MapError, Site, SiteKind};
use crate::bytes::{Reader, put_leb, put_near, u32_at, u64_at};
use crate::hostcalls::Trap;

const SECTION: &str = "code";
const ENTRY: usize = 16;

/// Writes the `code` section.
#[derive(Debug, Default)]
pub struct CodeBuilder {
    index: Vec<(u32, u32, u64)>,
    stream: Vec<u8>,
    end: u32,
}

impl CodeBuilder {
    /// A builder without functions.
    pub fn new() -> CodeBuilder {
        CodeBuilder::default()
    }

    /// Appends the function of the next code index. Its code must lie behind that of the functions before it; a
    /// function without code (`len` 0) may claim any place, and is given the one behind its predecessor.
    ///
    /// Panics if functions overlap or sites are not ascending: a bug in the compiler.
    pub fn push(&mut self, function: &FunctionCode) {
        let start = if function.len == 0 { self.end } else { function.start };
        assert!(
            start >= self.end,
            "function {} overlaps the one before it",
            self.index.len()
        );
        self.end = start.checked_add(function.len).expect("text is smaller than 4 GiB");
        self.index.push((start, function.len, self.stream.len() as u64));
        let out = &mut self.stream;
        put_leb(out, function.frame_to_fp.into());
        put_leb(out, function.record.into());
        put_leb(out, function.sites.len() as u64);
        let (mut text, mut wasm) = (0, 0);
        for site in &function.sites {
            assert!(site.text >= text, "sites must ascend: {:#x} after {text:#x}", site.text);
            let kind = match site.kind {
                SiteKind::Call => 0,
                SiteKind::Trap(Trap::MemoryOutOfBounds) => 1,
                SiteKind::Trap(_) => 2,
                SiteKind::Handler(_) => 3,
            };
            put_leb(out, u64::from(site.text - text) << 2 | kind);
            match site.kind {
                SiteKind::Trap(trap) if kind == 2 => out.push(trap as u8),
                SiteKind::Handler(at) => put_leb(out, at.into()),
                _ => {}
            }
            put_near(out, wasm, site.wasm);
            (text, wasm) = (site.text, site.wasm);
        }
    }

    /// The section's bytes.
    pub fn finish(mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + ENTRY * self.index.len() + self.stream.len());
        out.extend((self.index.len() as u64).to_le_bytes());
        for (start, len, stream) in self.index {
            out.extend(start.to_le_bytes());
            out.extend(len.to_le_bytes());
            out.extend(stream.to_le_bytes());
        }
        out.append(&mut self.stream);
        out
    }
}

/// The `code` section of an image.
#[derive(Clone, Copy, Debug)]
pub struct Code<'a> {
    bytes: &'a [u8],
    count: u32,
}

impl<'a> Code<'a> {
    /// Checks the section's size. Functions are decoded, and checked, when they are asked for.
    pub fn parse(bytes: &'a [u8]) -> Result<Code<'a>, MapError> {
        let count = u64_at(bytes, 0).ok_or(MapError {
            section: SECTION,
            at: 0,
        })?;
        let index_fits = count <= (bytes.len() as u64 - 8) / ENTRY as u64;
        match u32::try_from(count) {
            Ok(count) if index_fits => Ok(Code { bytes, count }),
            _ => Err(MapError {
                section: SECTION,
                at: 0,
            }),
        }
    }

    /// How many functions it describes: every code index of the module.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether it describes no function.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Where a function's code lies: its text offset and its length, in bytes. Needs no decoding.
    pub fn range(&self, code_index: u32) -> Option<(u32, u32)> {
        let at = 8 + ENTRY * code_index as usize;
        (code_index < self.count).then_some((u32_at(self.bytes, at)?, u32_at(self.bytes, at + 4)?))
    }

    /// The code index of the function whose code holds the byte at a text offset.
    pub fn find(&self, text_offset: u32) -> Option<u32> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.range(middle)?.0 <= text_offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let found = low.checked_sub(1)?;
        let (start, len) = self.range(found)?;
        (text_offset - start < len).then_some(found)
    }

    /// Decodes one function, and checks what its readers rely on: its sites ascend and lie in its code, its record
    /// begins in its frame.
    pub fn get(&self, code_index: u32) -> Result<FunctionCode, MapError> {
        let broken = |at| MapError { section: SECTION, at };
        let (start, len) = self.range(code_index).ok_or(broken(0))?;
        let at = 8 + ENTRY * code_index as usize + 8;
        let index_end = 8 + ENTRY * self.count as usize;
        let place = |at| {
            u64_at(self.bytes, at)
                .and_then(|n| usize::try_from(n).ok()?.checked_add(index_end))
                .ok_or(broken(at))
        };
        let begin = place(at)?;
        let end = if code_index + 1 < self.count {
            place(at + ENTRY)?
        } else {
            self.bytes.len()
        };
        let mut reader = Reader::new(self.bytes.get(begin..end).ok_or(broken(at))?);
        let function = decode(&mut reader, start, len).filter(|_| reader.left() == 0);
        function.ok_or(broken(begin + reader.at()))
    }
}

fn decode(r: &mut Reader<'_>, start: u32, len: u32) -> Option<FunctionCode> {
    let frame_to_fp = r.leb32()?;
    let record = r.leb32().filter(|&n| n <= frame_to_fp)?;
    let count = r.count()?;
    let mut sites = Vec::with_capacity(count);
    let (mut text, mut wasm) = (0u32, 0u32);
    for _ in 0..count {
        let step = r.leb()?;
        text = text.checked_add((step >> 2).try_into().ok()?)?;
        let kind = match step & 3 {
            0 => SiteKind::Call,
            1 => SiteKind::Trap(Trap::MemoryOutOfBounds),
            2 => SiteKind::Trap(Trap::from_u8(r.u8()?)?),
            _ => SiteKind::Handler(r.leb32().filter(|&at| at < len)?),
        };
        wasm = r.near(wasm)?;
        // A call's site is the address behind the call, which may be the function's end.
        if text > len {
            return None;
        }
        sites.push(Site { text, kind, wasm });
    }
    Some(FunctionCode {
        start,
        len,
        frame_to_fp,
        record,
        sites,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions() -> Vec<FunctionCode> {
        let site = |text, kind, wasm| Site { text, kind, wasm };
        vec![
            FunctionCode {
                start: 0,
                len: 0x40,
                frame_to_fp: 96,
                record: 16,
                sites: vec![
                    site(0, SiteKind::Trap(Trap::StackOverflow), 0x30),
                    site(0x10, SiteKind::Call, 0x44),
                    site(0x10, SiteKind::Trap(Trap::MemoryOutOfBounds), 0x46),
                    site(0x10, SiteKind::Handler(0x3c), 0x44),
                    site(0x18, SiteKind::Trap(Trap::IntegerDivisionByZero), 0x35),
                    site(0x40, SiteKind::Call, 0x60),
                ],
            },
            FunctionCode {
                start: 0x40,
                ..Default::default()
            },
            FunctionCode {
                start: 0x60,
                len: 8,
                frame_to_fp: 0,
                record: 0,
                sites: vec![],
            },
            FunctionCode {
                start: 0x68,
                ..Default::default()
            },
            FunctionCode {
                start: 0x1_0000,
                len: 0x10,
                frame_to_fp: 1 << 20,
                record: 1 << 10,
                sites: vec![site(4, SiteKind::Call, 0)],
            },
        ]
    }

    fn section() -> Vec<u8> {
        let mut builder = CodeBuilder::new();
        functions().iter().for_each(|f| builder.push(f));
        builder.finish()
    }

    #[test]
    fn comes_back() {
        let bytes = section();
        let code = Code::parse(&bytes).unwrap();
        assert_eq!(code.len(), 5);
        for (n, f) in functions().iter().enumerate() {
            assert_eq!(&code.get(n as u32).unwrap(), f);
        }
        assert!(code.get(5).is_err());
        let f = code.get(0).unwrap();
        assert_eq!(f.call_at(0x10).unwrap().wasm, 0x44);
        assert_eq!(f.trap_at(0x10), Some((Trap::MemoryOutOfBounds, 0x46)));
        assert_eq!(f.call_at(0x18), None);
        assert_eq!(f.trap_at(0x18), Some((Trap::IntegerDivisionByZero, 0x35)));
        assert_eq!((f.handler_at(0x10), f.handler_at(0x40)), (Some(0x3c), None));
        assert_eq!(f.sites_at(0x10).len(), 3);
        assert!(f.sites_at(0x11).is_empty());
        assert_eq!(f.site_before(0x17).unwrap().wasm, 0x44);
        assert_eq!(f.call_site_of(0x60), Some(0x40));
        assert_eq!(f.call_site_of(0x46), None);
    }

    #[test]
    fn finds_functions() {
        let bytes = section();
        let code = Code::parse(&bytes).unwrap();
        let expect = [
            (0, Some(0)),
            (0x3f, Some(0)),
            (0x40, None),
            (0x5f, None),
            (0x60, Some(2)),
            (0x67, Some(2)),
            (0x68, None),
            (0xffff, None),
            (0x1_0000, Some(4)),
            (0x1_000f, Some(4)),
            (0x1_0010, None),
            (u32::MAX, None),
        ];
        for (offset, function) in expect {
            assert_eq!(code.find(offset), function, "at {offset:#x}");
        }
        assert_eq!(Code::parse(&CodeBuilder::new().finish()).unwrap().find(0), None);
    }

    #[test]
    fn damage_never_panics() {
        let bytes = section();
        for len in 0..bytes.len() {
            if let Ok(code) = Code::parse(&bytes[..len]) {
                assert!(
                    (0..code.len()).any(|f| code.get(f).is_err()),
                    "cut at {len} went unnoticed"
                );
            }
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let Ok(code) = Code::parse(&bytes) else { continue };
                code.find(0x61);
                for f in 0..code.len().min(10) {
                    let Ok(f) = code.get(f) else { continue };
                    assert!(f.sites.is_sorted_by(|a, b| a.text <= b.text));
                    assert!(f.record <= f.frame_to_fp);
                }
            }
        }
    }
}
