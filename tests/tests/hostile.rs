//! Bad snapshots and bad circumstances: a clear error and exit code, never a crash, and never a lost snapshot.

use dunlin_format::arch::Arch;
use dunlin_format::point::{PointKind, Slot};
use dunlin_format::types::Value;
use dunlin_migrate::snapshot::open_file;
use dunlin_migrate::state::Invocation;
use dunlin_migrate::state::wasi::Resource;
use dunlin_tests::guest::{Guest, guest};
use dunlin_tests::process::Outcome;
use dunlin_tests::program::{BAD_SNAPSHOT, CHECKPOINTED, NOT_HERE, scratch};
use dunlin_tests::snapshots::{Loaded, load};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A guest stopped at a point, with its directory as it was then.
struct Stopped {
    guest: Arc<Guest>,
    data: Option<TempDir>,
    dir: TempDir,
    snapshot: PathBuf,
    rest: String,
}

fn stopped(name: &str, point: u64) -> Stopped {
    let guest = guest(name);
    let (data, dir) = (guest.data(), scratch());
    let snapshot = dir.path().join("good.snap");
    let first = guest
        .on(Arch::X86_64, data.as_ref())
        .stdin(guest.input())
        .stop_at(point, &snapshot)
        .output()
        .expect_code(CHECKPOINTED);
    let rest = guest
        .expected
        .stdout
        .strip_prefix(&first.out())
        .expect("what came first comes first")
        .to_owned();
    Stopped {
        guest,
        data,
        dir,
        snapshot,
        rest,
    }
}

impl Stopped {
    fn resume(&self, arch: Arch, snapshot: &Path) -> Outcome {
        self.guest
            .on(arch, self.data.as_ref())
            .resume(snapshot)
            .timeout(Duration::from_secs(60))
            .output()
    }

    /// A variant of the snapshot.
    fn variant(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).expect("scratch space is writable");
        path
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.snapshot).expect("the snapshot is readable")
    }
}

/// The program must have said no: by exit code, in words, and before it did anything.
#[track_caller]
fn refused(what: &str, outcome: &Outcome) {
    assert!(outcome.status.signal().is_none(), "{what}: crashed: {outcome}");
    assert!(!outcome.err().contains("panicked"), "{what}: panicked: {outcome}");
    // Or what it asks for isn't there: a forged name can't be told from one of another machine.
    assert!(matches!(outcome.code(), BAD_SNAPSHOT | NOT_HERE), "{what}: {outcome}");
    assert!(outcome.stdout.is_empty(), "{what}: it ran: {outcome}");
    assert!(outcome.err().trim().len() > 10, "{what}: no message: {outcome}");
}

/// Every byte that means something is under a checksum: a flip anywhere is noticed, or changes nothing.
#[test]
fn flipped_bits() {
    let s = stopped("tables", 40);
    let good = s.bytes();
    // All of the header, the table of sections and the state; samples of the pages.
    let state_end = 4096.min(good.len());
    let places = (0..state_end).step_by(5).chain((state_end..good.len()).step_by(2503));
    let mut refusals = 0;
    for (n, at) in places.enumerate() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (n % 8);
        let path = s.variant("flipped.snap", &bytes);
        let arch = if n % 16 == 0 { Arch::Aarch64 } else { Arch::X86_64 };
        let outcome = s.resume(arch, &path);
        if outcome.code() == 0 && outcome.out() == s.rest {
            // Padding between sections.
            continue;
        }
        refused(&format!("bit {} of byte {at}", n % 8), &outcome);
        refusals += 1;
    }
    assert!(refusals > 50, "only {refusals} were noticed");
}

#[test]
fn truncated_and_extended() {
    let s = stopped("tables", 40);
    let good = s.bytes();
    let lengths: Vec<usize> = [0, 1, 7, 8, 63, 64, 65, 95, 96, 160]
        .into_iter()
        .chain((200..good.len()).step_by(good.len() / 40))
        .collect();
    for len in lengths {
        for arch in if len % 3 == 0 { &Arch::ALL[..] } else { &Arch::ALL[..1] } {
            refused(
                &format!("the first {len} bytes"),
                &s.resume(*arch, &s.variant("short.snap", &good[..len])),
            );
        }
    }
    let mut more = good.clone();
    more.push(0);
    refused(
        "a byte too many",
        &s.resume(Arch::X86_64, &s.variant("long.snap", &more)),
    );
    more.extend_from_slice(&good);
    refused("twice", &s.resume(Arch::X86_64, &s.variant("twice.snap", &more)));
    refused(
        "text",
        &s.resume(
            Arch::X86_64,
            &s.variant("text.snap", b"this is not a snapshot at all\n".repeat(100).as_slice()),
        ),
    );
    refused(
        "zeros",
        &s.resume(Arch::X86_64, &s.variant("zeros.snap", &[0; 100_000])),
    );
}

