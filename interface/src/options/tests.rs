//! Tests of the options.

use super::*;
use dunlin_migrate::state::files::GrantMode;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

fn parse(s: &str) -> Result<Options, OptionError> {
    Options::parse_opts(OsStr::new(s))
}

#[test]
fn every_option_survives_the_round_trip() {
    let text = "--dir /a --carry '/b c::/x' --carry-all /c --tcplisten 127.0.0.1:80 --accept-changed --env A=1 --env B --argv0 p \
                --checkpoint-on TERM,SIGUSR1 --checkpoint-to \"it's\" --checkpoint-every 90s --keep 7 --check --resume=r \
                --invoke 'f g' --stack-size 1M --max-memory 2G --no-control";
    let o = parse(text).unwrap();
    assert_eq!(
        o.dirs[0],
        Grant {
            host: "/a".into(),
            guest: "/a".into(),
            mode: GrantMode::Shared
        }
    );
    assert_eq!(
        o.dirs[1],
        Grant {
            host: "/b c".into(),
            guest: "/x".into(),
            mode: GrantMode::Carry
        }
    );
    assert_eq!((o.dirs[2].mode, o.listen.len()), (GrantMode::CarryAll, 1));
    assert!(o.accept_changed);
    assert_eq!(
        o.env[0],
        EnvVar {
            name: "A".into(),
            value: Some("1".into())
        }
    );
    assert_eq!(
        o.env[1],
        EnvVar {
            name: "B".into(),
            value: None
        }
    );
    assert_eq!(
        o.checkpoint_on,
        [Signal::from_name("TERM").unwrap(), Signal::from_name("USR1").unwrap()]
    );
    assert_eq!(o.checkpoint_to.as_deref(), Some("it's".as_ref()));
    assert_eq!((o.stack_size, o.max_memory), (Some(1 << 20), Some(2 << 30)));
    assert_eq!(o.invoke.as_deref(), Some("f g"));
    assert!(o.no_control && !o.commands);
    assert_eq!(Options::parse_opts(&o.to_opts_string()).unwrap(), o);
    let tests = Options {
        commands: true,
        host_calls: true,
        argv0: Some("\n--x".into()),
        ..Options::default()
    };
    assert_eq!(Options::parse_opts(&tests.to_opts_string()).unwrap(), tests);
    assert_eq!(Options::default().to_opts_string(), "");
}

#[test]
fn durations_have_units() {
    let every = |text: &str| {
        parse(&format!("--checkpoint-every {text} --checkpoint-to d"))
            .unwrap()
            .checkpoint_every
    };
    for (text, millis) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000)] {
        assert_eq!(every(text), Some(Duration::from_millis(millis)));
    }
}

#[test]
fn paths_need_not_be_utf8() {
    let path = PathBuf::from(OsStr::from_bytes(b"/\xff x"));
    let o = Options {
        resume: Some(path.clone()),
        ..Options::default()
    };
    assert_eq!(Options::parse_opts(&o.to_opts_string()).unwrap().resume, Some(path));
}

#[test]
fn bad_options_are_refused_by_name() {
    for (text, part) in [
        ("--nope", "--nope"),
        ("-d x", "-d"),
        ("--dir", "--dir"),
        ("--no-control=1", "no-control"),
        ("prog", "'prog'"),
        ("'open", "quote"),
        ("--dir ::x", "HOST"),
        ("--carry-all ::x", "--carry-all"),
        ("--tcplisten localhost", "ADDRESS"),
        ("--env =x", "NAME"),
        ("--checkpoint-on KILL --checkpoint-to x", "KILL"),
        ("--checkpoint-on TERM", "--checkpoint-to"),
        ("--commands --invoke f", "--invoke"),
        ("--host-calls", "--commands"),
        ("--stack-size 1", "range"),
        ("--stack-size +1M", "number"),
        ("--max-memory 99999999999G", "number"),
        ("--max-memory 5é", "number"),
        ("--resume ''", "path"),
        ("--checkpoint-every 1s", "--checkpoint-to"),
        ("--checkpoint-every 1 --checkpoint-to d", "30s"),
        ("--checkpoint-every 1d --checkpoint-to d", "30s"),
        ("--checkpoint-every -1s --checkpoint-to d", "30s"),
        ("--checkpoint-every 9ms --checkpoint-to d", "range"),
        ("--checkpoint-every 99999999999999999h --checkpoint-to d", "time"),
        ("--keep 3 --checkpoint-on TERM --checkpoint-to d", "--checkpoint-every"),
        ("--keep 0 --checkpoint-every 1s --checkpoint-to d", "from 1"),
        ("--resume a --resume-latest b", "--resume-latest"),
        ("--check", "--resume"),
    ] {
        let message = parse(text).expect_err(text).to_string();
        assert!(message.contains(part), "{text}: {message}");
    }
}

/// A person reads what to type, on the one line that there is.
#[test]
fn what_is_missing_is_named_with_what_it_takes() {
    for (text, add) in [
        ("--checkpoint-on TERM", "add --checkpoint-to FILE"),
        ("--checkpoint-every 1s", "add --checkpoint-to DIR"),
        ("--keep 3", "add --checkpoint-every TIME"),
        ("--evacuate-to ssh://pi", "add --checkpoint-to FILE"),
        ("--evacuate-within 5s", "add --evacuate-to HOST"),
        ("--check", "add --resume FILE"),
    ] {
        let message = parse(text).expect_err(text).to_string();
        assert!(message.ends_with(add) && !message.contains('\n'), "{text}: {message}");
    }
}

