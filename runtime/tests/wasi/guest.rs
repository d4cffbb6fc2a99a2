//! A program without its code: memory, a WASI, and the calls it would make.

use dunlin_format::imports::PREVIEW1;
use dunlin_interface::options::{Grant, WasiConfig};
use dunlin_migrate::snapshot::{Contents, copy_chunk};
use dunlin_migrate::state::files::{Chunk, ContentHash, GrantMode};
use dunlin_migrate::state::wasi::WasiState;
use dunlin_runtime::os::wake::Wake;
use dunlin_runtime::wasi::{Outcome, Wasi, resolve};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

pub(crate) const BADF: u64 = 8;
pub(crate) const BUSY: u64 = 10;
pub(crate) const ACCES: u64 = 2;
pub(crate) const AGAIN: u64 = 6;
pub(crate) const EXIST: u64 = 20;
pub(crate) const FAULT: u64 = 21;
pub(crate) const ILSEQ: u64 = 25;
pub(crate) const INVAL: u64 = 28;
pub(crate) const ISDIR: u64 = 31;
pub(crate) const LOOP: u64 = 32;
pub(crate) const NAMETOOLONG: u64 = 37;
pub(crate) const NOENT: u64 = 44;
pub(crate) const NOTDIR: u64 = 54;
pub(crate) const NOTEMPTY: u64 = 55;
pub(crate) const NOTSOCK: u64 = 57;
pub(crate) const NOTSUP: u64 = 58;
pub(crate) const PERM: u64 = 63;
pub(crate) const SPIPE: u64 = 70;
pub(crate) const NOTCAPABLE: u64 = 76;

pub(crate) const CREAT: u64 = 1;
pub(crate) const DIRECTORY: u64 = 2;
pub(crate) const EXCL: u64 = 4;
pub(crate) const TRUNC: u64 = 8;

pub(crate) const READ: u64 = 1 << 1;
pub(crate) const WRITE: u64 = 1 << 6;

pub(crate) const APPEND: u64 = 1;
pub(crate) const NONBLOCK: u64 = 4;
pub(crate) const SYNC: u64 = 16;

/// The first granted directory's descriptor.
pub(crate) const ROOT: u64 = 3;

/// Where calls put their results, paths, buffer lists and data.
pub(crate) const OUT: u32 = 0;
pub(crate) const PATH: u32 = 0x1000;
pub(crate) const PATH2: u32 = 0x3000;
pub(crate) const IOV: u32 = 0x5000;
pub(crate) const DATA: u32 = 0x10000;

pub(crate) struct Guest {
    pub wasi: Wasi,
    pub memory: Vec<u8>,
    pub wake: Wake,
}

pub(crate) fn config(dirs: &[(&Path, &str)]) -> WasiConfig {
    let grants = dirs
        .iter()
        .map(|(host, guest)| Grant {
            host: host.to_path_buf(),
            guest: guest.to_string(),
            mode: GrantMode::Shared,
        })
        .collect();
    WasiConfig {
        args: vec!["prog".into(), "é x".into()],
        env: vec![("A".into(), "1".into())],
        grants,
        ..WasiConfig::default()
    }
}

/// One granted directory, `/`, whose files travel so.
pub(crate) fn carrying(dir: &Path, mode: GrantMode) -> WasiConfig {
    let mut config = config(&[(dir, "/")]);
    config.grants[0].mode = mode;
    config
}

/// The contents that a program carries, in memory: what a snapshot holds of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored(pub BTreeMap<ContentHash, Vec<u8>>);

impl Contents for Stored {
    fn copy(&self, chunk: &Chunk, out: &mut dyn Write) -> io::Result<bool> {
        let found = self.0.get(&chunk.hash);
        found.map_or(Ok(false), |bytes| out.write_all(bytes).map(|()| true))
    }
}

impl Guest {
    /// A program with one granted directory, `/`.
    pub(crate) fn new(dir: &Path) -> Guest {
        Guest::with(&config(&[(dir, "/")]))
    }

    pub(crate) fn with(config: &WasiConfig) -> Guest {
        Guest::of(Wasi::new(config).unwrap())
    }

    fn of(wasi: Wasi) -> Guest {
        Guest {
            wasi,
            memory: vec![0; 1 << 20],
            wake: Wake::new().unwrap(),
        }
    }