#[test]
fn not_a_file() {
    let s = stopped("tables", 40);
    for (what, path) in [
        ("nothing", s.dir.path().join("nothing")),
        ("a directory", s.dir.path().to_owned()),
        ("a device", "/dev/null".into()),
    ] {
        for arch in Arch::ALL {
            let outcome = s.resume(arch, &path);
            assert!(
                outcome.status.signal().is_none() && matches!(outcome.code(), 86 | 87),
                "{what}: {outcome}"
            );
            assert!(
                outcome.err().contains(path.to_str().unwrap()),
                "{what}: the message must name the file: {outcome}"
            );
        }
    }
}

#[test]
fn another_programs_snapshot() {
    let (s, other) = (stopped("tables", 40), stopped("globals", 40));
    for arch in Arch::ALL {
        let outcome = s.resume(arch, &other.snapshot);
        refused("another program's snapshot", &outcome);
        assert!(
            outcome.err().contains("another") || outcome.err().contains("module"),
            "{outcome}"
        );
    }
}

#[test]
fn missing_grants_and_files() {
    let s = stopped("file_offset", 60);
    for arch in Arch::ALL {
        let without = s.guest.program.on(arch).resume(&s.snapshot).output();
        refused("no grant", &without);
        assert!(
            without.err().contains("/data"),
            "the message must name the grant: {without}"
        );
        let data = s.data.as_ref().unwrap().path();
        let elsewhere = s
            .guest
            .program
            .on(arch)
            .dir(data, "/other")
            .resume(&s.snapshot)
            .output();
        refused("the grant under another name", &elsewhere);
        let empty = scratch();
        let outcome = s
            .guest
            .program
            .on(arch)
            .dir(empty.path(), "/data")
            .resume(&s.snapshot)
            .output();
        refused("a directory without the file", &outcome);
        assert!(
            outcome.err().contains("log"),
            "the message must name the file: {outcome}"
        );
        // A symbolic link out of the grant in the file's place must not be followed.
        let trap = scratch();
        std::os::unix::fs::symlink(data.join("log"), trap.path().join("log")).unwrap();
        refused(
            "a link out of the grant",
            &s.guest
                .program
                .on(arch)
                .dir(trap.path(), "/data")
                .resume(&s.snapshot)
                .output(),
        );
        // A directory in its place.
        let dir = scratch();
        std::fs::create_dir(dir.path().join("log")).unwrap();
        refused(
            "a directory in its place",
            &s.guest
                .program
                .on(arch)
                .dir(dir.path(), "/data")
                .resume(&s.snapshot)
                .output(),
        );
    }
    // With everything in place it goes on.
    assert_eq!(s.resume(Arch::Aarch64, &s.snapshot).expect_code(0).out(), s.rest);
}

/// What is not granted is told before pages are read, of which there may be gigabytes: so nothing is said of one that
/// is damaged.
#[test]
fn grants_come_before_pages() {
    let s = stopped("file_offset", 60);
    let page = open_file(&s.snapshot)
        .unwrap()
        .runs()
        .next()
        .expect("a page is stored")
        .offset;
    let mut bytes = s.bytes();
    bytes[page as usize] ^= 1;
    let damaged = s.variant("damaged", &bytes);
    for arch in Arch::ALL {
        let without = s.guest.program.on(arch).resume(&damaged).output().expect_code(NOT_HERE);
        assert!(
            without.err().contains("/data") && !without.err().contains("checksum"),
            "{without}"
        );
        let with = s.resume(arch, &damaged).expect_code(BAD_SNAPSHOT);
        assert!(with.err().contains("checksum"), "{with}");
    }
}

