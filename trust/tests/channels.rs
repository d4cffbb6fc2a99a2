//! Two devices on one machine: who gets a channel, who gets silence, and what a channel makes of what was changed on
//! the way.

use dunlin_trust::channel::Channel;
use dunlin_trust::handshake::{self, Caller, HANDSHAKE};
use dunlin_trust::peers::Peers;
use dunlin_trust::{Directory, Identity, Refused};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Bytes of a caller's message and of the answer.
const FIRST: usize = 1 + 32 + 48 + 8 + 16;
const SECOND: usize = 48;

struct Device {
    _dir: TempDir,
    directory: Directory,
    own: Identity,
}

impl Device {
    fn new() -> Device {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let own = Identity::open(&directory).unwrap();
        Device {
            _dir: dir,
            directory,
            own,
        }
    }

    fn knows(&self, other: &Device) {
        Peers::add(&self.directory, "other", other.own.key(), None).unwrap();
    }

    fn call(&self, address: &str, other: &Device) -> Result<Channel, Refused> {
        let stream = TcpStream::connect(address).unwrap();
        handshake::call(stream, &self.directory, &self.own, other.own.key())
    }

    fn answer(&self, stream: TcpStream) -> Result<Caller, Refused> {
        handshake::answer(stream, &self.directory, &self.own)
    }
}

/// Two that know each other, the caller first.
fn pair() -> (Device, Device) {
    let (a, b) = (Device::new(), Device::new());
    a.knows(&b);
    b.knows(&a);
    (a, b)
}

fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn peer(caller: Result<Caller, Refused>) -> Channel {
    match caller.unwrap() {
        Caller::Peer(channel) => channel,
        Caller::ToPair { .. } => panic!("it wants to be paired"),
    }
}

/// An open channel between two, and the devices.
fn open() -> (Channel, Channel, (Device, Device)) {
    let (a, b) = pair();
    let (listener, address) = listen();
    let channels = thread::scope(|scope| {
        let called = scope.spawn(|| peer(b.answer(listener.accept().unwrap().0)));
        let caller = a.call(&address, &b).unwrap();
        (caller, called.join().unwrap())
    });
    (channels.0, channels.1, (a, b))
}

#[test]
fn what_is_sent_arrives_in_both_directions_until_the_end() {
    let (a, b, devices) = open();
    assert_eq!((a.peer(), b.peer()), (devices.1.own.key(), devices.0.own.key()));
    let ends = [a, b].map(|channel| channel.split().unwrap());
    let text = |side: usize| -> Vec<u8> { (0..3_000_000).map(|n| ((n * (side + 3)) >> 5) as u8).collect() };
    thread::scope(|scope| {
        for (side, (mut incoming, mut outgoing, _)) in ends.into_iter().enumerate() {
            scope.spawn(move || {
                let text = text(side);
                let mut from = 0;
                for len in [1, 2, 65_519, 65_520, 262_144, 1, 500_000].into_iter().cycle() {
                    let to = text.len().min(from + len);
                    outgoing.write_all(&text[from..to]).unwrap();
                    from = to;
                    if from == text.len() {
                        break;
                    }
                }
            });
            scope.spawn(move || {
                let mut got = vec![0; 4];
                incoming.read_exact(&mut got).unwrap();
                incoming.read_to_end(&mut got).unwrap();
                assert!(got == text(1 - side));
                assert_eq!(incoming.read(&mut [0]).unwrap(), 0, "the end stays the end");
            });
        }
    });
}

/// More records than go with one key, in one direction.
#[test]
fn keys_change_on_the_way() {
    let (a, b, _devices) = open();
    let (mut incoming, _outgoing, _) = b.split().unwrap();
    let (_incoming, mut outgoing, _) = a.split().unwrap();
    let records = (1 << 17) + 5_u32;
    thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..records {
                outgoing.write_all(&n.to_le_bytes()).unwrap();
            }
        });
        for n in 0..records {
            let mut got = [0; 4];
            incoming.read_exact(&mut got).unwrap();
            assert_eq!(u32::from_le_bytes(got), n);
        }
    });
}

#[test]
fn hanging_up_ends_both_sides_and_is_no_orderly_end() {
    let (a, b, _devices) = open();
    let (mut incoming, outgoing, end) = a.split().unwrap();
    let reading = thread::spawn(move || incoming.read(&mut [0]));
    thread::sleep(Duration::from_millis(50));
    end.now();
    let error = reading.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    drop(outgoing);
    let (mut incoming, ..) = b.split().unwrap();
    let error = incoming.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
}

