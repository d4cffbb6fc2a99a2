//! Mutated and forged snapshots, from a seed.

use dunlin_format::point::{PointKind, Slot};
use dunlin_format::types::Value;
use dunlin_migrate::snapshot::SectionKind;
use dunlin_migrate::state::wasi::{Descriptor, Resource, Stdio};
use dunlin_migrate::state::{Exception, Frame, Invocation, MemoryState, State, TableState};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Numbers that depend on a seed only (SplitMix64).
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next one.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }

    /// Below `n`, which is at least 1.
    pub fn below(&mut self, n: usize) -> usize {
        (self.roll() % n.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll().is_multiple_of(n)
    }

    /// A number of the kind that breaks things.
    fn nasty(&mut self) -> u64 {
        let special = [
            0,
            1,
            2,
            0x7f,
            0x80,
            0xff,
            0xffff,
            0x1_0000,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            1 << 32,
            1 << 48,
            u64::MAX,
        ];
        match self.below(4) {
            0 => self.roll() >> self.below(64),
            1 => self.roll() % 64,
            _ => special[self.below(special.len())].wrapping_add_signed(self.below(3) as i64 - 1),
        }
    }

    fn text(&mut self) -> String {
        let texts = [
            "",
            "/",
            "..",
            "../../x",
            "a\0b",
            "\u{1b}[2J",
            "/data",
            "\u{202e}",
            "_start",
            "a/b/c",
            "=",
            "\n",
        ];
        match self.below(8) {
            0 => "x".repeat(self.below(5000)),
            _ => texts[self.below(texts.len())].to_owned(),
        }
    }

    fn value(&mut self) -> Value {
        let n = self.nasty();
        let reference = Some(n as u32).filter(|_| n.is_multiple_of(3));
        match self.below(8) {
            0 => Value::I32(n as u32),
            1 => Value::I64(n),
            2 => Value::F32(n as u32),
            3 => Value::F64(n),
            4 => Value::V128(u128::from(n) << 64),
            5 => Value::FuncRef(reference),
            6 => Value::ExternRef(reference),
            _ => Value::ExnRef(reference),
        }
    }
}

/// A section: id, version, flags and bytes. `holes` more bytes, zeros that take no room, come behind them.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its number.
    pub id: u32,
    /// Version of its encoding.
    pub version: u32,
    /// Its flags.
    pub flags: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Zeros behind them.
    pub holes: u64,
}

const STATE: u32 = SectionKind::State.id();
const PAGES: u32 = SectionKind::Pages.id();
const DATA: u32 = SectionKind::Data.id();
const EXCEPTIONS: u32 = SectionKind::Exceptions.id();

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// Takes a sound snapshot apart.
pub fn parts(bytes: &[u8]) -> Vec<Part> {
    let part = |at: usize| {
        let (offset, len) = (u64_at(bytes, at + 16) as usize, u64_at(bytes, at + 24) as usize);
        Part {
            id: u32_at(bytes, at),
            version: u32_at(bytes, at + 4),
            flags: u32_at(bytes, at + 8),
            bytes: bytes[offset..offset + len].to_vec(),
            holes: 0,
        }
    };
    (0..u32_at(bytes, 12) as usize).map(|n| part(64 + 32 * n)).collect()
}

/// A file as it is written: pieces and their places, and the length.
#[derive(Debug)]
pub struct Forged {
    pieces: Vec<(u64, Vec<u8>)>,
    len: u64,
}

impl Forged {
    /// Writes it; zeros that take no room take none.
    pub fn write(&self, path: &Path) {
        let file = File::create(path).expect("scratch space is writable");
        for (at, bytes) in &self.pieces {
            file.write_all_at(bytes, *at).expect("scratch space is writable");
        }
        file.set_len(self.len).expect("scratch space is writable");
    }
}