/// Well-formed files that lie. Each must be refused.
#[test]
fn lies_about_the_instance() {
    // The first point from here on that lies in some call.
    let deep = (40..80)
        .map(|point| stopped("tables", point))
        .find(|s| load(&s.snapshot).state.frames.len() > 2);
    let s = deep.expect("deep enough to be interesting");
    let good = load(&s.snapshot);
    let lie = |what: &str, change: &dyn Fn(&mut Loaded)| {
        let mut forged = good.clone();
        change(&mut forged);
        assert!(forged != good, "{what} changes nothing");
        let path = s.dir.path().join("forged.snap");
        forged.store(&path);
        refused(what, &s.resume(Arch::X86_64, &path));
        if what.len().is_multiple_of(4) {
            refused(what, &s.resume(Arch::Aarch64, &path));
        }
    };
    let last = good.state.frames.len() - 1;
    lie("no frames", &|l| l.state.frames.clear());
    lie("an unknown function", &|l| l.state.frames[last].func = 1000);
    lie("the greatest function index", &|l| l.state.frames[0].func = u32::MAX);
    lie("another function", &|l| l.state.frames[last].func ^= 1);
    lie("no such point", &|l| l.state.frames[last].offset += 1);
    lie("offset 0", &|l| l.state.frames[1].offset = 0);
    lie("the greatest offset", &|l| l.state.frames[0].offset = u32::MAX);
    lie("another frame's point", &|l| {
        l.state.frames[last].offset = l.state.frames[0].offset
    });
    for kind in [PointKind::Call, PointKind::Loop, PointKind::Entry, PointKind::Host] {
        if kind != good.state.frames[last].kind {
            lie(&format!("the innermost frame is a {kind:?}"), &|l| {
                l.state.frames[last].kind = kind
            });
        }
        if kind != good.state.frames[0].kind {
            lie(&format!("the outermost frame is a {kind:?}"), &|l| {
                l.state.frames[0].kind = kind
            });
        }
    }
    lie("the innermost frame is missing", &|l| drop(l.state.frames.pop()));
    lie("the outermost frame is missing", &|l| drop(l.state.frames.remove(0)));
    lie("a frame twice", &|l| {
        let frame = l.state.frames[0].clone();
        l.state.frames.insert(0, frame);
    });
    lie("the innermost frame 100000 times", &|l| {
        let frame = l.state.frames[last].clone();
        l.state.frames.extend(vec![frame; 100_000]);
    });
    lie("frames in reverse", &|l| l.state.frames.reverse());
    let busy = good
        .state
        .frames
        .iter()
        .position(|f| !f.values.is_empty())
        .expect("a frame with live values");
    lie("a live value is missing", &|l| {
        l.state.frames[busy].values.pop();
    });
    lie("a value of another type", &|l| {
        let value = &mut l.state.frames[busy].values[0].1;
        *value = if matches!(value, Value::F32(_)) {
            Value::I64(0)
        } else {
            Value::F32(0)
        };
    });
    lie("a value in another slot", &|l| {
        l.state.frames[busy].values[0].0 = Slot::Local(77_777)
    });
    lie("a vector", &|l| l.state.frames[busy].values[0].1 = Value::V128(1));
    lie("a value twice", &|l| {
        let value = l.state.frames[busy].values[0];
        l.state.frames[busy].values.push(value);
    });
    lie("a global is missing", &|l| {
        l.state.globals.pop();
    });
    lie("a global too many", &|l| l.state.globals.push(Value::I32(0)));
    lie("a global of another type", &|l| l.state.globals[0] = Value::F64(0));
    lie("no memory", &|l| {
        l.state.memories.clear();
        l.memories.clear();
    });
    lie("a memory too many", &|l| {
        let more = l.state.memories[0].clone();
        l.state.memories.push(more);
        l.memories.push(vec![0; l.memories[0].len()]);
    });
    lie("a smaller memory than the module's", &|l| {
        l.state.memories[0].pages = 1;
        l.memories[0].truncate(1 << 16);
    });
    lie("a table entry out of range", &|l| {
        l.state.tables[0].elements[1] = Some(1000)
    });
    lie("the greatest table entry", &|l| {
        l.state.tables[0].elements[1] = Some(u32::MAX - 1)
    });
    lie("a shorter table than the module's", &|l| {
        l.state.tables[0].elements.truncate(3)
    });
    lie("a longer table than allowed", &|l| {
        l.state.tables[0].elements.resize(1000, None)
    });
    lie("no table", &|l| l.state.tables.clear());
    lie("a table too many", &|l| {
        let more = l.state.tables[0].clone();
        l.state.tables.push(more);
    });
    lie("dropped segments of another number", &|l| {
        l.state.dropped_elements.push(true)
    });
    lie("dropped data of another number", &|l| l.state.dropped_data.push(true));
    lie("an export that isn't there", &|l| {
        l.state.invocation = Invocation::Export("nothing".into())
    });
    lie("a start function that isn't there", &|l| {
        l.state.invocation = Invocation::Start
    });
}