/// What comes between the two sees records, and gives `change` of them to the other one: all that is read then, and the
/// end.
fn through(change: impl FnOnce(Vec<Vec<u8>>) -> Vec<u8>) -> (Vec<u8>, std::io::Result<()>) {
    let (a, b) = pair();
    let (outer, to_outer) = listen();
    let (inner, to_inner) = listen();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (_incoming, mut outgoing, _) = a.call(&to_outer, &b).unwrap().split().unwrap();
            for text in [&b"first"[..], b"second", b"third"] {
                outgoing.write_all(text).unwrap();
            }
            drop(outgoing);
            // The connection stays until the other one has read all.
            thread::sleep(Duration::from_millis(200));
        });
        let reading = scope.spawn(|| {
            let (mut incoming, ..) = peer(b.answer(inner.accept().unwrap().0)).split().unwrap();
            let mut got = Vec::new();
            let mut buffer = [0; 100];
            loop {
                match incoming.read(&mut buffer) {
                    Ok(0) => return (got, Ok(())),
                    Ok(n) => got.extend(&buffer[..n]),
                    Err(e) => return (got, Err(e)),
                }
            }
        });
        let mut left = outer.accept().unwrap().0;
        let mut right = TcpStream::connect(to_inner).unwrap();
        let (mut first, mut second) = ([0; FIRST], [0; SECOND]);
        left.read_exact(&mut first).unwrap();
        right.write_all(&first).unwrap();
        right.read_exact(&mut second).unwrap();
        left.write_all(&second).unwrap();
        let mut sealed = Vec::new();
        left.read_to_end(&mut sealed).unwrap();
        let mut records = Vec::new();
        while let [low, high, ..] = sealed[..] {
            let len = 2 + usize::from(u16::from_le_bytes([low, high]));
            records.push(sealed.drain(..len).collect());
        }
        assert_eq!(records.len(), 4, "three, and the end");
        right.write_all(&change(records)).unwrap();
        right.shutdown(Shutdown::Write).unwrap();
        reading.join().unwrap()
    })
}

#[test]
fn records_that_were_changed_left_out_moved_or_repeated_are_refused() {
    let all = b"firstsecondthird";
    let (got, ended) = through(|records| records.concat());
    assert_eq!((&got[..], ended.is_ok()), (&all[..], true));
    let kind = |(got, ended): (Vec<u8>, std::io::Result<()>)| (got, ended.unwrap_err().kind());
    let invalid = |got: &[u8]| (got.to_vec(), ErrorKind::InvalidData);
    let cut = |got: &[u8]| (got.to_vec(), ErrorKind::ConnectionAborted);
    // Without the end, or within a record: cut off.
    assert_eq!(kind(through(|r| r[..3].concat())), cut(all));
    assert_eq!(kind(through(|r| r[..2].concat())), cut(b"firstsecond"));
    assert_eq!(kind(through(|r| r[0][..9].to_vec())), cut(b""));
    assert_eq!(kind(through(|_| Vec::new())), cut(b""));
    // The end, too early.
    let early = |r: Vec<Vec<u8>>| [&r[0][..], &r[3]].concat();
    assert_eq!(kind(through(early)), invalid(b"first"));
    let swapped = |r: Vec<Vec<u8>>| [&r[1][..], &r[0], &r[2], &r[3]].concat();
    assert_eq!(kind(through(swapped)), invalid(b""));
    let twice = |r: Vec<Vec<u8>>| [&r[0][..], &r[0], &r[1], &r[2], &r[3]].concat();
    assert_eq!(kind(through(twice)), invalid(b"first"));
    for at in [2, 5, 20] {
        let changed = move |mut r: Vec<Vec<u8>>| {
            r[1][at] ^= 1;
            r.concat()
        };
        assert_eq!(kind(through(changed)), invalid(b"first"));
    }
    // Too short to be a record.
    assert_eq!(kind(through(|_| vec![3, 0, 1, 2, 3])), invalid(b""));
}

/// A call as it is sent.
fn call(from: &Device, to: &Device) -> Vec<u8> {
    let (listener, address) = listen();
    thread::scope(|scope| {
        scope.spawn(|| from.call(&address, to).map(drop).unwrap_err());
        let mut call = vec![0; FIRST];
        listener.accept().unwrap().0.read_exact(&mut call).unwrap();
        call
    })
}

