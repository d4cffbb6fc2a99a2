//! What may block: named pipes, sockets, sleeps. A migration request undoes a call that has done nothing, and ends one
//! that has done something with a short count; either way nothing is lost or doubled.

use crate::guest::*;
use dunlin_runtime::wasi::{Obstacle, Outcome};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};
use tempfile::tempdir;

fn fifo(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
}

fn read_call(g: &mut Guest, fd: u64, len: u32) -> Outcome {
    let [iovs, count] = g.buffer(len);
    g.outcome("fd_read", &[fd, iovs, count, OUT.into()])
}

fn write_call(g: &mut Guest, fd: u64, len: u32) -> Outcome {
    let [iovs, count] = g.buffer(len);
    g.outcome("fd_write", &[fd, iovs, count, OUT.into()])
}

#[test]
fn a_blocked_read_is_undone_and_issued_again() {
    let dir = tempdir().unwrap();
    fifo(&dir.path().join("p"));
    let mut g = Guest::new(dir.path());
    let p = g.open(ROOT, "p", 0, READ, 0).unwrap();
    assert_eq!(g.call("fd_fdstat_get", &[p, OUT.into()]), 0);
    assert_eq!(g.u8(OUT), 0, "WASI has no type for pipes");
    let before = g.memory.clone();
    g.wake.raise();
    assert_eq!(read_call(&mut g, p, 10), Outcome::Interrupted);
    assert_eq!(g.bytes(DATA, 10), &before[DATA as usize..][..10]);
    g.wake.clear();
    // While it waits, not only before.
    thread::scope(|scope| {
        let wake = &g.wake;
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            wake.raise();
        });
        let f = dunlin_runtime::wasi::resolve("wasi_snapshot_preview1", "fd_read").unwrap();
        let outcome = g.wasi.call(f, &[p, IOV.into(), 1, OUT.into()], &mut g.memory, wake);
        assert_eq!(outcome, Outcome::Interrupted);
    });
    // What is there is read although a request is pending: readiness wins, and the program goes on to its next point.
    let mut writer = fs::OpenOptions::new().write(true).open(dir.path().join("p")).unwrap();
    writer.write_all(b"hello").unwrap();
    assert_eq!(g.read(p, 3), Ok(b"hel".to_vec()));
    assert_eq!(g.read(p, 10), Ok(b"lo".to_vec()));
    assert_eq!(read_call(&mut g, p, 10), Outcome::Interrupted);
    g.wake.clear();
    drop(writer);
    assert_eq!(g.read(p, 10), Ok(vec![]));
    assert_eq!((g.seek(p, 0, 1), g.seek(p, 0, 0)), (Err(SPIPE), Err(SPIPE)));
    let [iovs, count] = g.buffer(1);
    assert_eq!(g.call("fd_pread", &[p, iovs, count, 0, OUT.into()]), SPIPE);
}

#[test]
fn a_non_blocking_pipe_says_so() {
    let dir = tempdir().unwrap();
    fifo(&dir.path().join("p"));
    let mut g = Guest::new(dir.path());
    let r = g.open(ROOT, "p", 0, READ, NONBLOCK).unwrap();
    let w = g.open(ROOT, "p", 0, WRITE, 0).unwrap();
    g.wake.raise();
    assert_eq!(g.read(r, 10), Err(AGAIN));
    assert_eq!(g.call("fd_fdstat_set_flags", &[w, NONBLOCK]), 0);
    g.memory[DATA as usize..].fill(7);
    let mut total = 0;
    while write_call(&mut g, w, 50_000) == Outcome::Return(0) {
        total += g.u32(OUT);
    }
    assert!((4096..10_000_000).contains(&total));
    assert_eq!(g.call("fd_fdstat_set_flags", &[r, 0]), 0);
    let mut read = 0;
    while read < total {
        read += g.read(r, 65_536).unwrap().len() as u32;
    }
    assert_eq!(read, total);
}