/// A memory size that the file claims, but whose pages nobody has to store.
#[test]
fn huge_memories() {
    let s = stopped("tables", 40);
    let good = load(&s.snapshot);
    for pages in [65_537, 1 << 32, 1 << 48, u64::MAX] {
        let mut forged = good.clone();
        forged.state.memories[0].pages = pages;
        // The writer wants bytes for all pages: encode the section by hand around it.
        let path = s.dir.path().join("huge.snap");
        if forge_state(&s.bytes(), &forged, &path) {
            refused(&format!("{pages} pages"), &s.resume(Arch::X86_64, &path));
            refused(&format!("{pages} pages"), &s.resume(Arch::Aarch64, &path));
        } else {
            panic!("the state section could not be replaced");
        }
    }
}

/// Replaces the state section of a good snapshot, with checksums and offsets made right.
fn forge_state(good: &[u8], forged: &Loaded, path: &Path) -> bool {
    let u32_at = |b: &[u8], at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap());
    let u64_at = |b: &[u8], at: usize| u64::from_le_bytes(b[at..at + 8].try_into().unwrap());
    let state = postcard::to_stdvec(&forged.state).expect("a state can be encoded");
    let mut bytes = good.to_vec();
    let sections = u32_at(good, 12) as usize;
    let entry = |i: usize| 64 + 32 * i;
    let Some(first) = (0..sections).find(|&i| u32_at(good, entry(i)) == 1) else {
        return false;
    };
    let (offset, old) = (
        u64_at(good, entry(first) + 16) as usize,
        u64_at(good, entry(first) + 24) as usize,
    );
    // What follows up to the aligned data has room to move in the padding.
    let after: Vec<usize> = (0..sections).filter(|&i| i != first).collect();
    let data = after
        .iter()
        .map(|&i| u64_at(good, entry(i) + 16) as usize)
        .max()
        .unwrap_or(0);
    let grow = state.len() as isize - old as isize;
    let mut end = offset + state.len();
    bytes[offset..data].fill(0);
    bytes[offset..end].copy_from_slice(&state);
    for &i in &after {
        let (at, len) = (
            u64_at(good, entry(i) + 16) as usize,
            u64_at(good, entry(i) + 24) as usize,
        );
        if at == data {
            continue;
        }
        let to = (at as isize + grow + 15) as usize / 16 * 16;
        bytes[to..to + len].copy_from_slice(&good[at..at + len]);
        bytes[entry(i) + 16..entry(i) + 24].copy_from_slice(&(to as u64).to_le_bytes());
        end = end.max(to + len);
    }
    if end > data {
        return false;
    }
    bytes[entry(first) + 24..entry(first) + 32].copy_from_slice(&(state.len() as u64).to_le_bytes());
    bytes[entry(first) + 12..entry(first) + 16].copy_from_slice(&crc32fast::hash(&state).to_le_bytes());
    let table = crc32fast::hash(&bytes[64..entry(sections)]);
    bytes[56..60].copy_from_slice(&table.to_le_bytes());
    let header = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&header.to_le_bytes());
    std::fs::write(path, bytes).expect("scratch space is writable");
    true
}