    /// The state as it travels.
    pub(crate) fn state(&self) -> WasiState {
        let state = self.wasi.capture().unwrap();
        let bytes = postcard::to_stdvec(&state).unwrap();
        let mut back: WasiState = postcard::from_bytes(&bytes).unwrap();
        // These have a section of their own.
        let bytes = postcard::to_stdvec(&state.files).unwrap();
        back.files = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(back, state);
        assert_eq!(state.files.check(state.grants.len()), Ok(()));
        back
    }

    /// The contents that go with a state of this program.
    pub(crate) fn stored(&self, state: &WasiState) -> Stored {
        let contents = self.wasi.contents(state);
        let mut stored = Stored::default();
        for chunk in &state.files.chunks {
            let mut bytes = Vec::new();
            copy_chunk(&contents, chunk, &mut bytes).unwrap();
            stored.0.insert(chunk.hash, bytes);
        }
        stored
    }

    /// Moves the program to a machine with these grants.
    pub(crate) fn moved(self, config: &WasiConfig) -> Guest {
        let state = self.state();
        let stored = self.stored(&state);
        let Guest { wasi, memory, .. } = self;
        drop(wasi);
        Guest {
            memory,
            ..Guest::of(Wasi::restore_with(&state, config, &stored).unwrap())
        }
    }

    /// Calls a function of preview1.
    pub(crate) fn outcome(&mut self, name: &str, args: &[u64]) -> Outcome {
        self.outcome_of(PREVIEW1, name, args)
    }

    pub(crate) fn outcome_of(&mut self, module: &str, name: &str, args: &[u64]) -> Outcome {
        let f = resolve(module, name).unwrap_or_else(|| panic!("no function {name}"));
        assert_eq!(
            dunlin_format::imports::signature(module, name).unwrap().params.len(),
            args.len(),
            "arguments of {name}"
        );
        self.wasi.call(f, args, &mut self.memory, &self.wake)
    }

    /// The errno of a call that returns.
    pub(crate) fn call(&mut self, name: &str, args: &[u64]) -> u64 {
        match self.outcome(name, args) {
            Outcome::Return(errno) => errno,
            other => panic!("{name}{args:?}: {other:?}"),
        }
    }

    pub(crate) fn bytes(&self, at: u32, len: u32) -> &[u8] {
        &self.memory[at as usize..(at + len) as usize]
    }

    pub(crate) fn u8(&self, at: u32) -> u8 {
        self.memory[at as usize]
    }

    pub(crate) fn u16(&self, at: u32) -> u16 {
        u16::from_le_bytes(self.bytes(at, 2).try_into().unwrap())
    }

    pub(crate) fn u32(&self, at: u32) -> u32 {
        u32::from_le_bytes(self.bytes(at, 4).try_into().unwrap())
    }

    pub(crate) fn u64(&self, at: u32) -> u64 {
        u64::from_le_bytes(self.bytes(at, 8).try_into().unwrap())
    }