/// What is heard of a device that got this: nothing, until a moment that doesn't depend on it. Returns that, from the
/// beginning.
fn heard(device: &Device, sent: &[u8]) -> (Vec<u8>, Duration) {
    let (listener, address) = listen();
    thread::scope(|scope| {
        scope.spawn(|| {
            let answered = device.answer(listener.accept().unwrap().0);
            assert!(!matches!(answered, Ok(Caller::Peer(_))));
        });
        let mut stream = TcpStream::connect(address).unwrap();
        let begun = Instant::now();
        stream.write_all(sent).unwrap();
        let mut got = Vec::new();
        // Closed with something unread, the connection is reset.
        let _ = stream.read_to_end(&mut got);
        (got, begun.elapsed())
    })
}

#[test]
fn everything_but_a_known_devices_new_call_gets_silence() {
    let (a, b) = pair();
    let stranger = Device::new();
    let good = call(&a, &b);
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for at in 1..FIRST {
        let mut changed = good.clone();
        changed[at] ^= 1 << (at % 8);
        all.push((format!("byte {at} changed"), changed));
    }
    all.push(("a stranger's call".into(), call(&stranger, &b)));
    all.push(("a call for another device".into(), call(&a, &stranger)));
    all.push(("less than a call".into(), good[..FIRST - 1].to_vec()));
    all.push(("nothing".into(), Vec::new()));
    all.push(("another protocol".into(), b"GET / HTTP/1.1\r\n\r\n".to_vec()));
    all.push(("noise".into(), vec![0xa5; 100_000]));
    all.push(("a kind that there is not".into(), [&[3], &good[1..]].concat()));
    // The call itself is good, once.
    let (listener, address) = listen();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&good).unwrap();
    assert_eq!(peer(b.answer(listener.accept().unwrap().0)).peer(), a.own.key());
    stream.read_exact(&mut [0; SECOND]).unwrap();
    all.push(("the same call again".into(), good));
    thread::scope(|scope| {
        for (what, sent) in &all {
            let b = &b;
            scope.spawn(move || {
                let (got, after) = heard(b, sent);
                assert_eq!(got, [0; 0], "{what}");
                let late = after.abs_diff(HANDSHAKE);
                assert!(late < Duration::from_millis(1500), "{what}: closed after {after:?}");
            });
        }
    });
    // Forgotten, it is a stranger.
    Peers::forget(&b.directory, "other").unwrap();
    let (got, _) = heard(&b, &call(&a, &b));
    assert_eq!(got, [0; 0]);
}

/// One byte after the other doesn't prolong anything.
#[test]
fn slow_callers_are_given_no_more_time() {
    let (_, b) = pair();
    let (listener, address) = listen();
    thread::scope(|scope| {
        let begun = Instant::now();
        let answered = scope.spawn(|| b.answer(listener.accept().unwrap().0).map(drop));
        let mut stream = TcpStream::connect(address).unwrap();
        while !answered.is_finished() {
            let _ = stream.write_all(&[1]);
            thread::sleep(Duration::from_millis(100));
        }
        assert!(answered.join().unwrap().is_err());
        assert!(begun.elapsed() < HANDSHAKE + Duration::from_secs(2));
    });
}

/// How fast a channel is, and the bare connection, over loopback; in processor time, too, for a busy machine:
/// `cargo test --release -p dunlin-trust --test channels -- --ignored --nocapture speed`.
#[test]
#[ignore = "it measures"]
fn speed() {
    let (listener, address) = listen();
    let bare = TcpStream::connect(address).unwrap();
    measure("bare", listener.accept().unwrap().0, bare);
    let (a, b, _devices) = open();
    let (incoming, ..) = b.split().unwrap();
    let (_incoming, outgoing, _) = a.split().unwrap();
    measure("channel", incoming, outgoing);
}

fn measure(what: &str, mut from: impl Read + Send, mut to: impl Write + Send) {
    let total = 2_usize << 30;
    let processor = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let begun = Instant::now();
    let (writing, reading) = thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let chunk = vec![7; 256 << 10];
            for _ in 0..total / chunk.len() {
                to.write_all(&chunk).unwrap();
            }
            processor()
        });
        let reading = scope.spawn(|| {
            let mut buffer = vec![0; 256 << 10];
            let mut got = 0;
            while got < total {
                got += from.read(&mut buffer).unwrap();
            }
            processor()
        });
        (writing.join().unwrap(), reading.join().unwrap())
    });
    let gib = total as f64 / f64::from(1 << 30);
    let rate = gib / begun.elapsed().as_secs_f64();
    let (writing, reading) = (writing / gib, reading / gib);
    println!("{what}: {rate:.2} GiB/s; processor time for a GiB: {writing:.2} s to write, {reading:.2} s to read");
}
