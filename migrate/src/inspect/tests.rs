//! Tests of both forms.

use super::text::bytes;
use super::*;
use crate::snapshot::{self, PAGE_SIZE};
use crate::state::wasi::{Descriptor, Resource, Stdio};
use crate::state::{Exception, State};
use crate::testing;
use crate::transfer::{AtRest, MemoryAtRest, Sink};
use dunlin_format::image::{Names, NamesBuilder};
use dunlin_format::types::Value;
use serde_json::json;
use std::io::Cursor;

fn sample(state: &State) -> Snapshot<Cursor<Vec<u8>>> {
    let mut memory = vec![0; 5 * PAGE_SIZE];
    memory[PAGE_SIZE] = 1;
    let mut out = Vec::new();
    snapshot::write(&mut out, state, &[&memory]).unwrap();
    Snapshot::open(Cursor::new(out)).unwrap()
}

fn state() -> State {
    let descriptor = |fd, resource| Descriptor {
        fd,
        rights: 0,
        inheriting: 0,
        flags: 0,
        resource,
    };
    let mut state = testing::state();
    state.wasi.args = vec!["made-up".into(), "\u{1b}[31mred".into()];
    state.wasi.env = vec![("TOKEN".into(), "secret".into())];
    state.wasi.grants = vec!["/data".into()];
    state.wasi.descriptors = vec![
        descriptor(
            0,
            Resource::Stdio {
                stream: Stdio::Stdin,
                offset: Some(7),
            },
        ),
        descriptor(
            3,
            Resource::Directory {
                grant: 0,
                path: "".into(),
                preopened: true,
                listing: None,
            },
        ),
        descriptor(
            4,
            Resource::File {
                grant: 0,
                path: "a/b".into(),
                offset: 12,
                size: 100,
            },
        ),
    ];
    state
}

fn names() -> Vec<u8> {
    let mut names = NamesBuilder::new();
    [None, Some("main"), Some("rec\u{7}")]
        .iter()
        .for_each(|n| names.push(*n));
    names.finish()
}

#[test]
fn text_tells_everything() {
    let names = names();
    let shown = text(&sample(&state()), Some(&Names::parse(&names).unwrap()));
    for part in [
        "module       ",
        "invoked      \"_start\"",
        "innermost first (4)",
        "#0    rec\\u{7} (function 2) at 0x40, loop",
        "local 0 = i32 2, stack 1 = f64 NaN (0x7ff8000000000002)",
        "#3    main (function 1) at 0x28, call",
        "stack 0 = funcref null",
        "memory 0   5 pages (320.0 KiB), 1 stored",
        "0 = i32 1, 1 = funcref 2, 2 = i64 8",
        "table 0    3 elements, 2 not null",
        "1 of 1 element segments dropped, 1 of 2 data",
        "\"\\u{1b}[31mred\"",
        "TOKEN (values not shown)",
        "fd 0         standard input, 7 bytes read",
        "directory \"\" below \"/data\", preopened",
        "file \"a/b\" below \"/data\", at 12 of 100 bytes",
    ] {
        assert!(shown.contains(part), "{part:?} isn't in:\n{shown}");
    }
    assert!(!shown.contains("secret"));
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()));
    assert!(text(&sample(&state()), None).contains("#0    (function 2) at 0x40"));
}

#[test]
fn exceptions_are_shown() {
    let state = State {
        exceptions: vec![
            Some(Exception {
                tag: 3,
                values: vec![Value::I32(5), Value::ExnRef(Some(2))],
                referenced: true,
            }),
            None,
            Some(Exception {
                tag: 0,
                values: vec![],
                referenced: false,
            }),
        ],
        ..state()
    };
    let snapshot = sample(&state);
    let shown = text(&snapshot, None);
    for part in [
        "exception 0 thrown by reference with tag 3, carries i32 5, exnref 2\n",
        "exception 2 thrown with tag 0, carries nothing\n",
    ] {
        assert!(shown.contains(part), "{part:?} isn't in:\n{shown}");
    }
    assert!(!shown.contains("exception 1 "), "{shown}");
    let json = json(&snapshot, None);
    assert_eq!(
        json["exceptions"],
        json!([
            {
                "tag": 3,
                "referenced": true,
                "values": [{ "type": "i32", "value": 5 }, { "type": "exnref", "value": 2 }],
            },
            null,
            { "tag": 0, "referenced": false, "values": [] },
        ])
    );
    let many = State {
        exceptions: vec![state.exceptions[2].clone(); 70],
        ..state
    };
    assert!(text(&sample(&many), None).contains("\n  ... 6 more exceptions\n"));
}