#[test]
fn the_command_line_comes_after_the_variable() {
    let words = ["--dir", "/c", "--carry=/b", "--dir=/a", "--keep=2"].map(OsString::from);
    let before = OsStr::new("--dir '/x y' --keep 5 --checkpoint-every 1s --checkpoint-to d");
    let o = Options::parse(before, words).unwrap();
    let names: Vec<_> = o.dirs.iter().map(|d| d.guest.as_str()).collect();
    assert_eq!(
        (names, o.keep),
        (vec!["/x y", "/c", "/b", "/a"], Some(2)),
        "in the order given: they are the program's descriptors"
    );
    assert_eq!(Options::parse_opts(&o.to_opts_string()).unwrap(), o);
    assert_eq!(o.of_group(Group::Host), o);
    let program = Options::parse(before, ["--dir", "/c", "prog"].map(OsString::from));
    assert_eq!(program.unwrap_err(), OptionError::Positional("prog".into()));
}

/// Something that an option can be given.
fn sample(entry: &Entry) -> &'static str {
    match entry.value.unwrap_or_default() {
        "" => "",
        "HOST[::GUEST]" => "/a b::/x",
        "ADDRESS:PORT" => "127.0.0.1:80",
        "SIGNAL[,SIGNAL]" => "TERM,USR1",
        "FILE" | "DIR" | "FILE|DIR" => "it's\n",
        "TIME" => "1500ms",
        "HOST" => "ssh://pi -- --dir '/a b'",
        "N" => "7",
        "BYTES" => "65536",
        "NAME[=VALUE]" => "A=b c",
        "NAME" => "--f g",
        other => panic!("--{}: what is a {other}?", entry.name),
    }
}

#[test]
fn every_entry_has_a_field_of_its_own_and_survives_the_round_trip() {
    for entry in TABLE {
        let mut o = Options::default();
        entry.set(&mut o, OsStr::new(sample(entry))).unwrap();
        let given: Vec<&str> = TABLE.iter().filter(|e| e.is_given(&o)).map(|e| e.name).collect();
        assert_eq!(given, [entry.name]);
        assert_eq!(entry.values(&o), [(0, sample(entry).into())], "--{}", entry.name);
        // What must be given with it, and with that.
        let mut pending = entry.needs.first();
        while let Some(need) = pending {
            let needed = Entry::of(need.split(' ').next().unwrap()).expect("it is in the table");
            assert!(needed.value.is_some() == need.contains(' '), "--{}: {need}", entry.name);
            needed.set(&mut o, OsStr::new(sample(needed))).unwrap();
            pending = needed.needs.first();
        }
        assert_eq!(Options::parse_opts(&o.to_opts_string()).unwrap(), o, "--{}", entry.name);
        for group in [Group::Host, Group::Start, Group::Resume, Group::Internal] {
            assert_eq!(
                entry.is_given(&o.of_group(group)),
                entry.group == group,
                "--{}",
                entry.name
            );
        }
    }
}

#[test]
fn the_table_is_consistent() {
    for (n, entry) in TABLE.iter().enumerate() {
        let name = entry.name;
        assert!(TABLE[..n].iter().all(|other| other.name != name), "--{name} twice");
        assert_eq!(entry.is_repeatable(), entry.help.ends_with("; repeatable"), "--{name}");
        for other in entry.conflicts {
            assert!(Entry::of(other).is_some(), "--{name}: {other}");
        }
    }
    for mode in [GrantMode::Shared, GrantMode::Carry, GrantMode::CarryAll] {
        let mut o = Options::default();
        let entry = Entry::of(mode.option()).expect("it is an option");
        entry.set(&mut o, OsStr::new("/a")).unwrap();
        assert_eq!(o.dirs[0].mode, mode);
    }
    let (keep, stack) = (Entry::of("keep").unwrap(), Entry::of("stack-size").unwrap());
    let default = format!("(default {})", dunlin_migrate::store::DEFAULT_KEEP);
    assert!(keep.help.contains(&default), "{}", keep.help);
    let default = format!("(default {}M)", DEFAULT_STACK_SIZE >> 20);
    assert!(stack.help.contains(&default), "{}", stack.help);
}

#[test]
fn the_readme_has_every_option_for_people_and_no_other() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let table = text
        .lines()
        .skip_while(|line| !line.starts_with("| Option | Meaning |"));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    // The first column, such as "| `--keep N`, `--dir HOST` | ...", without what it says of values.
    let cells = rows.map(|row| row.split(" | ").next().unwrap_or_default().trim_start_matches("| "));
    let words = cells.flat_map(|cell| cell.split('`').filter_map(|word| word.strip_prefix("--")));
    let mut documented: Vec<&str> = words
        .map(|word| word.split([' ', '=']).next().unwrap_or_default())
        .collect();
    let for_people = TABLE.iter().filter(|entry| entry.group != Group::Internal);
    let mut there: Vec<&str> = for_people.map(|entry| entry.name).collect();
    // One row may have several, and two rows the same one.
    documented.sort_unstable();
    documented.dedup();
    there.sort_unstable();
    assert_eq!(documented, there);
}

#[test]
fn the_guest_sees_only_what_is_granted() {
    let o = parse("--env A=1 --env A=2 --dir /a").unwrap();
    let config = o.wasi_config("prog", ["x".into()]).unwrap();
    assert_eq!(config.args, ["prog", "x"]);
    assert_eq!(config.env, [("A".to_owned(), "2".to_owned())]);
    assert_eq!(config.grants.len(), 1);
    let e = parse("--env DUNLIN_SURELY_NOT_SET")
        .unwrap()
        .wasi_config("prog", [])
        .unwrap_err();
    assert_eq!(e, OptionError::NoSuchVariable("DUNLIN_SURELY_NOT_SET".into()));
    let e = o.wasi_config("prog", [OsString::from_vec(vec![0xff])]).unwrap_err();
    assert!(e.to_string().contains("UTF-8"));
}
