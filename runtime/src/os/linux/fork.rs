//! Other processes: commands ([`Command`]), and above all a copy of this one that does one thing and ends. The memory
//! that it sees stays as it was, while the program runs on.
//!
//! The copy has the calling thread only. What it may use is what the C library promises to keep working in the child of
//! a process with threads (allocation is: glibc takes its locks around `fork`), and nothing that another thread may
//! have held locked.

use super::signals::with_signals_blocked;
use rustix::event::{PollFd, PollFlags, poll};
pub use rustix::process::Pid;
use rustix::process::{Signal, WaitOptions, WaitStatus, getpid, getppid, set_parent_process_death_signal, waitpid};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

/// Process ids of the copies that are at work and may be killed by [`kill_copies`], or 0.
static COPIES: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];

/// Ends the copies that are at work, those that may be killed (they have memory mapped from a snapshot), and returns
/// when they are dead; their parent finds out as it would of any other end. For a signal handler.
pub(super) fn kill_copies() {
    COPIES.iter().for_each(|copy| kill_copy(copy.load(SeqCst)));
}

fn kill_copy(pid: i32) {
    if pid <= 0 {
        return;
    }
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the process is a child that has not been reaped (see `reap`); both calls are async-signal-safe, and
    // `info` is written only.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        let options = libc::WEXITED | libc::WNOWAIT;
        while libc::waitid(libc::P_PID, pid as libc::id_t, info.as_mut_ptr(), options) != 0 && errno() == libc::EINTR {}
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Ends a copy at once. It must not have been reaped: its number may be another's then.
pub fn kill(copy: Pid) {
    let _ = rustix::process::kill_process(copy, Signal::KILL);
}

/// The copy, as its parent sees it.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    result: File,
}