#[test]
fn sections_are_shown() {
    let snapshot = sample(&state());
    let shown = text(&snapshot, None);
    let state_bytes = snapshot.sections()[0].len;
    let part = format!("sections     state {} (version 1), pages ", bytes(state_bytes));
    assert!(shown.contains(&part), "{part:?} isn't in:\n{shown}");
    let json = json(&snapshot, None);
    assert_eq!(
        json["sections"][0],
        json!({ "id": 1, "name": "state", "version": 1, "bytes": state_bytes })
    );
    assert_eq!(json["sections"].as_array().unwrap().len(), snapshot.sections().len());
}

#[test]
fn bases_are_shown() {
    let mut memory = vec![1; 5 * PAGE_SIZE];
    let mut make = |earlier: &snapshot::Earlier| {
        let mut out = Vec::new();
        memory[0] += 1;
        let program = AtRest {
            state: &state(),
            memories: &[MemoryAtRest::new(&memory)],
            contents: &snapshot::NoContents,
        };
        snapshot::SnapshotSink::incremental(&mut out, earlier)
            .take(&program)
            .unwrap();
        Cursor::new(out)
    };
    let first = make(&snapshot::Earlier::default());
    let earlier = snapshot::Earlier::of(&Snapshot::open(first.clone()).unwrap(), "a\u{7}").unwrap();
    let mut second = Snapshot::open(make(&earlier)).unwrap();
    let shown = text(&second, None);
    assert!(
        shown.contains("bases        \"a\\u{7}\": 4 of its 5 pages (not there"),
        "{shown}"
    );
    second.attach(0, first).unwrap();
    let shown = text(&second, None);
    assert!(
        shown.contains("4 of its 5 pages\n") && shown.contains("1 stored, 4 in bases"),
        "{shown}"
    );
    let json = json(&second, None);
    assert_eq!(
        (&json["bases"][0]["used"], &json["bases"][0]["present"]),
        (&json!(4), &json!(true))
    );
}

#[test]
fn deep_stacks_are_cut() {
    let state = State {
        frames: testing::frames(1000, false),
        ..testing::state()
    };
    let shown = text(&sample(&state), None);
    assert!(shown.contains("  ... 937 more\n  #985 "), "{shown}");
    assert!(shown.contains("#47 ") && shown.contains("#1000 ") && !shown.contains("#48 "));
}

#[test]
fn json_tells_everything() {
    let names = names();
    let json = json(&sample(&state()), Some(&Names::parse(&names).unwrap()));
    assert_eq!(json["format"], 1);
    assert_eq!(json["module"], state().module.to_string());
    assert_eq!(json["invocation"]["name"], "_start");
    let inner = &json["frames"][0];
    assert_eq!(
        (&inner["name"], &inner["kind"], &inner["offset"]),
        (&json!("rec\u{7}"), &json!("loop"), &json!(0x40))
    );
    assert_eq!(inner["values"][1]["bits"], "0x7ff8000000000002");
    assert_eq!(
        (&inner["values"][0]["place"], &inner["values"][0]["value"]),
        (&json!("local"), &json!(2))
    );
    assert_eq!(json["frames"][3]["name"], "main");
    assert_eq!(
        json["memories"],
        json!([{ "pages": 5, "stored_pages": 1, "base_pages": 0 }])
    );
    assert_eq!(json["tables"][0]["not_null"], 2);
    assert_eq!(json["wasi"]["env"], json!(["TOKEN"]));
    assert_eq!(json["wasi"]["descriptors"][2]["fd"], 4);
    assert!(!json.to_string().contains("secret"));
}