/// Puts a snapshot together, with right checksums and places, but for what `twist` does to the table of sections.
pub fn assemble(good: &[u8], parts: &[Part], twist: impl FnOnce(&mut Vec<u8>)) -> Forged {
    let mut end = (64 + 32 * parts.len()) as u64;
    let (mut table, mut pieces) = (Vec::new(), Vec::new());
    for part in parts {
        let unit = if part.id == DATA && !part.bytes.is_empty() {
            65_536
        } else {
            16
        };
        let at = end.next_multiple_of(unit);
        let len = part.bytes.len() as u64 + part.holes;
        let crc = if part.flags & 2 == 0 {
            crc(&part.bytes, part.holes)
        } else {
            0
        };
        for n in [part.id, part.version, part.flags, crc] {
            table.extend(n.to_le_bytes());
        }
        table.extend(at.to_le_bytes());
        table.extend(len.to_le_bytes());
        pieces.push((at, part.bytes.clone()));
        end = at + len;
    }
    twist(&mut table);
    let mut head = good[..56].to_vec();
    head[12..16].copy_from_slice(&((table.len() / 32) as u32).to_le_bytes());
    head[48..56].copy_from_slice(&end.to_le_bytes());
    head.extend(crc32fast::hash(&table).to_le_bytes());
    head.extend(crc32fast::hash(&head).to_le_bytes());
    head.extend(table);
    pieces.push((0, head));
    Forged { pieces, len: end }
}

fn crc(bytes: &[u8], holes: u64) -> u32 {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let mut crc = crc32fast::Hasher::new();
    crc.update(bytes);
    let mut left = holes;
    while left > 0 {
        let n = left.min(ZEROS.len() as u64);
        crc.update(&ZEROS[..n as usize]);
        left -= n;
    }
    crc.finalize()
}

