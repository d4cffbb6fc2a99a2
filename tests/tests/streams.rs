//! Sockets, closed pipes and too many files, through real executables on both architectures; undisturbed, with forced
//! migration where what is open can move, and with requests where it can't.

use dunlin_format::arch::Arch;
use dunlin_tests::guest::clang;
use dunlin_tests::process::Input;
use dunlin_tests::program::{Program, Run, dunlin, scratch};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let dir = scratch();
        let module = dir.path().join("streams.wasm");
        clang(
            &[dunlin_tests::tools::root().join("tests/programs/streams.c")],
            &[],
            &module,
        );
        Program::build(&module)
    })
}

/// A run in one of its modes, on each architecture, undisturbed and moved at every point.
fn everywhere(what: &str, check: impl Fn(Run)) {
    for arch in Arch::ALL {
        let run = || program().on(arch).args([what]);
        check(run());
        check(run().forced(1));
    }
}

#[track_caller]
fn ends_well(mut child: Child) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            assert!(status.success(), "{status}");
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    panic!("it never ended");
}

#[test]
fn standard_streams_can_be_a_connection() {
    everywhere("stdio", |run| {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let out: OwnedFd = theirs.try_clone().expect("a socket can be duplicated").into();
        let mut command = run.command();
        command.stdin(OwnedFd::from(theirs)).stdout(out);
        let child = command.spawn().expect("it starts");
        drop(command);
        ours.write_all(b"abc").expect("it listens");
        std::thread::sleep(Duration::from_millis(50));
        ours.write_all(b"def").expect("it listens");
        ours.shutdown(std::net::Shutdown::Write).expect("a connection");
        let mut reply = String::new();
        ours.read_to_string(&mut reply).expect("it answers");
        assert_eq!(reply, "reply");
        ends_well(child);
    });
}

#[test]
fn a_closed_pipe_is_an_error_and_no_signal() {
    everywhere("closed", |run| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = run.command();
        command.stdin(Stdio::null()).stdout(OwnedFd::from(writer));
        ends_well(command.spawn().expect("it starts"));
    });
}

#[test]
fn the_end_of_input_stays_the_end() {
    everywhere("end", |run| {
        run.stdin(Input::Bytes(Vec::new())).output().expect_code(0);
    });
}

#[test]
fn too_many_open_files_are_an_error() {
    let dir = scratch();
    fs::write(dir.path().join("text"), "text").expect("scratch space is writable");
    for arch in Arch::ALL {
        for force in [None, Some(23)] {
            let run = program().on(arch).args(["many"]).dir(dir.path(), "/data");
            let run = force.into_iter().fold(run, Run::forced);
            run.through_shell("ulimit -n 50; \"$@\"").output().expect_code(0);
        }
    }
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an address is free");
    listener.local_addr().expect("it has an address")
}

#[test]
fn connections_have_every_errno() {
    for arch in Arch::ALL {
        let address = free();
        let run = program().on(arch).args(["connections"]);
        let mut running = run.opts(["--tcplisten".to_owned(), address.to_string()]).start();
        running.wait_for_error("ready\n");
        let mut peer = TcpStream::connect(address).expect("it listens");
        running.wait_for_error("accepted\n");
        peer.write_all(b"12").expect("it reads");
        std::thread::sleep(Duration::from_millis(50));
        peer.write_all(b"345").expect("it reads");
        let mut echo = Vec::new();
        peer.read_to_end(&mut echo).expect("it answers");
        assert_eq!(echo, b"12345");
        drop(TcpStream::connect(address).expect("it listens on"));
        running.finish().expect_code(0);
    }
}

/// While it waits in the middle of a transfer it is asked to move, can't, and goes on where it was.
#[test]
fn requests_in_the_middle_of_a_send_lose_and_double_nothing() {
    let expected: String = (0..)
        .map(|n| format!("{n}\n"))
        .scan(0, |len, line| {
            (*len + 16 < 16_000_000).then(|| {
                *len += line.len();
                line
            })
        })
        .collect();
    for arch in Arch::ALL {
        let (dir, address) = (scratch(), free());
        let to = dir.path().join("x.snap");
        let run = program().on(arch).args(["flood"]);
        let mut running = run.opts(["--tcplisten".to_owned(), address.to_string()]).start();
        running.wait_for_error("ready\n");
        let mut peer = TcpStream::connect(address).expect("it listens");
        let (mut got, mut buffer) = (Vec::new(), vec![0; 300_000]);
        for _ in 0..5 {
            // It fills the connection, and waits.
            std::thread::sleep(Duration::from_millis(100));
            let pid = running.pid().to_string();
            let asked = dunlin(
                &["checkpoint".as_ref(), pid.as_ref(), "-o".as_ref(), to.as_os_str()],
                &[],
            );
            assert!(asked.err().contains("is a connected socket"), "{asked}");
            let asked = dunlin(&["check".as_ref(), pid.as_ref()], &[]).expect_code(3);
            assert!(asked.out().contains("is a connected socket"), "{asked}");
            let n = peer.read(&mut buffer).expect("it sends");
            got.extend_from_slice(&buffer[..n]);
        }
        peer.read_to_end(&mut got).expect("it sends all of it");
        assert!(got == expected.as_bytes(), "{} bytes of {}", got.len(), expected.len());
        running.finish().expect_code(0);
        assert!(!to.exists());
    }
}