    pub(crate) fn set(&mut self, at: u32, bytes: &[u8]) {
        self.memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    /// Puts a string into memory; returns its two arguments.
    pub(crate) fn string(&mut self, at: u32, s: impl AsRef<[u8]>) -> [u64; 2] {
        self.set(at, s.as_ref());
        [at.into(), s.as_ref().len() as u64]
    }

    /// Calls a function whose arguments are a directory and a path.
    pub(crate) fn path_call(&mut self, name: &str, dir: u64, path: impl AsRef<[u8]>) -> u64 {
        let [p, n] = self.string(PATH, path);
        self.call(name, &[dir, p, n])
    }

    /// `path_open`, following symbolic links.
    pub(crate) fn open(
        &mut self,
        dir: u64,
        path: impl AsRef<[u8]>,
        oflags: u64,
        rights: u64,
        fdflags: u64,
    ) -> Result<u64, u64> {
        self.open_with(dir, 1, path, oflags, rights, fdflags)
    }

    pub(crate) fn open_with(
        &mut self,
        dir: u64,
        lookup: u64,
        path: impl AsRef<[u8]>,
        oflags: u64,
        rights: u64,
        flags: u64,
    ) -> Result<u64, u64> {
        let [p, n] = self.string(PATH, path);
        match self.call("path_open", &[dir, lookup, p, n, oflags, rights, 0, flags, OUT.into()]) {
            0 => Ok(self.u32(OUT).into()),
            errno => Err(errno),
        }
    }

    /// One buffer for reading or writing; returns the arguments.
    pub(crate) fn buffer(&mut self, len: u32) -> [u64; 2] {
        self.set(IOV, &DATA.to_le_bytes());
        self.set(IOV + 4, &len.to_le_bytes());
        [IOV.into(), 1]
    }

    pub(crate) fn write(&mut self, fd: u64, bytes: &[u8]) -> Result<u32, u64> {
        self.set(DATA, bytes);
        let [iovs, count] = self.buffer(bytes.len() as u32);
        match self.call("fd_write", &[fd, iovs, count, OUT.into()]) {
            0 => Ok(self.u32(OUT)),
            errno => Err(errno),
        }
    }

    pub(crate) fn read(&mut self, fd: u64, len: u32) -> Result<Vec<u8>, u64> {
        let [iovs, count] = self.buffer(len);
        match self.call("fd_read", &[fd, iovs, count, OUT.into()]) {
            0 => Ok(self.bytes(DATA, self.u32(OUT)).to_vec()),
            errno => Err(errno),
        }
    }

    pub(crate) fn seek(&mut self, fd: u64, offset: i64, whence: u64) -> Result<u64, u64> {
        match self.call("fd_seek", &[fd, offset as u64, whence, OUT.into()]) {
            0 => Ok(self.u64(OUT)),
            errno => Err(errno),
        }
    }

    /// Inode, type and size of a path.
    pub(crate) fn stat(&mut self, dir: u64, follow: bool, path: impl AsRef<[u8]>) -> Result<(u64, u8, u64), u64> {
        let [p, n] = self.string(PATH, path);
        match self.call("path_filestat_get", &[dir, follow.into(), p, n, OUT.into()]) {
            0 => Ok((self.u64(OUT + 8), self.u8(OUT + 16), self.u64(OUT + 32))),
            errno => Err(errno),
        }
    }

    /// Rights and inherited rights of a descriptor.
    pub(crate) fn rights(&mut self, fd: u64) -> (u64, u64) {
        assert_eq!(self.call("fd_fdstat_get", &[fd, OUT.into()]), 0);
        (self.u64(OUT + 8), self.u64(OUT + 16))
    }

    /// One call of `fd_readdir`: cookies and names of the entries that fit whole, and whether the buffer was filled.
    pub(crate) fn readdir(&mut self, fd: u64, len: u32, cookie: u64) -> Result<(Vec<(u64, String)>, bool), u64> {
        match self.call("fd_readdir", &[fd, DATA.into(), len.into(), cookie, OUT.into()]) {
            0 => {}
            errno => return Err(errno),
        }
        let used = self.u32(OUT);
        let (mut entries, mut at) = (Vec::new(), 0);
        while at + 24 <= used && at + 24 + self.u32(DATA + at + 16) <= used {
            let name = self.bytes(DATA + at + 24, self.u32(DATA + at + 16));
            entries.push((self.u64(DATA + at), String::from_utf8_lossy(name).into_owned()));
            at += 24 + self.u32(DATA + at + 16);
        }
        Ok((entries, used == len))
    }

    /// Every name of a directory from a cookie on, through a buffer of `len` bytes.
    pub(crate) fn names(&mut self, fd: u64, len: u32, mut cookie: u64) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let (entries, more) = self.readdir(fd, len, cookie).unwrap();
            assert!(!(entries.is_empty() && more), "the buffer is too small for one entry");
            cookie = entries.last().map_or(cookie, |e| e.0);
            names.extend(entries.into_iter().map(|e| e.1));
            if !more {
                return names;
            }
        }
    }

    /// One subscription to a clock at `IOV`, preview1's layout.
    pub(crate) fn subscribe_clock(&mut self, at: u32, userdata: u64, clock: u32, timeout: u64, flags: u16) {
        self.set(at, &[0; 48]);
        self.set(at, &userdata.to_le_bytes());
        self.set(at + 16, &clock.to_le_bytes());
        self.set(at + 24, &timeout.to_le_bytes());
        self.set(at + 40, &flags.to_le_bytes());
    }

    /// One subscription to a descriptor, preview1's layout; `ty` 1 reads, 2 writes.
    pub(crate) fn subscribe_fd(&mut self, at: u32, userdata: u64, ty: u8, fd: u64) {
        self.set(at, &[0; 48]);
        self.set(at, &userdata.to_le_bytes());
        self.set(at + 8, &[ty]);
        self.set(at + 16, &(fd as u32).to_le_bytes());
    }

    pub(crate) fn poll(&mut self, count: u64) -> Outcome {
        self.outcome("poll_oneoff", &[IOV.into(), DATA.into(), count, OUT.into()])
    }

    pub(crate) fn monotonic(&mut self) -> u64 {
        assert_eq!(self.call("clock_time_get", &[1, 0, OUT.into()]), 0);
        self.u64(OUT)
    }
}
