//! Two devices on one machine get to know each other, or not.

use dunlin_trust::handshake::{self, Caller};
use dunlin_trust::pairing::{About, Became, Code, NotPaired, answer, digits, type_code};
use dunlin_trust::peers::Peers;
use dunlin_trust::{Directory, Identity};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use tempfile::TempDir;

struct Device {
    _dir: TempDir,
    directory: Directory,
    own: Identity,
    about: About,
}

impl Device {
    fn new(name: &str, port: u16) -> Device {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let own = Identity::open(&directory).unwrap();
        let name = name.to_owned();
        Device {
            _dir: dir,
            directory,
            own,
            about: About { name, port },
        }
    }

    fn knows(&self) -> Vec<(String, Option<String>)> {
        let peers = Peers::read(&self.directory).unwrap();
        let all = peers.all().iter();
        all.map(|p| (p.name.clone(), p.address.clone())).collect()
    }

    fn answer(&self, listener: &TcpListener) -> Result<String, NotPaired> {
        match handshake::answer(listener.accept().unwrap().0, &self.directory, &self.own) {
            Ok(Caller::ToPair { stream, until }) => answer(&stream, until, &self.directory, &self.own, &self.about),
            other => panic!("{other:?}"),
        }
    }

    fn type_code(&self, address: &str, code: &str) -> Result<String, NotPaired> {
        let stream = TcpStream::connect(address).unwrap();
        let typed = type_code(&stream, &self.directory, &self.own, &self.about, code, address);
        typed.map(|(name, _)| name)
    }
}

/// Types a code on one device that another may show; what both make of it.
fn meet(typing: &Device, showing: &Device, code: &str) -> (Result<String, NotPaired>, Result<String, NotPaired>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::scope(|scope| {
        let answered = scope.spawn(|| showing.answer(&listener));
        let typed = typing.type_code(&address, code);
        (typed, answered.join().unwrap())
    })
}

#[test]
fn the_right_code_pairs_and_is_used_up() {
    let (a, b) = (Device::new("laptop", 1), Device::new("p\u{1b}i", 2));
    let code = Code::show(&b.directory).unwrap().unwrap();
    assert!(Code::show(&b.directory).unwrap().is_none(), "one at a time");
    assert_eq!(code.became().unwrap(), Became::Open);
    let text = digits(&code.text()).unwrap();
    let (typed, answered) = meet(&a, &b, &text);
    assert_eq!((typed.unwrap(), answered.unwrap()), ("pi".into(), "laptop".into()));
    assert_eq!(code.became().unwrap(), Became::Paired("laptop".into()));
    assert_eq!(b.knows(), [("laptop".into(), Some("127.0.0.1:1".into()))]);
    let peers = Peers::read(&a.directory).unwrap();
    assert_eq!(peers.by_name("pi").unwrap().key, b.own.key());
    let c = Device::new("other", 3);
    let (typed, answered) = meet(&c, &b, &text);
    assert!(matches!(typed, Err(NotPaired::NoCode)), "{typed:?}");
    assert!(matches!(answered, Err(NotPaired::NoCode)), "{answered:?}");
    assert!(c.knows().is_empty() && b.knows().len() == 1);
    // Now they can call each other.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let stream = TcpStream::connect(address).unwrap();
            handshake::call(stream, &b.directory, &b.own, a.own.key()).unwrap()
        });
        let answered = handshake::answer(listener.accept().unwrap().0, &a.directory, &a.own);
        assert!(matches!(answered, Ok(Caller::Peer(_))), "{answered:?}");
    });
}

