//! Tests of the options.

use super::*;

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
        ("--check", "add --resume FILE"),
    ] {
        let message = parse(text).expect_err(text).to_string();
        assert!(message.ends_with(add) && !message.contains('\n'), "{text}: {message}");
    }
}

#[test]
fn leading_options_stop_at_the_program() {
    let words = ["--dir", "/a", "prog", "--dir", "x"].map(OsString::from);
    let (o, rest) = Options::parse_leading(words).unwrap();
    assert_eq!(
        (o.dirs.len(), rest),
        (1, ["prog", "--dir", "x"].map(OsString::from).to_vec())
    );
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
