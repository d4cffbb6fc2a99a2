//! `dunlin serve` between devices, which here are sets of directories: who is paired moves programs there and back, who
//! isn't hears nothing, and what isn't allowed is told.

use dunlin_format::arch::Arch;
use dunlin_tests::guest::clang;
use dunlin_tests::process::{Input, Outcome, Running, run, start};
use dunlin_tests::program::{CHECKPOINTED, scratch};
use dunlin_tests::tools;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The exit code of a `dunlin` that leaves a program standing still.
const STANDS_STILL: i32 = 4;

/// What the program counts to, and the work for each number: long enough for a move in its midst.
const COUNT: [&str; 2] = ["120", "1500000"];
const LONG: [&str; 2] = ["400", "1500000"];

/// Devices, each with directories of its own.
struct House {
    dir: TempDir,
}

/// A `dunlin serve`.
struct Serving {
    running: Running,
    port: u16,
}

impl House {
    /// The program and its module are on device a.
    fn new() -> House {
        let house = House { dir: scratch() };
        let source = tools::root().join("tests/programs/counter.c");
        let home = house.home("a");
        clang(&[source], &[], &home.join("counter.wasm"));
        house.dunlin("a", &["build", "-q", "counter.wasm"]).expect_code(0);
        house
    }

    fn home(&self, device: &str) -> PathBuf {
        let home = self.dir.path().join(device);
        for part in ["run", "state", "cache", "config"] {
            fs::create_dir_all(home.join(part)).unwrap();
            fs::set_permissions(home.join(part), fs::Permissions::from_mode(0o700)).unwrap();
        }
        home
    }

    fn on(&self, device: &str, program: &Path, words: &[&str]) -> Command {
        let home = self.home(device);
        let mut command = Command::new(program);
        command.args(words).current_dir(&home);
        for (variable, part) in [
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_CONFIG_HOME", "config"),
        ] {
            command.env(variable, home.join(part));
        }
        for variable in ["DUNLIN_OPTS", "DUNLIN_FORCE_MIGRATE", "DUNLIN_CHECKPOINT_AT"] {
            command.env_remove(variable);
        }
        command
    }

    fn dunlin(&self, device: &str, words: &[&str]) -> Outcome {
        run(self.on(device, tools::dunlin(), words), Input::Empty, PATIENCE)
    }

    /// Starts the program on device a.
    fn start(&self, count: [&str; 2]) -> Running {
        let mut running = start(self.on("a", &self.program(), &count), Input::Empty, PATIENCE);
        running.wait_for("3 ");
        running
    }

    fn program(&self) -> PathBuf {
        self.home("a").join(format!("counter.{}", Arch::host().unwrap()))
    }

    /// What an undisturbed run says.
    fn expected(&self, count: [&str; 2]) -> String {
        let outcome = run(self.on("a", &self.program(), &count), Input::Empty, PATIENCE);
        outcome.expect_code(0).out()
    }

