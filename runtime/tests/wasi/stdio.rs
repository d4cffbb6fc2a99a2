//! Standard input as a file, a pipe, and nothing. Each test runs itself again as a child whose standard input it
//! chooses.

use crate::guest::*;
use dunlin_migrate::state::wasi::{Resource, Stdio};
use dunlin_runtime::os::wake::Wake;
use dunlin_runtime::wasi::{Outcome, Wasi, resolve};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio as Host};
use tempfile::tempdir;

/// Tells the child from its parent.
const CHILD: &str = "DUNLIN_TEST_CHILD";

/// Runs the test of this name again with another standard input; `None` in the child, which does the test's work.
fn spawn(test: &str, stdin: impl Into<Host>) -> Option<Child> {
    if std::env::var_os(CHILD).is_some() {
        return None;
    }
    let mut command = match std::env::var("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER") {
        Ok(runner) if cfg!(target_arch = "aarch64") => {
            let mut command = Command::new(runner);
            command.arg(std::env::current_exe().unwrap());
            command
        }
        _ => Command::new(std::env::current_exe().unwrap()),
    };
    command
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .stdin(stdin)
        .stdout(Host::piped());
    Some(command.spawn().unwrap())
}

/// The child has run the test, and it passed.
fn finish(child: Child) {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_file_is_read_on_from_where_it_was() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("input"), "0123456789").unwrap();
    let input = File::open(dir.path().join("input")).unwrap();
    if let Some(child) = spawn("stdio::a_file_is_read_on_from_where_it_was", input) {
        finish(child);
        return;
    }
    let mut g = Guest::new(dir.path());
    assert_eq!(g.call("fd_fdstat_get", &[0, OUT.into()]), 0);
    assert_eq!(g.u8(OUT), 4, "a regular file");
    assert_eq!(g.read(0, 4), Ok(b"0123".to_vec()));
    assert_eq!(g.call("fd_renumber", &[0, 2]), 0);
    let state = g.state();
    let stdin = state.descriptors.iter().find(|d| d.fd == 2).unwrap();
    assert_eq!(
        stdin.resource,
        Resource::Stdio {
            stream: Stdio::Stdin,
            offset: Some(4)
        }
    );
    // As it would be in a new process started with the same redirection.
    let mut host = File::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    host.seek(SeekFrom::Start(0)).unwrap();
    let mut g = Guest {
        wasi: Wasi::restore(&state, &config(&[(dir.path(), "/")])).unwrap(),
        ..g
    };
    assert_eq!(g.read(2, 100), Ok(b"456789".to_vec()));
    // Whoever has placed it elsewhere means that.
    host.seek(SeekFrom::Start(9)).unwrap();
    let mut g = Guest {
        wasi: Wasi::restore(&state, &config(&[(dir.path(), "/")])).unwrap(),
        ..g
    };
    assert_eq!(g.read(2, 100), Ok(b"9".to_vec()));
    assert_eq!(g.wasi.warnings(), Vec::<String>::new());
}

#[test]
fn a_blocked_read_of_a_pipe_is_undone_and_loses_nothing() {
    if let Some(mut child) = spawn(
        "stdio::a_blocked_read_of_a_pipe_is_undone_and_loses_nothing",
        Host::piped(),
    ) {
        let mut input = child.stdin.take().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        input.write_all(b"late").unwrap();
        finish(child);
        return;
    }
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    let (read, poll) = (
        resolve("wasi_snapshot_preview1", "fd_read").unwrap(),
        resolve("wasi_snapshot_preview1", "poll_oneoff").unwrap(),
    );
    for undone in 0..3 {
        g.wake.raise();
        let [iovs, count] = g.buffer(10);
        let wake = std::mem::replace(&mut g.wake, Wake::new().unwrap());
        assert_eq!(
            g.wasi.call(read, &[0, iovs, count, OUT.into()], &mut g.memory, &wake),
            Outcome::Interrupted,
            "read {undone}"
        );
        g.subscribe_fd(IOV, 5, 1, 0);
        assert_eq!(
            g.wasi
                .call(poll, &[IOV.into(), DATA.into(), 1, OUT.into()], &mut g.memory, &wake),
            Outcome::Interrupted
        );
        g = g.moved(&config(&[(dir.path(), "/")]));
    }
    g.subscribe_fd(IOV, 5, 1, 0);
    assert_eq!(g.poll(1), Outcome::Return(0));
    assert_eq!((g.u64(DATA), g.u16(DATA + 8), g.u64(DATA + 16)), (5, 0, 4));
    assert_eq!(g.read(0, 10), Ok(b"late".to_vec()));
    assert_eq!((g.seek(0, 0, 1), g.write(0, b"x")), (Err(SPIPE), Err(BADF)));
}

#[test]
fn no_input_is_at_its_end() {
    if let Some(child) = spawn("stdio::no_input_is_at_its_end", Host::null()) {
        finish(child);
        return;
    }
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    assert_eq!(g.read(0, 10), Ok(vec![]));
    assert_eq!(g.call("fd_fdstat_get", &[0, OUT.into()]), 0);
    assert_eq!(g.u8(OUT), 2, "a character device");
    assert_eq!(g.call("sock_recv", &[0, 0, 0, 0, OUT.into(), OUT.into()]), NOTSOCK);
}

#[test]
fn a_connected_socket_can_be_standard_input() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    if let Some(child) = spawn("stdio::a_connected_socket_can_be_standard_input", OwnedFd::from(theirs)) {
        ours.write_all(b"hello").unwrap();
        finish(child);
        return;
    }
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    let [iovs, count] = g.buffer(2);
    assert_eq!(
        g.call("sock_recv", &[0, iovs, count, 0, OUT.into(), u64::from(OUT + 8)]),
        0
    );
    assert_eq!(g.bytes(DATA, g.u32(OUT)), b"he");
    assert_eq!(g.read(0, 10), Ok(b"llo".to_vec()));
    assert_eq!(g.call("sock_shutdown", &[0, 1]), 0);
    assert_eq!(g.read(0, 10), Ok(vec![]));
}