#[test]
fn a_blocked_write_is_undone_or_cut_short() {
    let dir = tempdir().unwrap();
    fifo(&dir.path().join("p"));
    let mut g = Guest::new(dir.path());
    let mut reader = rustix::fs::open(
        dir.path().join("p"),
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK,
        rustix::fs::Mode::empty(),
    )
    .map(fs::File::from)
    .unwrap();
    let w = g.open(ROOT, "p", 0, WRITE, 0).unwrap();
    let len = 300_000;
    for i in 0..len {
        g.memory[(DATA + i) as usize] = i as u8;
    }
    // More than the pipe holds, and nobody reads: what fits is written, and its count returned.
    g.wake.raise();
    assert_eq!(write_call(&mut g, w, len), Outcome::Return(0));
    let written = g.u32(OUT);
    assert!((4096..len).contains(&written));
    // Now it is full: nothing is written.
    assert_eq!(write_call(&mut g, w, len), Outcome::Interrupted);
    let mut got = vec![0; len as usize];
    let n = reader.read(&mut got).unwrap();
    assert_eq!(n, written as usize);
    assert!(got[..n].iter().enumerate().all(|(i, &b)| b == i as u8));
    g.wake.clear();
    // With a reader at work all of it goes through in one call.
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut total = 0;
            while total < len as usize {
                match reader.read(&mut got[total..]) {
                    Ok(n) => total += n,
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
            assert!(got.iter().enumerate().all(|(i, &b)| b == i as u8));
        });
        assert_eq!(write_call(&mut g, w, len), Outcome::Return(0));
        assert_eq!(g.u32(OUT), len);
    });
}

#[test]
fn writing_to_a_pipe_nobody_reads_is_an_error_not_a_signal() {
    let dir = tempdir().unwrap();
    fifo(&dir.path().join("p"));
    let mut g = Guest::new(dir.path());
    let r = g.open(ROOT, "p", 0, READ, 0).unwrap();
    let w = g.open(ROOT, "p", 0, WRITE, 0).unwrap();
    g.call("fd_close", &[r]);
    assert_eq!(g.write(w, b"x"), Err(64));
    assert_eq!(g.open(ROOT, "p", 0, WRITE, 0), Err(60), "ENXIO instead of hanging");
}

#[test]
fn a_sleep_keeps_its_deadline_through_a_move() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    let start = g.monotonic();
    g.subscribe_clock(IOV, 77, 1, 1_500_000_000, 0);
    thread::scope(|scope| {
        let wake = &g.wake;
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(800));
            wake.raise();
        });
        let f = dunlin_runtime::wasi::resolve("wasi_snapshot_preview1", "poll_oneoff").unwrap();
        let outcome = g
            .wasi
            .call(f, &[IOV.into(), DATA.into(), 1, OUT.into()], &mut g.memory, wake);
        assert_eq!(outcome, Outcome::Interrupted);
    });
    let state = g.state();
    assert!((start..state.times.monotonic).contains(&state.times.poll_started.unwrap()));
    // The pause: it is not counted.
    thread::sleep(Duration::from_millis(300));
    let mut g = {
        let Guest { wasi, memory, .. } = g;
        drop(wasi);
        let wasi = dunlin_runtime::wasi::Wasi::restore(&state, &config(&[(dir.path(), "/")])).unwrap();
        Guest {
            wasi,
            memory,
            wake: dunlin_runtime::os::wake::Wake::new().unwrap(),
        }
    };
    assert!(
        g.state().times.poll_started.is_some(),
        "a second move before the call is issued again keeps it too"
    );
    let resumed = Instant::now();
    assert_eq!(g.poll(1), Outcome::Return(0));
    let left = resumed.elapsed();
    assert_eq!(
        (g.u32(OUT), g.u64(DATA), g.u16(DATA + 8), g.u8(DATA + 10)),
        (1, 77, 0, 0)
    );
    let slept = g.monotonic() - start;
    assert!(
        left < Duration::from_millis(1400),
        "slept {left:?} more: the time before the move was forgotten"
    );
    assert!(slept >= 1_500_000_000, "woke after {slept} ns");
    assert_eq!(g.state().times.poll_started, None);
}