/// Changes some bytes; the length, too.
fn scramble(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        let end = (at + 1 + dice.below(40)).min(bytes.len());
        match dice.below(8) {
            _ if bytes.is_empty() => bytes.push(dice.roll() as u8),
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = dice.roll() as u8,
            // The greatest numbers of the encoding.
            2 => drop(bytes.splice(at..at + 1, [0xff, 0xff, 0xff, 0xff, 0x0f])),
            3 => drop(bytes.splice(at..at + 1, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
            6 => bytes[at..end].fill(0),
            _ => bytes.truncate(at),
        }
    }
}

/// Changes a few things of a state that can still be encoded.
fn lie(dice: &mut Dice, state: &mut State) {
    for _ in 0..=dice.below(3) {
        let nasty = dice.nasty();
        let frame = dice.below(state.frames.len());
        let descriptor = dice.below(state.wasi.descriptors.len());
        match dice.below(30) {
            0 => state.frames.truncate(frame),
            1 => state.frames.reverse(),
            2 => {
                let again = state.frames.get(frame).cloned();
                state.frames.extend(again.into_iter().cycle().take(dice.below(20_000)));
            }
            3..=8 => {
                let Some(f) = state.frames.get_mut(frame) else { continue };
                lie_about_frame(dice, f);
            }
            9 => {
                let n = dice.below(state.globals.len());
                if let Some(global) = state.globals.get_mut(n) {
                    *global = dice.value();
                }
            }
            10 => state.globals.resize(dice.below(1000), Value::I64(nasty)),
            11 => {
                let n = dice.below(state.memories.len());
                if let Some(memory) = state.memories.get_mut(n) {
                    memory.pages = nasty;
                }
            }
            12 => state
                .memories
                .resize(dice.below(300), MemoryState { pages: nasty % 65_537 }),
            13 => state.tables.resize(
                dice.below(300),
                TableState {
                    elements: vec![Some(nasty as u32); 3],
                },
            ),
            14 => {
                let n = dice.below(state.tables.len());
                if let Some(table) = state.tables.get_mut(n) {
                    table.elements.resize(dice.below(30_000), Some(nasty as u32));
                }
            }
            15 => state.dropped_elements.resize(dice.below(10_000), true),
            16 => state.dropped_data.resize(dice.below(10_000), false),
            17 => state.invocation = Invocation::Export(dice.text()),
            18 => state.invocation = Invocation::Start,
            19 => state.wasi.args.resize(dice.below(3000), dice.text()),
            20 => state.wasi.env.resize(dice.below(3000), (dice.text(), dice.text())),
            21 => state.wasi.grants.resize(dice.below(100), dice.text()),
            22 => drop(state.wasi.descriptors.drain(descriptor..)),
            23..=26 => {
                let Some(d) = state.wasi.descriptors.get_mut(descriptor) else {
                    continue;
                };
                lie_about_descriptor(dice, d);
            }
            27 => {
                let Some(d) = state.wasi.descriptors.get(descriptor).cloned() else {
                    continue;
                };
                let more = (0..dice.below(200) as u32).map(|fd| Descriptor { fd, ..d.clone() });
                state.wasi.descriptors.extend(more.collect::<Vec<_>>());
            }
            28 => state.wasi.times.monotonic = nasty,
            _ => state.wasi.times.poll_started = Some(nasty),
        }
    }
}

fn lie_about_frame(dice: &mut Dice, frame: &mut Frame) {
    let nasty = dice.nasty();
    let value = dice.below(frame.values.len());
    match dice.below(7) {
        0 => frame.func = nasty as u32,
        1 => frame.offset = nasty as u32,
        2 => frame.kind = [PointKind::Call, PointKind::Loop, PointKind::Entry, PointKind::Host][dice.below(4)],
        3 => frame.values.truncate(value),
        4 => {
            let slot = if nasty.is_multiple_of(2) {
                Slot::Local
            } else {
                Slot::Stack
            };
            frame
                .values
                .resize(dice.below(2000), (slot(nasty as u32), dice.value()));
        }
        _ => {
            if let Some(value) = frame.values.get_mut(value) {
                value.1 = dice.value();
            }
        }
    }
}

fn lie_about_descriptor(dice: &mut Dice, descriptor: &mut Descriptor) {
    let nasty = dice.nasty();
    match dice.below(8) {
        0 => descriptor.fd = nasty as u32,
        1 => (descriptor.rights, descriptor.inheriting) = (nasty, !nasty),
        2 => descriptor.flags = nasty as u16,
        3 => {
            descriptor.resource = Resource::File {
                grant: nasty as u32 % 3,
                path: dice.text(),
                offset: nasty,
                size: nasty,
            }
        }
        4 => {
            descriptor.resource = Resource::Directory {
                grant: nasty as u32 % 3,
                path: dice.text(),
                preopened: nasty.is_multiple_of(2),
                listing: Some(vec![vec![nasty as u8; 9]; dice.below(2000)]),
            }
        }
        5 => {
            descriptor.resource = Resource::Stdio {
                stream: [Stdio::Stdin, Stdio::Stdout, Stdio::Stderr][dice.below(3)],
                offset: Some(nasty),
            }
        }
        6 => {
            descriptor.resource = Resource::Unlinked {
                file: nasty as u32,
                offset: nasty,
            }
        }
        _ => descriptor.resource = Resource::Listener { index: nasty as u32 },
    }
}

/// The forgery of a seed: its kind, and the file.
pub fn forge(dice: &mut Dice, good: &[u8]) -> (&'static str, Forged) {
    let whole = |bytes: Vec<u8>| Forged {
        len: bytes.len() as u64,
        pieces: vec![(0, bytes)],
    };
    let mut parts = parts(good);
    let any = dice.below(parts.len());
    match dice.below(20) {
        0 => {
            let mut bytes = good.to_vec();
            scramble(dice, &mut bytes);
            ("bytes", whole(bytes))
        }
        1 => {
            let mut bytes = good[..good.len().min(4096)].to_vec();
            scramble(dice, &mut bytes);
            bytes.extend(good.get(4096..).unwrap_or_default());
            ("first bytes", whole(bytes))
        }
        2..=5 => {
            scramble(dice, &mut parts[any].bytes);
            ("bytes of a section", assemble(good, &parts, |_| {}))
        }
        6..=8 => {
            let state = parts.iter_mut().find(|p| p.id == STATE).expect("a state");
            scramble(dice, &mut state.bytes);
            ("bytes of the state", assemble(good, &parts, |_| {}))
        }
        9..=13 => {
            let part = parts.iter_mut().find(|p| p.id == STATE).expect("a state");
            let mut state: State = postcard::from_bytes(&part.bytes).expect("a sound state");
            lie(dice, &mut state);
            part.bytes = postcard::to_stdvec(&state).expect("it can be encoded");
            if dice.one_in(4) {
                let exception = Exception {
                    tag: dice.nasty() as u32,
                    values: (0..dice.below(9)).map(|_| dice.value()).collect(),
                    referenced: true,
                };
                let all = vec![Some(exception).filter(|_| dice.one_in(2)); dice.below(3000)];
                let bytes = postcard::to_stdvec(&all).expect("it can be encoded");
                parts.push(Part {
                    id: EXCEPTIONS,
                    version: 1,
                    flags: 0,
                    bytes,
                    holes: 0,
                });
                let last = parts.len() - 1;
                parts.swap(2, last);
            }
            ("lies of the state", assemble(good, &parts, |_| {}))
        }
        14 => {
            let part = &mut parts[any];
            (part.version, part.flags) = (dice.nasty() as u32, dice.nasty() as u32);
            ("a section's version", assemble(good, &parts, |_| {}))
        }
        15 => {
            let at = dice.roll() as usize;
            let number = dice.nasty();
            let twist = |table: &mut Vec<u8>| {
                let at = at % (table.len() / 8) * 8;
                table[at..at + 8].copy_from_slice(&number.to_le_bytes());
            };
            ("the table of sections", assemble(good, &parts, twist))
        }
        16 => {
            let (a, b) = (any, dice.below(parts.len()));
            match dice.below(3) {
                0 => parts.swap(a, b),
                1 => drop(parts.remove(a)),
                _ => parts.insert(b, parts[a].clone()),
            }
            ("the sections", assemble(good, &parts, |_| {}))
        }
        // A count of things, and so many zeros that take no room.
        17 | 18 => {
            let mut count = Vec::new();
            let mut n = 1 + dice.roll() % (400 << 20);
            let holes = n * 5;
            while n >= 0x80 {
                count.push(n as u8 | 0x80);
                n >>= 7;
            }
            count.push(n as u8);
            let part = &mut parts[any];
            let keep = dice.below(part.bytes.len().min(300) + 1);
            part.bytes.truncate(keep);
            part.bytes.extend(count);
            // More would only make the checksums slow.
            part.holes = (dice.roll() % holes.max(1)).min(24 << 20);
            ("holes", assemble(good, &parts, |_| {}))
        }
        // Pages that are there, and take no room.
        _ => {
            let pages = 1 + dice.below(30_000) as u64;
            let mut index = Vec::new();
            index.extend(1u32.to_le_bytes());
            index.extend(1u32.to_le_bytes());
            index.extend((dice.nasty() % 3).to_le_bytes());
            index.extend(pages.to_le_bytes());
            let zero = 0xd797_8eeb_u32 ^ u32::from(dice.one_in(8));
            (0..pages).for_each(|_| index.extend(zero.to_le_bytes()));
            for part in &mut parts {
                match part.id {
                    PAGES => part.bytes = index.clone(),
                    DATA => (part.bytes, part.holes) = (Vec::new(), pages << 16),
                    STATE if dice.one_in(2) => {
                        let mut state: State = postcard::from_bytes(&part.bytes).expect("a sound state");
                        state.memories.iter_mut().for_each(|m| m.pages = 65_536);
                        part.bytes = postcard::to_stdvec(&state).expect("it can be encoded");
                    }
                    _ => {}
                }
            }
            let mut forged = assemble(good, &parts, |_| {});
            // The data must begin at a whole page; the assembler knows that only of data with bytes.
            realign(&mut forged);
            ("pages of holes", forged)
        }
    }
}

/// Puts the section of the pages, without bytes, at a whole page.
fn realign(forged: &mut Forged) {
    let head = forged
        .pieces
        .iter_mut()
        .find(|(at, _)| *at == 0)
        .map(|(_, bytes)| bytes)
        .expect("a head");
    let sections = (head.len() - 64) / 32;
    let Some(at) = (0..sections).map(|n| 64 + 32 * n).find(|&at| u32_at(head, at) == DATA) else {
        return;
    };
    // Whatever comes behind it is lost: it is a forgery.
    let offset = u64_at(head, at + 16).next_multiple_of(65_536);
    let len = u64_at(head, at + 24);
    head.truncate(at + 32);
    head[at + 16..at + 24].copy_from_slice(&offset.to_le_bytes());
    forged.len = offset + len;
    head[12..16].copy_from_slice(&(((at - 64) / 32 + 1) as u32).to_le_bytes());
    head[48..56].copy_from_slice(&forged.len.to_le_bytes());
    let table = crc32fast::hash(&head[64..]).to_le_bytes();
    head[56..60].copy_from_slice(&table);
    let own = crc32fast::hash(&head[..60]).to_le_bytes();
    head[60..64].copy_from_slice(&own);
}