/// Runs `work` in a copy of this process. What it returns comes from [`Child::result`]. With `killable`,
/// [`kill_copies`] ends it. Only the program's thread makes copies.
pub fn fork(killable: bool, work: impl FnOnce() -> Vec<u8>) -> io::Result<Child> {
    let slot = COPIES.iter().find(|copy| copy.load(SeqCst) == 0);
    let slot = slot.ok_or_else(|| io::Error::other("there are too many copies of the process"))?;
    let (result, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let parent = getpid();
    // The copy keeps them blocked: signals are its parent's business, and a file that grows too long is an error of the
    // write.
    let pid = with_signals_blocked(|| {
        // SAFETY: the child uses only what the module's comment allows, and leaves by `_exit`.
        match unsafe { libc::fork() } {
            0 => {
                let done = in_child(parent, work, File::from(write));
                // SAFETY: ends the process at once, without the parent's exit handlers.
                unsafe { libc::_exit(i32::from(done.is_err())) }
            }
            pid => {
                if killable {
                    slot.store(pid.max(0), SeqCst);
                }
                Pid::from_raw(pid)
            }
        }
    });
    match pid {
        Some(pid) => Ok(Child {
            pid,
            result: result.into(),
        }),
        None => Err(io::Error::last_os_error()),
    }
}

fn in_child(parent: Pid, work: impl FnOnce() -> Vec<u8>, mut write: File) -> io::Result<()> {
    // A killed program takes its copy with it: whoever starts it again shall find nobody at work.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(parent) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    // The program goes first, and where memory is short it is the copy that has to go. (Without `/proc` that can't be
    // said.)
    let _ = rustix::process::nice(5);
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    write.write_all(&work())
}

impl Child {
    /// Its process id, valid until [`Child::reap`].
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until its work is done, or until the other end of a connection is closed; tells whether it is done.
    pub fn is_done_before_end_of(&self, connection: impl AsFd) -> io::Result<bool> {
        let mut fds = [
            PollFd::new(&self.result, PollFlags::IN),
            PollFd::new(&connection, PollFlags::empty()),
        ];
        while let Err(e) = poll(&mut fds, None) {
            if e != rustix::io::Errno::INTR {
                return Err(e.into());
            }
        }
        Ok(!fds[0].revents().is_empty())
    }

    /// Waits until its work is done, and gives what that returned.
    pub fn result(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.result.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Waits for its end, which comes soon after its result; an error if it ended before.
    pub fn reap(self) -> io::Result<()> {
        // It is done, or dead. From here on its number may become another's.
        let pid = self.pid.as_raw_nonzero().get();
        for copy in &COPIES {
            let _ = copy.compare_exchange(pid, 0, SeqCst, SeqCst);
        }
        let status = loop {
            match waitpid(Some(self.pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => break status,
                Ok(None) | Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            }
        };
        match status.exit_status() {
            Some(0) => Ok(()),
            _ => Err(io::Error::other(ended(status))),
        }
    }
}

fn ended(status: WaitStatus) -> String {
    match status.terminating_signal() {
        Some(9) => "the process that wrote it was killed (signal 9), perhaps because memory was short".into(),
        Some(signal) => format!("the process that wrote it was ended by signal {signal}"),
        None => "the process that wrote it failed".into(),
    }
}

/// A command that this process has started, in a process group of its own. (The standard library's would add a fortieth
/// to every executable.)
#[derive(Debug)]
pub(crate) struct Command(Pid);

impl Command {
    /// Starts a command that is looked for on the `PATH`, without input and with standard error only, with the
    /// environment of this process but for some variables.
    pub(crate) fn start(words: &[CString], without: &[&str]) -> io::Result<Command> {
        let kept = std::env::vars_os().filter(|(name, _)| without.iter().all(|w| name != *w));
        let variables: Vec<CString> = kept
            .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
            .collect();
        let pointers = |strings: &[CString]| -> Vec<*mut libc::c_char> {
            let pointers = strings.iter().map(|s| s.as_ptr().cast_mut());
            pointers.chain([std::ptr::null_mut()]).collect()
        };
        let (argv, envp) = (pointers(words), pointers(&variables));
        let Some(program) = words.first() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let flags = libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGMASK;
        let (mut pid, null) = (0, c"/dev/null".as_ptr());
        let mut actions = MaybeUninit::<libc::posix_spawn_file_actions_t>::zeroed();
        let mut attributes = MaybeUninit::<libc::posix_spawnattr_t>::zeroed();
        let mut none = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: each object is initialised before it is used, and destroyed after; the strings and the arrays of
        // pointers to them, which end with null, live longer than the call.
        let error = unsafe {
            let (actions, attributes) = (actions.as_mut_ptr(), attributes.as_mut_ptr());
            libc::sigemptyset(none.as_mut_ptr());
            libc::posix_spawn_file_actions_init(actions);
            libc::posix_spawnattr_init(attributes);
            libc::posix_spawn_file_actions_addopen(actions, 0, null, libc::O_RDONLY, 0);
            libc::posix_spawn_file_actions_addopen(actions, 1, null, libc::O_WRONLY, 0);
            libc::posix_spawnattr_setflags(attributes, flags as libc::c_short);
            libc::posix_spawnattr_setsigmask(attributes, none.as_ptr());
            libc::posix_spawnattr_setpgroup(attributes, 0);
            let error = libc::posix_spawnp(
                &raw mut pid,
                program.as_ptr(),
                actions,
                attributes,
                argv.as_ptr(),
                envp.as_ptr(),
            );
            libc::posix_spawnattr_destroy(attributes);
            libc::posix_spawn_file_actions_destroy(actions);
            error
        };
        match (error, Pid::from_raw(pid)) {
            (0, Some(pid)) => Ok(Command(pid)),
            (0, None) => Err(io::ErrorKind::Other.into()),
            (error, _) => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Asks it to end, or with `kill` ends it. It must not have been found to have ended: its number may be another's.
    pub(crate) fn end(&self, kill: bool) {
        let _ = rustix::process::kill_process(self.0, if kill { Signal::KILL } else { Signal::TERM });
    }

    /// If it has ended: whether with success.
    pub(crate) fn ended(&self) -> io::Result<Option<bool>> {
        match waitpid(Some(self.0), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => Ok(Some(status.exit_status() == Some(0))),
            Ok(None) | Err(rustix::io::Errno::INTR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

/// Tests that fork, or that end copies: there is one process for all of them.
#[cfg(test)]
pub(crate) static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_sees_the_memory_as_it_was() {
        let _alone = ONE_AT_A_TIME.lock();
        let mut memory = vec![1u8; 1 << 20];
        let child = fork(false, || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            vec![memory[0], memory[memory.len() - 1]]
        });
        let mut child = child.unwrap();
        memory.fill(2);
        assert_eq!(child.result().unwrap(), [1, 1]);
        child.reap().unwrap();
        assert_eq!(memory[0], 2);
    }

    #[test]
    fn a_copy_is_the_first_to_go_when_memory_is_short() {
        let _alone = ONE_AT_A_TIME.lock();
        let child = fork(false, || std::fs::read("/proc/self/oom_score_adj").unwrap_or_default());
        let mut child = child.unwrap();
        assert_eq!(child.result().unwrap(), b"1000\n");
        child.reap().unwrap();
        assert_ne!(std::fs::read("/proc/self/oom_score_adj").unwrap(), b"1000\n");
    }

    #[test]
    fn a_command_gets_the_environment_it_should_and_can_be_ended() {
        let words = |script: &str| ["sh", "-c", script].map(|w| CString::new(w).unwrap());
        let wait = |command: &Command| loop {
            if let Some(success) = command.ended().unwrap() {
                return success;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        let script = "test -n \"$PATH\" && test -z \"$HOME\" && ! read x && test $(ps -o pgid= $$) = $$";
        assert!(wait(&Command::start(&words(script), &["HOME"]).unwrap()));
        assert!(!wait(&Command::start(&words("exit 3"), &[]).unwrap()));
        let sleeping = Command::start(&words("exec sleep 60"), &[]).unwrap();
        assert_eq!(sleeping.ended().unwrap(), None);
        sleeping.end(false);
        assert!(!wait(&sleeping));
        assert!(Command::start(&[c"/nonexistent".to_owned()], &[]).is_err());
    }

    #[test]
    fn a_copy_that_is_killed_is_an_error() {
        let _alone = ONE_AT_A_TIME.lock();
        let child = fork(false, || {
            std::thread::sleep(std::time::Duration::from_secs(60));
            vec![]
        });
        let mut child = child.unwrap();
        kill(child.pid());
        assert!(child.result().unwrap().is_empty());
        let error = child.reap().unwrap_err().to_string();
        assert!(error.contains("signal 9"), "{error}");
    }
}