#[test]
fn a_wrong_code_is_told_on_both_sides_and_stores_nothing() {
    let (a, b) = (Device::new("a", 1), Device::new("b", 2));
    let code = Code::show(&b.directory).unwrap().unwrap();
    let right = digits(&code.text()).unwrap();
    let wrong = if right == "00000000" { "00000001" } else { "00000000" };
    let (typed, answered) = meet(&a, &b, wrong);
    assert!(matches!(typed, Err(NotPaired::WrongCode)), "{typed:?}");
    assert!(matches!(answered, Err(NotPaired::WrongCode)), "{answered:?}");
    let Became::Failed(why) = code.became().unwrap() else {
        panic!("it did not fail");
    };
    assert!(why.contains("another code"), "{why}");
    // There is no second try.
    let (typed, _) = meet(&a, &b, &right);
    assert!(matches!(typed, Err(NotPaired::NoCode)), "{typed:?}");
    assert!(a.knows().is_empty() && b.knows().is_empty());
}

#[test]
fn a_code_whose_process_is_gone_is_not_good_and_noise_does_not_use_one_up() {
    let (a, b) = (Device::new("a", 1), Device::new("b", 2));
    let code = Code::show(&b.directory).unwrap().unwrap();
    let text = digits(&code.text()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| b.answer(&listener).unwrap_err());
        let mut stream = TcpStream::connect(address).unwrap();
        // The message of the other side.
        stream.write_all(&[&[2, b'B'][..], &[0xff; 32]].concat()).unwrap();
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        assert_eq!(got, [0; 0]);
    });
    assert_eq!(code.became().unwrap(), Became::Open);
    drop(code);
    let (typed, _) = meet(&a, &b, &text);
    assert!(matches!(typed, Err(NotPaired::NoCode)), "{typed:?}");
    let code = Code::show(&b.directory).unwrap().unwrap();
    let (typed, answered) = meet(&a, &b, &digits(&code.text()).unwrap());
    assert!(typed.is_ok() && answered.is_ok(), "{typed:?} {answered:?}");
}

#[test]
fn a_device_is_not_paired_with_itself() {
    let a = Device::new("a", 1);
    let code = Code::show(&a.directory).unwrap().unwrap();
    let (typed, answered) = meet(&a, &a, &digits(&code.text()).unwrap());
    assert!(matches!(typed, Err(NotPaired::Itself)), "{typed:?}");
    assert!(answered.is_err() && a.knows().is_empty());
}

/// What is changed of any of the messages on the way pairs nobody.
#[test]
fn nobody_in_between_is_believed() {
    for message in 0..4 {
        let (a, b) = (Device::new("a", 1), Device::new("b", 2));
        let code = Code::show(&b.directory).unwrap().unwrap();
        let (outer, inner) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
        );
        let address = outer.local_addr().unwrap().to_string();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut left = outer.accept().unwrap().0;
                let mut right = TcpStream::connect(inner.local_addr().unwrap()).unwrap();
                let lengths = [34, 33, 48, 162, 130];
                for (n, len) in lengths.into_iter().enumerate() {
                    let to_right = n % 2 == 0;
                    let mut bytes = vec![0; len];
                    let (from, to) = if to_right {
                        (&mut left, &mut right)
                    } else {
                        (&mut right, &mut left)
                    };
                    if from.read_exact(&mut bytes).is_err() {
                        return;
                    }
                    if n == message + 1 {
                        bytes[len - 1] ^= 1;
                    }
                    if to.write_all(&bytes).is_err() {
                        return;
                    }
                }
                let mut last = Vec::new();
                let _ = right.read_to_end(&mut last);
                let _ = left.write_all(&last);
            });
            let answered = scope.spawn(|| b.answer(&inner));
            let typed = a.type_code(&address, &digits(&code.text()).unwrap());
            assert!(typed.is_err(), "{message}: {typed:?}");
            assert!(answered.join().unwrap().is_err(), "{message}");
        });
        assert!(a.knows().is_empty() && b.knows().is_empty(), "{message}");
    }
}

#[test]
fn codes_are_typed_as_people_type_them() {
    assert_eq!(digits(" 1234 5678\n").as_deref(), Some("12345678"));
    assert_eq!(digits("1234-5678").as_deref(), Some("12345678"));
    for bad in ["", "1234567", "123456789", "1234567a", "１２３４５６７８"] {
        assert_eq!(digits(bad), None, "{bad}");
    }
}