#[test]
fn lies_about_the_host() {
    // Half-read directory, and files with holes in the numbering.
    let s = stopped("many_files", 300);
    let good = load(&s.snapshot);
    let lie = |what: &str, change: &dyn Fn(&mut Loaded)| {
        let mut forged = good.clone();
        change(&mut forged);
        assert!(forged != good, "{what} changes nothing");
        let path = s.dir.path().join("forged.snap");
        forged.store(&path);
        refused(what, &s.resume(Arch::X86_64, &path));
        if what.len().is_multiple_of(4) {
            refused(what, &s.resume(Arch::Aarch64, &path));
        }
    };
    let file = good
        .state
        .wasi
        .descriptors
        .iter()
        .position(|d| matches!(d.resource, Resource::File { .. }))
        .expect("an open file");
    let set_path = |to: &str| {
        let to = to.to_owned();
        move |l: &mut Loaded| {
            if let Resource::File { path, .. } = &mut l.state.wasi.descriptors[file].resource {
                *path = to.clone();
            }
        }
    };
    for path in [
        "../f0",
        "/etc/passwd",
        "..",
        ".",
        "",
        "f0/",
        "x/../f0",
        "./f0",
        "f0\0",
        "nothing",
        "a//b",
        "/",
    ] {
        lie(&format!("the path {path:?}"), &set_path(path));
    }
    lie("a grant out of range", &|l| {
        if let Resource::File { grant, .. } = &mut l.state.wasi.descriptors[file].resource {
            *grant = 7;
        }
    });
    lie("no grants at all", &|l| l.state.wasi.grants.clear());
    lie("a grant that isn't given", &|l| l.state.wasi.grants[0] = "/etc".into());
    lie("a descriptor twice", &|l| {
        let again = l.state.wasi.descriptors[file].clone();
        l.state.wasi.descriptors.insert(file, again);
    });
    lie("the greatest descriptor", &|l| {
        l.state.wasi.descriptors.last_mut().unwrap().fd = u32::MAX
    });
    lie("unknown flags", &|l| l.state.wasi.descriptors[file].flags = 0x8000);
    lie("an offset out of range", &|l| {
        if let Resource::File { offset, .. } = &mut l.state.wasi.descriptors[file].resource {
            *offset = u64::MAX;
        }
    });
    lie("a file as a directory", &|l| {
        l.state.wasi.descriptors[file].resource = Resource::Directory {
            grant: 0,
            path: "f0".into(),
            preopened: false,
            listing: None,
        }
    });
    lie("a directory as a file", &|l| {
        l.state.wasi.descriptors[file].resource = Resource::File {
            grant: 0,
            path: "".into(),
            offset: 0,
            size: 0,
        }
    });
}

/// Values are the program's own business: any value of the right type is taken, and nothing native may break.
#[test]
fn wild_values_of_the_right_type() {
    let s = stopped("deep_recursion", 100);
    let good = load(&s.snapshot);
    for n in 0..40_u64 {
        let mut forged = good.clone();
        let mut x = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        for frame in &mut forged.state.frames {
            for (_, value) in &mut frame.values {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                if x.is_multiple_of(5) {
                    *value = Value::from_bits(value.ty(), x as u128);
                }
            }
        }
        let path = s.dir.path().join("wild.snap");
        forged.store(&path);
        let outcome = s.resume(Arch::X86_64, &path);
        assert!(outcome.status.signal().is_none(), "crashed: {outcome}");
        assert!(!outcome.err().contains("panicked"), "panicked: {outcome}");
    }
}

#[test]
fn a_disk_that_fills_up_leaves_the_old_snapshot() {
    for arch in Arch::ALL {
        let guest = guest("malloc_heavy");
        let dir = scratch();
        let snapshot = dir.path().join("state.snap");
        guest
            .on(arch, None)
            .stop_at(200, &snapshot)
            .output()
            .expect_code(CHECKPOINTED);
        let before = std::fs::read(&snapshot).unwrap();
        // Files may grow to 8 blocks only; the signal for more is ignored, so that writing fails as on a full disk. The
        // snapshot is given as a target to write to and as the one to go on from.
        let outcome = guest
            .on(arch, None)
            .resume(&snapshot)
            .stop_at(200, &snapshot)
            .through_shell("trap '' XFSZ; ulimit -f 8; exec \"$@\"")
            .output();
        assert!(outcome.status.signal().is_none(), "{outcome}");
        assert_ne!(outcome.code(), CHECKPOINTED, "{outcome}");
        assert!(
            outcome.err().contains("state.snap"),
            "the message must name the file: {outcome}"
        );
        assert!(std::fs::read(&snapshot).unwrap() == before, "the old snapshot was lost");
        let left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["state.snap"], "temporary files are left");
        // And the old one still works.
        guest.on(arch, None).resume(&snapshot).output().expect_code(0);
    }
}

#[test]
fn an_unwritable_target() {
    let guest = guest("tables");
    let dir = scratch();
    for target in [
        dir.path().join("no/such/dir/x.snap"),
        dir.path().to_owned(),
        "/dev/full".into(),
    ] {
        let outcome = guest.on(Arch::X86_64, None).stop_at(40, &target).output();
        assert!(outcome.status.signal().is_none(), "{outcome}");
        assert_ne!(outcome.code(), CHECKPOINTED, "{outcome}");
        assert!(
            outcome.err().contains(target.to_str().unwrap()),
            "the message must name the file: {outcome}"
        );
    }
}
