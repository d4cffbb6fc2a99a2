//! Imported functions by name, and the call of one with its arguments from the slots.

use crate::os::wake::Wake;
use crate::wasi::calls::open::Open;
use crate::wasi::mem::Memory;
use crate::wasi::wait::Stop;
use crate::wasi::{Outcome, Wasi};
use dunlin_format::imports::{PREVIEW1, SPECTEST, UNSTABLE};

/// Which of WASI's two layouts a function uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::wasi) enum Abi {
    /// `wasi_snapshot_preview1`.
    Preview1,
    /// `wasi_unstable`.
    Unstable,
}

/// A function that programs may import. Get one by [`resolve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WasiFunc {
    name: Function,
    abi: Abi,
}

macro_rules! names {
    ($($variant:ident = $name:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(in crate::wasi) enum Function {
            $($variant,)*
            /// Any of the test suite's print functions, which print nothing: no test looks at it.
            Print,
        }

        impl Function {
            fn from_str(name: &str) -> Option<Function> {
                match name {
                    $($name => Some(Function::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

names! {
    ArgsGet = "args_get",
    ArgsSizesGet = "args_sizes_get",
    ClockResGet = "clock_res_get",
    ClockTimeGet = "clock_time_get",
    EnvironGet = "environ_get",
    EnvironSizesGet = "environ_sizes_get",
    FdAdvise = "fd_advise",
    FdAllocate = "fd_allocate",
    FdClose = "fd_close",
    FdDatasync = "fd_datasync",
    FdFdstatGet = "fd_fdstat_get",
    FdFdstatSetFlags = "fd_fdstat_set_flags",
    FdFdstatSetRights = "fd_fdstat_set_rights",
    FdFilestatGet = "fd_filestat_get",
    FdFilestatSetSize = "fd_filestat_set_size",
    FdFilestatSetTimes = "fd_filestat_set_times",
    FdPread = "fd_pread",
    FdPrestatDirName = "fd_prestat_dir_name",
    FdPrestatGet = "fd_prestat_get",
    FdPwrite = "fd_pwrite",
    FdRead = "fd_read",
    FdReaddir = "fd_readdir",
    FdRenumber = "fd_renumber",
    FdSeek = "fd_seek",
    FdSync = "fd_sync",
    FdTell = "fd_tell",
    FdWrite = "fd_write",
    PathCreateDirectory = "path_create_directory",
    PathFilestatGet = "path_filestat_get",
    PathFilestatSetTimes = "path_filestat_set_times",
    PathLink = "path_link",
    PathOpen = "path_open",
    PathReadlink = "path_readlink",
    PathRemoveDirectory = "path_remove_directory",
    PathRename = "path_rename",
    PathSymlink = "path_symlink",
    PathUnlinkFile = "path_unlink_file",
    PollOneoff = "poll_oneoff",
    ProcExit = "proc_exit",
    ProcRaise = "proc_raise",
    RandomGet = "random_get",
    SchedYield = "sched_yield",
    SockAccept = "sock_accept",
    SockRecv = "sock_recv",
    SockSend = "sock_send",
    SockShutdown = "sock_shutdown",
}

/// The function that an import names; `Some` for everything that [`dunlin_format::imports::signature`] knows.
pub fn resolve(module: &str, name: &str) -> Option<WasiFunc> {
    dunlin_format::imports::signature(module, name)?;
    let (name, abi) = match module {
        PREVIEW1 => (Function::from_str(name)?, Abi::Preview1),
        UNSTABLE => (Function::from_str(name)?, Abi::Unstable),
        SPECTEST => (Function::Print, Abi::Preview1),
        _ => return None,
    };
    Some(WasiFunc { name, abi })
}

/// Arguments as the slots hold them. The compiler has checked the import's type, so there are as many as the function
/// has.
pub(in crate::wasi) struct Args<'a>(&'a [u64]);

impl Args<'_> {
    pub(in crate::wasi) fn long(&self, i: usize) -> u64 {
        self.0.get(i).copied().unwrap_or(0)
    }

    pub(in crate::wasi) fn int(&self, i: usize) -> u32 {
        self.long(i) as u32
    }

    pub(in crate::wasi) fn pair(&self, i: usize) -> (u32, u32) {
        (self.int(i), self.int(i + 1))
    }
}

impl Wasi {
    /// Calls a function.
    ///
    /// `args` are the arguments as the slots hold them, one each; `memory` is linear memory 0 at its present size.
    /// Functions that block wait for `wake` too.
    pub fn call(&mut self, f: WasiFunc, args: &[u64], memory: &mut [u8], wake: &Wake) -> Outcome {
        let (a, m, abi) = (Args(args), &mut Memory::new(memory), f.abi);
        // The start of an undone poll belongs to the next poll, if that is the next call; it is, unless someone else is
        // at work.
        if f.name != Function::PollOneoff {
            self.poll_started = None;
        }
        if let Err(errno) = self.refuse_hidden(f.name, &a, m) {
            return Outcome::Return(errno as u64);
        }
        let watch = self.touched.wanted().then(|| self.before_call(f.name, &a, m));
        let done = match f.name {
            Function::ArgsGet => self.args_get(m, a.int(0), a.int(1)),
            Function::ArgsSizesGet => self.args_sizes_get(m, a.int(0), a.int(1)),
            Function::ClockResGet => self.clock_res_get(m, a.int(0), a.int(1)),
            Function::ClockTimeGet => self.clock_time_get(m, a.int(0), a.int(2)),
            Function::EnvironGet => self.environ_get(m, a.int(0), a.int(1)),
            Function::EnvironSizesGet => self.environ_sizes_get(m, a.int(0), a.int(1)),
            Function::FdAdvise => self.fd_advise(a.int(0), a.long(1), a.long(2), a.int(3)),
            Function::FdAllocate => self.fd_allocate(a.int(0), a.long(1), a.long(2)),
            Function::FdClose => self.fd_close(a.int(0)),
            Function::FdDatasync => self.fd_sync(a.int(0), true),
            Function::FdFdstatGet => self.fd_fdstat_get(m, a.int(0), a.int(1)),
            Function::FdFdstatSetFlags => self.fd_fdstat_set_flags(a.int(0), a.int(1)),
            Function::FdFdstatSetRights => self.fd_fdstat_set_rights(a.int(0), a.long(1), a.long(2)),
            Function::FdFilestatGet => self.fd_filestat_get(m, abi, a.int(0), a.int(1)),
            Function::FdFilestatSetSize => self.fd_filestat_set_size(a.int(0), a.long(1)),
            Function::FdFilestatSetTimes => self.fd_filestat_set_times(a.int(0), a.long(1), a.long(2), a.int(3)),
            Function::FdPread => self.fd_pread(m, a.int(0), a.int(1), a.int(2), a.long(3), a.int(4)),
            Function::FdPrestatDirName => self.fd_prestat_dir_name(m, a.int(0), a.int(1), a.int(2)),
            Function::FdPrestatGet => self.fd_prestat_get(m, a.int(0), a.int(1)),
            Function::FdPwrite => self.fd_pwrite(m, a.int(0), a.int(1), a.int(2), a.long(3), a.int(4)),
            Function::FdRead => self.fd_read(m, wake, a.int(0), a.int(1), a.int(2), a.int(3)),
            Function::FdReaddir => self.fd_readdir(m, a.int(0), a.int(1), a.int(2), a.long(3), a.int(4)),
            Function::FdRenumber => self.fd_renumber(a.int(0), a.int(1)),
            Function::FdSeek => self.fd_seek(m, abi, a.int(0), a.long(1), a.int(2), a.int(3)),
            Function::FdSync => self.fd_sync(a.int(0), false),
            Function::FdTell => self.fd_tell(m, a.int(0), a.int(1)),
            Function::FdWrite => self.fd_write(m, wake, a.int(0), a.int(1), a.int(2), a.int(3)),
            Function::PathCreateDirectory => self.path_create_directory(m, a.int(0), a.pair(1)),
            Function::PathFilestatGet => self.path_filestat_get(m, abi, a.int(0), a.int(1), a.pair(2), a.int(4)),
            Function::PathFilestatSetTimes => {
                self.path_filestat_set_times(m, a.int(0), a.int(1), a.pair(2), (a.long(4), a.long(5)), a.int(6))
            }
            Function::PathLink => self.path_link(m, a.int(0), a.int(1), a.pair(2), a.int(4), a.pair(5)),
            Function::PathOpen => {
                let (lookup, path, oflags, rights) = (a.int(1), a.pair(2), a.int(4), a.long(5));
                self.path_open(
                    m,
                    a.int(0),
                    &Open {
                        lookup,
                        path,
                        oflags,
                        rights,
                        fdflags: a.int(7),
                        out: a.int(8),
                    },
                )
            }
            Function::PathReadlink => self.path_readlink(m, a.int(0), a.pair(1), a.pair(3), a.int(5)),
            Function::PathRemoveDirectory => self.path_remove_directory(m, a.int(0), a.pair(1)),
            Function::PathRename => self.path_rename(m, a.int(0), a.pair(1), a.int(3), a.pair(4)),
            Function::PathSymlink => self.path_symlink(m, a.pair(0), a.int(2), a.pair(3)),
            Function::PathUnlinkFile => self.path_unlink_file(m, a.int(0), a.pair(1)),
            Function::PollOneoff => self.poll_oneoff(m, wake, abi, a.int(0), a.int(1), a.pair(2)),
            Function::ProcExit => return Outcome::Exit(a.int(0)),
            Function::ProcRaise => match self.proc_raise(a.int(0)) {
                Ok(done) => done,
                Err(message) => return Outcome::Trap(message),
            },
            Function::RandomGet => self.random_get(m, wake, a.int(0), a.int(1)),
            Function::SchedYield => self.sched_yield(),
            Function::SockAccept => self.sock_accept(m, wake, a.int(0), a.int(1), a.int(2)),
            Function::SockRecv => self.sock_recv(m, wake, a.int(0), a.pair(1), a.int(3), a.pair(4)),
            Function::SockSend => self.sock_send(m, wake, a.int(0), a.pair(1), a.int(3), a.int(4)),
            Function::SockShutdown => self.sock_shutdown(a.int(0), a.int(1)),
            Function::Print => return Outcome::ReturnNothing,
        };
        if let Some(watch) = watch {
            self.after_call(watch, done.is_ok(), m);
        }
        self.undone = match done {
            Err(Stop::Interrupted) => self.undone.saturating_add(1),
            _ => 0,
        };
        match done {
            Ok(()) => Outcome::Return(0),
            Err(Stop::Errno(errno)) => Outcome::Return(errno as u64),
            Err(Stop::Interrupted) => Outcome::Interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_may_be_imported_is_there() {
        let all: std::collections::HashSet<_> = dunlin_format::imports::all()
            .map(|(m, n)| resolve(m, n).expect(n))
            .collect();
        // The seven print functions are one.
        assert_eq!(all.len(), 46 + 45 + 1);
        assert_eq!(resolve(PREVIEW1, "fd_dup"), None);
        assert_eq!(resolve(UNSTABLE, "sock_accept"), None);
    }
}