    fn serve(&self, device: &str, words: &[&str]) -> Serving {
        let words = [&["serve", "--listen", "127.0.0.1:0"], words].concat();
        let mut running = start(self.on(device, tools::dunlin(), &words), Input::Empty, PATIENCE);
        running.wait_for_error("listening on 127.0.0.1:");
        running.wait_for_error("\n");
        let said = running.errors_so_far();
        let port = said.lines().find_map(|l| l.rsplit_once(':')?.1.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {said}"));
        Serving { running, port }
    }

    /// Pairs two devices; the second one serves.
    fn pair(&self, from: &str, to: &str, serving: &Serving) {
        let mut shown = start(self.on(to, tools::dunlin(), &["pair"]), Input::Empty, PATIENCE);
        shown.wait_for("one try)\n");
        let text = String::from_utf8(shown.stdout_so_far()).unwrap();
        assert!(text.contains(&format!(":{}\n", serving.port)), "{text}");
        let code = text
            .split("Code:")
            .nth(1)
            .unwrap()
            .split('(')
            .next()
            .unwrap()
            .to_owned();
        let words = ["pair", &format!("127.0.0.1:{}", serving.port)];
        let typed = run(
            self.on(from, tools::dunlin(), &words),
            Input::Bytes(format!("{code}\n").into_bytes()),
            PATIENCE,
        );
        assert!(typed.out().starts_with("paired with "), "{typed}");
        typed.expect_code(0);
        assert!(shown.finish().expect_code(0).out().contains("paired with "));
        for (device, name) in [(from, to), (to, from)] {
            let peers = json(&self.dunlin(device, &["peers", "--json"]));
            let known = peers["peers"].as_array().unwrap();
            let host = known.iter().filter_map(|p| p["name"].as_str());
            let host = host.filter(|n| !["a", "b", "c"].contains(n)).collect::<Vec<_>>();
            self.dunlin(device, &["peers", "rename", host[0], name]).expect_code(0);
        }
    }

    fn migrate(&self, from: &str, pid: u32, to: &str, words: &[&str]) -> Outcome {
        let pid = pid.to_string();
        self.dunlin(from, &[&["migrate", &pid, to, "--json"], words].concat())
    }

    /// What programs that came have said on a device.
    fn logs(&self, device: &str) -> String {
        let entries = fs::read_dir(self.home(device).join("state/dunlin/logs"));
        let paths = entries.into_iter().flatten().map(|e| e.unwrap().path());
        paths.map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    fn wait_for(&self, device: &str, needle: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.logs(device).contains(needle) {
            assert!(Instant::now() < deadline, "{device}: {}", self.logs(device));
            sleep(Duration::from_millis(10));
        }
    }

    /// The transfers that aren't over on a device.
    fn open(&self, device: &str) -> Vec<String> {
        let entries = fs::read_dir(self.home(device).join("state/dunlin")).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        names
            .filter(|n| n.starts_with("in-") || n.starts_with("out-"))
            .collect()
    }

    /// Waits until no transfer is open on a device.
    fn wait_until_over(&self, device: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.open(device).is_empty() {
            assert!(Instant::now() < deadline, "{device}: {:?}", self.open(device));
            sleep(Duration::from_millis(10));
        }
    }
}

impl Serving {
    /// Asks it to end.
    fn end(self) -> Outcome {
        self.running.signal(Signal::TERM);
        self.running.finish().expect_code(0)
    }
}

fn json(outcome: &Outcome) -> serde_json::Value {
    let text = outcome.out();
    // Of a move, the last line is the report, should there be others before it.
    let last = || serde_json::from_str(text.lines().last().unwrap_or_default());
    let read = serde_json::from_str(&text).or_else(|_| last());
    read.unwrap_or_else(|e| panic!("{e}: {outcome}"))
}

fn pid_of(moved: &Outcome) -> u32 {
    json(moved)["pid"].as_u64().unwrap() as u32
}

#[test]
fn a_program_goes_to_a_paired_device_and_back() {
    let house = House::new();
    let (on_a, on_b) = (house.serve("a", &[]), house.serve("b", &[]));
    house.pair("a", "b", &on_b);
    let running = house.start(LONG);
    // Device b has nothing of the program: it gets the module, and compiles it.
    let moved = house.migrate("a", running.pid(), "b", &[]).expect_code(0);
    let module = fs::metadata(house.home("a").join("counter.wasm")).unwrap().len();
    assert_eq!(json(&moved)["executable_bytes"], module);
    let here = running.finish().expect_code(CHECKPOINTED);
    house.wait_for("b", "\n");
    // The address, too, says which device is meant.
    let to = format!("127.0.0.1:{}", on_a.port);
    let back = house.migrate("b", pid_of(&moved), &to, &[]).expect_code(0);
    assert_eq!(json(&back)["executable_bytes"], 0, "it is there: {}", back.out());
    house.wait_for("a", "done\n");
    let said = here.out() + &house.logs("b") + &house.logs("a");
    let moved_away = |line: &&str| !line.starts_with("Warning: the program has moved to ");
    let said: String = said.lines().filter(moved_away).map(|l| format!("{l}\n")).collect();
    assert_eq!(said, house.expected(LONG));
    for (device, serving) in [("a", on_a), ("b", on_b)] {
        house.wait_until_over(device);
        let said = serving.end().err();
        assert!(!said.contains("cut off"), "{said}");
        let kept = fs::read_dir(house.home(device).join("state/dunlin/programs")).unwrap();
        assert!(device == "a" || kept.count() == 0, "ended programs are not counted");
    }
}

#[test]
fn a_module_is_compiled_for_the_other_architecture() {
    let house = House::new();
    let other = Arch::ALL.into_iter().find(|a| Some(*a) != Arch::host()).unwrap();
    let qemu = format!("{other}={}", tools::qemu().display());
    let on_b = house.serve("b", &["--emulator", &qemu]);
    house.pair("a", "b", &on_b);
    let running = house.start(LONG);
    let moved = house.migrate("a", running.pid(), "b", &[]).expect_code(0);
    assert_eq!(json(&moved)["arch"], other.name());
    let here = running.finish().expect_code(CHECKPOINTED);
    house.wait_for("b", "done\n");
    assert_eq!(here.out() + &house.logs("b"), house.expected(LONG));
    on_b.end();
}

/// Without `dunlin serve`, `dunlin pair` answers itself.
#[test]
fn a_wrong_code_is_told_on_both_sides() {
    let house = House { dir: scratch() };
    let meet = |wrong: bool| {
        let words = ["pair", "--listen", "127.0.0.1:0"];
        let mut shown = start(house.on("b", tools::dunlin(), &words), Input::Empty, PATIENCE);
        shown.wait_for("one try)\n");
        let text = String::from_utf8(shown.stdout_so_far()).unwrap();
        let (_, port) = text.lines().next().unwrap().rsplit_once(':').unwrap();
        let code = text.split("Code:").nth(1).unwrap().split('(').next().unwrap().trim();
        let code = match wrong {
            false => code,
            true if code == "0000 0000" => "00000001",
            true => "00000000",
        };
        let typed = house.dunlin("a", &["pair", &format!("127.0.0.1:{port}"), code]);
        (typed, shown.finish())
    };
    let known = |device: &str| {
        json(&house.dunlin(device, &["peers", "--json"]))["peers"]
            .as_array()
            .unwrap()
            .len()
    };
    let (typed, shown) = meet(true);
    assert!(
        typed.err().contains("not the one that the other device shows"),
        "{typed}"
    );
    assert!(shown.err().contains("another code; nothing was stored"), "{shown}");
    typed.expect_code(1);
    shown.expect_code(1);
    assert_eq!((known("a"), known("b")), (0, 0));
    let (typed, shown) = meet(false);
    typed.expect_code(0);
    shown.expect_code(0);
    assert_eq!((known("a"), known("b")), (1, 1));
}

#[test]
fn what_is_not_allowed_is_told_and_the_program_runs_on() {
    let house = House::new();
    let on_b = house.serve("b", &["--max-programs", "0"]);
    house.pair("a", "b", &on_b);
    on_b.end();
    let expected = house.expected(COUNT);
    let refused = |words: &[&str], code: i32, why: &str, more: &[&str]| {
        let serving = house.serve("b", words);
        let to = format!("127.0.0.1:{}", serving.port);
        let running = house.start(COUNT);
        let outcome = house.migrate("a", running.pid(), &to, more).expect_code(code);
        assert!(outcome.err().contains(why), "{words:?}: {outcome}");
        assert_eq!(running.finish().expect_code(0).out(), expected);
        assert_eq!(house.open("a"), [""; 0]);
        serving.end();
    };
    refused(&["--max-programs", "0"], 3, "as many programs as it takes (0)", &[]);
    refused(
        &["--max-memory", "1K"],
        3,
        "1 thing stands in the way; it runs on here",
        &[],
    );
    let little = ["--max-memory", "1G", "--total-memory", "512M"];
    refused(&little, 3, "may take 512.0 MiB together", &[]);
    refused(&["--max-state", "1K"], 3, "1.0 KiB may come", &[]);
    refused(&["--max-executable", "1K"], 1, "1.0 KiB may come; it goes on here", &[]);
    let source = house.home("a").join("counter.wasm");
    let hidden = house.home("a").join("elsewhere.bin");
    fs::rename(&source, &hidden).unwrap();
    refused(&[], 3, "its module is not at hand", &[]);
    let wrong = house.program();
    refused(&[], 3, "is not the module", &["--module", wrong.to_str().unwrap()]);
    // Where executables are taken, it goes without.
    let serving = house.serve("b", &["--executables", "paired"]);
    let to = format!("127.0.0.1:{}", serving.port);
    let running = house.start(LONG);
    let moved = house.migrate("a", running.pid(), &to, &[]).expect_code(0);
    assert!(
        json(&moved)["executable_bytes"].as_u64().unwrap() > 100_000,
        "{}",
        moved.out()
    );
    let here = running.finish().expect_code(CHECKPOINTED).out();
    // `dunlin serve` ends, the program is still there, and counts when it is started again.
    serving.end();
    let there = Pid::from_raw(pid_of(&moved) as i32).unwrap();
    kill_process(there, Signal::STOP).unwrap();
    let again = house.serve("b", &["--executables", "paired", "--max-programs", "1"]);
    let other = house.start(COUNT);
    let to = format!("127.0.0.1:{}", again.port);
    let full = house.migrate("a", other.pid(), &to, &[]).expect_code(3);
    assert!(full.err().contains("as many programs as it takes (1)"), "{full}");
    kill_process(there, Signal::CONT).unwrap();
    house.wait_for("b", "done\n");
    assert_eq!(here + &house.logs("b"), house.expected(LONG));
    assert_eq!(other.finish().expect_code(0).out(), expected);
    again.end();
}

#[test]
fn whoever_is_not_paired_hears_nothing() {
    let house = House::new();
    let on_b = house.serve("b", &[]);
    let address = format!("127.0.0.1:{}", on_b.port);
    let mut strangers = Vec::new();
    for sent in [
        &b""[..],
        b"\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        &[1; 105],
        &[2; 34],
        &[7; 9000],
    ] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(sent).unwrap();
        strangers.push(stream);
    }
    let expected = house.expected(COUNT);
    let refused = |to: &str, why: &str| {
        let running = house.start(COUNT);
        let outcome = house.migrate("a", running.pid(), to, &[]).expect_code(1);
        assert!(outcome.err().contains(why), "{outcome}");
        assert_eq!(running.finish().expect_code(0).out(), expected);
    };
    refused(&address, "`dunlin pair` there");
    house.pair("a", "b", &on_b);
    // A wrong code, and one that is used up.
    let wrong = house.dunlin("c", &["pair", &address, "0000 0000"]).expect_code(1);
    assert!(wrong.err().contains("shows no code"), "{wrong}");
    house.dunlin("b", &["peers", "forget", "a"]).expect_code(0);
    refused("b", "does not answer");
    house.dunlin("a", &["peers", "forget", "b"]).expect_code(0);
    refused("b", "not paired");
    for mut stream in strangers {
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        assert_eq!(got, [0; 0]);
    }
    assert_eq!(house.open("b"), [""; 0]);
    on_b.end();
}

/// Neither many connections nor too few descriptors end it.
#[test]
fn too_many_connections_are_survived() {
    let house = House { dir: scratch() };
    let line = format!(
        "ulimit -n 24; exec {} serve --listen 127.0.0.1:0",
        tools::dunlin().display()
    );
    let mut running = start(house.on("b", Path::new("sh"), &["-c", &line]), Input::Empty, PATIENCE);
    running.wait_for_error("listening on 127.0.0.1:");
    running.wait_for_error("\n");
    let said = running.errors_so_far();
    let port = said.trim().rsplit_once(':').unwrap().1.parse().unwrap();
    let serving = Serving { running, port };
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut many: Vec<TcpStream> = (0..40).map(|_| connect()).collect();
    for stream in &mut many {
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        assert_eq!(got, [0; 0]);
    }
    drop(many);
    house.pair("a", "b", &serving);
    serving.end();
}

/// `dunlin serve` is killed at any instant; then it is started again, and both sides settle.
#[test]
fn a_killed_server_loses_nothing() {
    let house = House::new();
    let expected = house.expected(LONG);
    let mut serving = house.serve("b", &[]);
    house.pair("a", "b", &serving);
    let rounds = std::env::var("DUNLIN_MIGRATE_KILLS").ok().and_then(|n| n.parse().ok());
    let rounds = rounds.unwrap_or(4_u32);
    let mut seen = [0; 2];
    // How long an undisturbed move takes here; after it, device b has the executable.
    let undisturbed = house.start(LONG);
    let begun = Instant::now();
    house.migrate("a", undisturbed.pid(), "b", &[]).expect_code(0);
    undisturbed.finish().expect_code(CHECKPOINTED);
    let whole = begun.elapsed();
    house.wait_for("b", "done\n");
    for round in 0..rounds {
        let _ = fs::remove_dir_all(house.home("b").join("state/dunlin/logs"));
        let port = serving.port.to_string();
        let running = house.start(LONG);
        let words = ["migrate", &running.pid().to_string(), "b"];
        let moving = start(house.on("a", tools::dunlin(), &words), Input::Empty, PATIENCE);
        sleep(whole.mul_f64(f64::from(round) / f64::from(rounds)));
        serving.running.signal(Signal::KILL);
        serving.running.finish();
        // The same port, where device a looks for it.
        let again = ["serve", "--listen", &format!("127.0.0.1:{port}")];
        let mut running_again = start(house.on("b", tools::dunlin(), &again), Input::Empty, PATIENCE);
        running_again.wait_for_error("listening on");
        serving = Serving {
            running: running_again,
            port: serving.port,
        };
        moving.finish();
        let settled = house.dunlin("a", &["settle"]);
        if settled.code() == STANDS_STILL {
            // It ran to its end before anybody could note that it runs: only a person can tell.
            assert!(settled.out().contains("perhaps after it had gone on"), "{settled}");
            assert!(house.logs("b").ends_with("done\n"), "round {round}: {settled}");
            let said = String::from_utf8(running.stdout_so_far()).unwrap();
            assert_eq!(said + &house.logs("b"), expected, "round {round}");
            break;
        }
        settled.expect_code(0);
        house.dunlin("b", &["settle"]);
        let here = running.finish();
        let gone = here.code() == CHECKPOINTED;
        seen[usize::from(gone)] += 1;
        if gone {
            house.wait_for("b", "done\n");
        }
        assert_eq!(here.out() + &house.logs("b"), expected, "round {round}, gone: {gone}");
        assert_eq!(house.open("a"), [""; 0], "round {round}");
    }
    println!("{} stayed, {} moved", seen[0], seen[1]);
    serving.end();
}

#[test]
fn a_configuration_is_read_and_what_is_wrong_in_it_is_told() {
    let house = House { dir: scratch() };
    let file = house.home("b").join("config/dunlin/serve.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "max-programs = 2\n\nmax-program = 3\n").unwrap();
    let wrong = house.dunlin("b", &["serve"]).expect_code(2);
    assert!(
        wrong.err().contains("serve.toml: line 3: max-program is not known"),
        "{wrong}"
    );
    fs::write(&file, "total-memory = \"1G\"\n").unwrap();
    let wrong = house.dunlin("b", &["serve"]).expect_code(2);
    assert!(wrong.err().contains("needs max-memory"), "{wrong}");
    fs::write(&file, "listen = \"127.0.0.1:0\"\nname = \"attic\"\n").unwrap();
    let mut running = start(house.on("b", tools::dunlin(), &["serve"]), Input::Empty, PATIENCE);
    running.wait_for_error("listening on 127.0.0.1:");
    let second = house.dunlin("b", &["serve"]).expect_code(1);
    assert!(second.err().contains("it runs already"), "{second}");
    let mut shown = start(house.on("b", tools::dunlin(), &["pair"]), Input::Empty, PATIENCE);
    shown.wait_for("dunlin pair attic:");
    shown.signal(Signal::INT);
    assert!(shown.finish().expect_code(1).err().contains("interrupted"));
    running.signal(Signal::INT);
    running.finish().expect_code(0);
}