#[test]
fn polling_many_things_at_once() {
    let dir = tempdir().unwrap();
    fifo(&dir.path().join("p"));
    fs::write(dir.path().join("f"), "12345").unwrap();
    let mut g = Guest::new(dir.path());
    let r = g.open(ROOT, "p", 0, READ, 0).unwrap();
    let w = g.open(ROOT, "p", 0, WRITE, 0).unwrap();
    let f = g.open(ROOT, "f", 0, READ, 0).unwrap();
    g.seek(f, 2, 0).unwrap();
    assert_eq!(g.poll(0), Outcome::Return(INVAL));
    // Nothing to read: only the clock rings.
    g.subscribe_fd(IOV, 1, 1, r);
    g.subscribe_clock(IOV + 48, 2, 1, 20_000_000, 0);
    assert_eq!(g.poll(2), Outcome::Return(0));
    assert_eq!((g.u32(OUT), g.u64(DATA), g.u8(DATA + 10)), (1, 2, 0));
    // Everything that is ready is told at once, errors among it, in the order asked.
    g.write(w, b"abc").unwrap();
    g.subscribe_fd(IOV, 1, 1, r);
    g.subscribe_fd(IOV + 48, 2, 2, w);
    g.subscribe_fd(IOV + 96, 3, 1, f);
    g.subscribe_fd(IOV + 144, 4, 1, 99);
    g.subscribe_fd(IOV + 192, 5, 2, r);
    g.subscribe_clock(IOV + 240, 6, 1, 3_600_000_000_000, 0);
    g.subscribe_clock(IOV + 288, 7, 9, 0, 0);
    assert_eq!(g.poll(7), Outcome::Return(0));
    let mut events: Vec<_> = (0..g.u32(OUT))
        .map(|i| DATA + 32 * i)
        .map(|e| (g.u64(e), g.u16(e + 8), g.u64(e + 16)))
        .collect();
    events.sort();
    assert_eq!(
        events,
        [
            (1, 0, 3),
            (2, 0, 0),
            (3, 0, 3),
            (4, BADF as u16, 0),
            (5, BADF as u16, 0),
            (7, INVAL as u16, 0)
        ]
    );
    // The other end closes.
    g.call("fd_close", &[w]);
    g.read(r, 10).unwrap();
    g.subscribe_fd(IOV, 1, 1, r);
    assert_eq!(g.poll(1), Outcome::Return(0));
    assert_eq!((g.u64(DATA + 16), g.u16(DATA + 24)), (0, 1));
    // Times: absolute ones of both clocks, past and near.
    assert_eq!(g.call("clock_time_get", &[0, 0, OUT.into()]), 0);
    let soon = g.u64(OUT) + 30_000_000;
    g.subscribe_clock(IOV, 8, 0, soon, 1);
    assert_eq!(g.poll(1), Outcome::Return(0));
    assert_eq!(g.call("clock_time_get", &[0, 0, OUT.into()]), 0);
    assert!(g.u64(OUT) >= soon);
    g.subscribe_clock(IOV, 9, 1, 1, 1);
    g.subscribe_clock(IOV + 48, 10, 2, 1, 0);
    assert_eq!(g.poll(2), Outcome::Return(0));
    assert_eq!(
        (g.u32(OUT), g.u64(DATA), g.u64(DATA + 32), g.u16(DATA + 40)),
        (2, 9, 10, NOTSUP as u16)
    );
    g.set(IOV + 8, &[3]);
    assert_eq!(g.poll(1), Outcome::Return(INVAL));
    assert_eq!(
        g.outcome("poll_oneoff", &[0xffff_0000, DATA.into(), 1, OUT.into()]),
        Outcome::Return(FAULT)
    );
    assert_eq!(
        g.outcome("poll_oneoff", &[IOV.into(), DATA.into(), 0xffff_ffff, OUT.into()]),
        Outcome::Return(FAULT)
    );
}

