//! Starting processes: one at a time, so that each gets the descriptors that are meant for it, and no other one does.

use rustix::io::{FdFlags, fcntl_setfd};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::Mutex;

/// Held while there are descriptors that every new process gets.
static STARTING: Mutex<()> = Mutex::new(());

/// Starts a command. All processes are started so where there are several threads.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    spawn_with(command, Vec::new())
}

/// Starts a command that gets these descriptors, under the same numbers; they are closed here.
pub(crate) fn spawn_with(command: &mut Command, inherited: Vec<OwnedFd>) -> io::Result<Child> {
    let _alone = STARTING.lock();
    for fd in &inherited {
        fcntl_setfd(fd, FdFlags::empty())?;
    }
    let child = command.spawn();
    drop(inherited);
    child
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::thread;

    /// Others that are started at the same time don't keep a pipe open that is one process's.
    #[test]
    fn what_one_process_inherits_no_other_one_does() {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let others = scope.spawn(|| {
                let mut others = Vec::new();
                while !over.load(SeqCst) && others.len() < 1000 {
                    others.push(spawn(Command::new("sleep").arg("20")).unwrap());
                }
                others
            });
            for _ in 0..20 {
                let (mut told, tell) = io::pipe().unwrap();
                let mut child = spawn_with(&mut Command::new("true"), vec![tell.into()]).unwrap();
                assert!(child.wait().unwrap().success());
                // It ends, for nobody else has it.
                assert_eq!(told.read(&mut [0]).unwrap(), 0);
            }
            over.store(true, SeqCst);
            for mut other in others.join().unwrap() {
                other.kill().unwrap();
                other.wait().unwrap();
            }
        });
    }
}