#[test]
fn sockets_accept_receive_send_and_shut_down() {
    let dir = tempdir().unwrap();
    let mut g = Guest::new(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let l = u64::from(g.wasi.add_listener(listener.into(), address.to_string()).unwrap());
    g.wake.raise();
    assert_eq!(g.outcome("sock_accept", &[l, 0, OUT.into()]), Outcome::Interrupted);
    g.wake.clear();
    assert_eq!(g.call("fd_fdstat_set_flags", &[l, NONBLOCK]), 0);
    assert_eq!(g.call("sock_accept", &[l, 0, OUT.into()]), AGAIN);
    assert_eq!(g.call("sock_accept", &[ROOT, 0, OUT.into()]), NOTSOCK);
    assert_eq!(g.call("sock_accept", &[99, 0, OUT.into()]), BADF);
    let mut peer = TcpStream::connect(address).unwrap();
    g.subscribe_fd(IOV, 1, 1, l);
    assert_eq!(g.poll(1), Outcome::Return(0));
    assert_eq!(g.call("sock_accept", &[l, APPEND, OUT.into()]), INVAL);
    assert_eq!(g.call("sock_accept", &[l, 0, OUT.into()]), 0);
    let c = u64::from(g.u32(OUT));
    assert_eq!(g.call("fd_fdstat_get", &[c, OUT.into()]), 0);
    assert_eq!(g.u8(OUT), 6);
    peer.write_all(b"hello").unwrap();
    let [iovs, count] = g.buffer(3);
    for (flags, expected) in [(1, &b"hel"[..]), (0, b"hel"), (0, b"lo")] {
        assert_eq!(
            g.call("sock_recv", &[c, iovs, count, flags, OUT.into(), u64::from(OUT + 8)]),
            0
        );
        assert_eq!((g.bytes(DATA, g.u32(OUT)), g.u16(OUT + 8)), (expected, 0));
    }
    g.wake.raise();
    assert_eq!(
        g.outcome("sock_recv", &[c, iovs, count, 0, OUT.into(), u64::from(OUT + 8)]),
        Outcome::Interrupted
    );
    g.wake.clear();
    let all = thread::spawn(move || {
        peer.write_all(b"ab").unwrap();
        thread::sleep(Duration::from_millis(30));
        peer.write_all(b"c").unwrap();
        peer
    });
    assert_eq!(
        g.call("sock_recv", &[c, iovs, count, 2, OUT.into(), u64::from(OUT + 8)]),
        0
    );
    assert_eq!(g.bytes(DATA, g.u32(OUT)), b"abc");
    let mut peer = all.join().unwrap();
    g.set(DATA, b"xyz");
    assert_eq!(g.call("sock_send", &[c, iovs, count, 1, OUT.into()]), INVAL);
    assert_eq!(g.call("sock_send", &[c, iovs, count, 0, OUT.into()]), 0);
    assert_eq!(g.write(c, b"more"), Ok(4));
    assert_eq!(g.call("sock_shutdown", &[c, 4]), INVAL);
    assert_eq!(g.call("sock_shutdown", &[ROOT, 1]), NOTSOCK);
    assert_eq!(g.call("sock_shutdown", &[c, 2]), 0);
    let mut got = String::new();
    peer.read_to_string(&mut got).unwrap();
    assert_eq!(got, "xyzmore");
    peer.shutdown(Shutdown::Both).unwrap();
    assert_eq!(g.read(c, 10), Ok(vec![]));
    let obstacles = g.wasi.obstacles();
    assert_eq!(obstacles, [Obstacle::Connection { fd: c as u32 }]);
    assert!(g.wasi.capture().is_err());
    g.call("fd_close", &[c]);
    assert_eq!(g.wasi.obstacles(), []);
}
