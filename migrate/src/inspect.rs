//! A snapshot shown to a person (text) or to a program (JSON).
//!
//! Everything a snapshot says is shown escaped: its bytes may come from anywhere, and a terminal obeys control
//! characters. Values of environment variables are left out, because they are often secrets.

mod json;

pub use json::{json, write_json};

use crate::snapshot::{PAGE_SIZE, Section, SectionKind, Snapshot};
use crate::state::wasi::{Resource, Stdio, WasiState};
use crate::state::{Exception, Frame, Invocation, State};
use dunlin_format::image::Names;
use dunlin_format::types::Value;
use std::fmt::{Display, Write};

/// Frames that the text shows of a deep stack, from the innermost and from the outermost.
const SHOWN_FRAMES: (usize, usize) = (48, 16);
/// Values of a frame, and globals, that the text shows.
const SHOWN_VALUES: usize = 64;

/// The snapshot as text. `names` are those of the program's executable, if it is at hand.
pub fn text<R>(snapshot: &Snapshot<R>, names: Option<&Names<'_>>) -> String {
    let mut out = String::new();
    // Writing to a string doesn't fail.
    let _ = write_text(&mut out, snapshot, names);
    out
}

/// How many pages are stored of each memory, in the file itself and in its bases.
fn stored_pages<R>(snapshot: &Snapshot<R>) -> Vec<(u64, u64)> {
    let mut stored = vec![(0, 0); snapshot.state().memories.len()];
    for run in snapshot.runs() {
        if let Some((own, bases)) = stored.get_mut(run.memory as usize) {
            *(if run.file == 0 { own } else { bases }) += run.count;
        }
    }
    stored
}

/// The section's name; none if this Dunlin doesn't know it.
fn section_name(section: &Section) -> Option<&'static str> {
    SectionKind::of(section.id).map(SectionKind::name)
}

fn write_sections<R>(out: &mut String, snapshot: &Snapshot<R>) -> std::fmt::Result {
    let shown = |section: &Section| {
        let name = section_name(section).map_or(format!("unknown ({})", section.id), str::to_owned);
        format!("{name} {} (version {})", bytes(section.len), section.version)
    };
    writeln!(out, "sections     {}", list(snapshot.sections().iter().map(shown)))
}

fn write_bases<R>(out: &mut String, snapshot: &Snapshot<R>) -> std::fmt::Result {
    for (nth, base) in snapshot.bases().iter().enumerate() {
        let label = if nth == 0 { "bases" } else { "" };
        writeln!(
            out,
            "{label:12} {:?}: {} of its {} pages{}",
            base.name,
            snapshot.pages_from(nth),
            base.pages,
            if snapshot.is_attached(nth) {
                ""
            } else {
                " (not there, or another file)"
            }
        )?;
    }
    Ok(())
}

fn write_text<R>(out: &mut String, snapshot: &Snapshot<R>, names: Option<&Names<'_>>) -> std::fmt::Result {
    let (header, state) = (snapshot.header(), snapshot.state());
    writeln!(
        out,
        "snapshot     format {}, {}",
        header.version,
        bytes(header.total_len)
    )?;
    write_sections(out, snapshot)?;
    write_bases(out, snapshot)?;
    writeln!(out, "module       {}", header.module)?;
    match &state.invocation {
        Invocation::Start => writeln!(out, "invoked      the start function")?,
        Invocation::Export(name) => writeln!(out, "invoked      {name:?}")?,
    }
    writeln!(out, "\nframes, innermost first ({})", state.frames.len())?;
    let (inner, outer) = SHOWN_FRAMES;
    let total = state.frames.len();
    let elided = total.saturating_sub(inner + outer);
    for (depth, frame) in state.frames.iter().rev().enumerate() {
        if elided > 0 && depth == inner {
            writeln!(out, "  ... {elided} more")?;
        }
        if elided == 0 || depth < inner || depth >= total - outer {
            write_frame(out, depth, frame, names)?;
        }
    }
    write_instance(out, state, &stored_pages(snapshot))?;
    write_wasi(out, &state.wasi)
}

fn write_frame(out: &mut String, depth: usize, frame: &Frame, names: Option<&Names<'_>>) -> std::fmt::Result {
    let name = names
        .and_then(|n| n.get(frame.func))
        .map_or(String::new(), |n| format!("{} ", escaped(n)));
    writeln!(
        out,
        "  #{depth:<4} {name}(function {}) at {:#x}, {}",
        frame.func, frame.offset, frame.kind
    )?;
    if !frame.values.is_empty() {
        writeln!(
            out,
            "        {}",
            list(
                frame
                    .values
                    .iter()
                    .map(|(slot, value)| format!("{slot} = {}", shown(*value)))
            )
        )?;
    }
    Ok(())
}

fn write_instance(out: &mut String, state: &State, stored: &[(u64, u64)]) -> std::fmt::Result {
    // Every field by name: a new one must not be forgotten here. The first four are shown apart.
    let State {
        module: _,
        invocation: _,
        frames: _,
        wasi: _,
        globals,
        memories,
        tables,
        dropped_elements,
        dropped_data,
        exceptions,
    } = state;
    writeln!(out, "\ninstance")?;
    for (n, (memory, (own, bases))) in memories.iter().zip(stored).enumerate() {
        let size = memory.pages.saturating_mul(PAGE_SIZE as u64);
        let bases = match bases {
            0 => String::new(),
            n => format!(", {n} in bases"),
        };
        writeln!(
            out,
            "  memory {n}   {} pages ({}), {own} stored{bases}, the others are zero",
            memory.pages,
            bytes(size)
        )?;
    }
    if !globals.is_empty() {
        writeln!(
            out,
            "  globals    {}",
            list(globals.iter().enumerate().map(|(n, v)| format!("{n} = {}", shown(*v))))
        )?;
    }
    for (n, table) in tables.iter().enumerate() {
        writeln!(
            out,
            "  table {n}    {} elements, {} not null",
            table.elements.len(),
            table.elements.iter().flatten().count()
        )?;
    }
    let dropped = |segments: &[bool]| format!("{} of {}", segments.iter().filter(|d| **d).count(), segments.len());
    let (elements, data) = (dropped(dropped_elements), dropped(dropped_data));
    writeln!(
        out,
        "  segments   {elements} element segments dropped, {data} data segments"
    )?;
    write_exceptions(out, exceptions)
}

/// Exceptions that references refer to; nothing of those that were forgotten but their number.
fn write_exceptions(out: &mut String, exceptions: &[Option<Exception>]) -> std::fmt::Result {
    let there = exceptions
        .iter()
        .enumerate()
        .filter_map(|(n, e)| Some((n, e.as_ref()?)));
    for (n, exception) in there.clone().take(SHOWN_VALUES) {
        let Exception {
            tag,
            values,
            referenced,
        } = exception;
        let thrown = if *referenced { " by reference" } else { "" };
        let values = match values.is_empty() {
            true => "nothing".into(),
            false => list(values.iter().map(|v| shown(*v))),
        };
        writeln!(out, "  exception {n} thrown{thrown} with tag {tag}, carries {values}")?;
    }
    match there.count().saturating_sub(SHOWN_VALUES) {
        0 => Ok(()),
        more => writeln!(out, "  ... {more} more exceptions"),
    }
}

fn write_wasi(out: &mut String, wasi: &WasiState) -> std::fmt::Result {
    writeln!(out, "\nhost")?;
    writeln!(
        out,
        "  arguments    {}",
        list(wasi.args.iter().map(|a| format!("{a:?}")))
    )?;
    let env = list(wasi.env.iter().map(|(name, _)| escaped(name)));
    writeln!(
        out,
        "  environment  {}",
        if env.is_empty() {
            "empty".into()
        } else {
            format!("{env} (values not shown)")
        }
    )?;
    writeln!(
        out,
        "  directories  {}",
        list(wasi.grants.iter().map(|g| format!("{g:?}")))
    )?;
    writeln!(out, "  clock        {:.3} s", wasi.times.monotonic as f64 / 1e9)?;
    if wasi.files.modes.iter().any(|m| m.carries()) {
        let files = &wasi.files;
        let data = files.chunks.iter().fold(0u64, |sum, c| sum.saturating_add(c.len));
        let in_bases = match data.saturating_sub(files.stored_len()) {
            0 => String::new(),
            rest => format!(", {} in bases", bytes(rest)),
        };
        writeln!(
            out,
            "  carried      {} files and directories, {} stored{in_bases}",
            files.nodes.len(),
            bytes(files.stored_len())
        )?;
    }
    for d in &wasi.descriptors {
        let below = |grant: u32, path: &str| {
            let grant = wasi.grants.get(grant as usize).map_or("(unknown)", |g| g.as_str());
            format!("{path:?} below {grant:?}")
        };
        let what = match &d.resource {
            Resource::Stdio { stream, offset } => {
                let stream = match stream {
                    Stdio::Stdin => "standard input",
                    Stdio::Stdout => "standard output",
                    Stdio::Stderr => "standard error",
                };
                format!(
                    "{stream}{}",
                    offset.map_or(String::new(), |o| format!(", {o} bytes read"))
                )
            }
            Resource::Directory {
                grant,
                path,
                preopened,
                listing,
            } => {
                let preopened = if *preopened { ", preopened" } else { "" };
                let listing = listing
                    .as_ref()
                    .map_or(String::new(), |l| format!(", being listed ({} names)", l.len()));
                format!("directory {}{preopened}{listing}", below(*grant, path))
            }
            Resource::File {
                grant,
                path,
                offset,
                size,
            } => format!("file {}, at {offset} of {size} bytes", below(*grant, path)),
            Resource::Unlinked { file, offset } => {
                let content = wasi.files.unlinked.get(*file as usize).map(|u| u.content as usize);
                let size = content.and_then(|c| wasi.files.contents.get(c)).map_or(0, |c| c.len);
                format!("deleted file, carried, at {offset} of {size} bytes")
            }
            Resource::Listener { index } => {
                let address = wasi.files.listeners.get(*index as usize);
                format!("listening socket, {:?}", address.map_or("(unknown)", |a| a.as_str()))
            }
        };
        writeln!(out, "  fd {:<9} {what}", d.fd)?;
    }
    Ok(())
}

/// A value for a person: integers signed, floats with the bits of a NaN.
fn shown(value: Value) -> String {
    let ty = value.ty();
    match value {
        Value::I32(x) => format!("{ty} {}", x as i32),
        Value::I64(x) => format!("{ty} {}", x as i64),
        Value::F32(x) if f32::from_bits(x).is_nan() => format!("{ty} NaN ({x:#010x})"),
        Value::F32(x) => format!("{ty} {}", f32::from_bits(x)),
        Value::F64(x) if f64::from_bits(x).is_nan() => format!("{ty} NaN ({x:#018x})"),
        Value::F64(x) => format!("{ty} {}", f64::from_bits(x)),
        Value::V128(x) => format!("{ty} {x:#034x}"),
        Value::FuncRef(None) | Value::ExternRef(None) | Value::ExnRef(None) => format!("{ty} null"),
        Value::FuncRef(Some(n)) | Value::ExternRef(Some(n)) | Value::ExnRef(Some(n)) => format!("{ty} {n}"),
    }
}

/// Items separated by commas; long lists are cut.
fn list<T: Display>(items: impl ExactSizeIterator<Item = T>) -> String {
    let more = items.len().saturating_sub(SHOWN_VALUES);
    let mut shown: Vec<_> = items.take(SHOWN_VALUES).map(|i| i.to_string()).collect();
    if more > 0 {
        shown.push(format!("... {more} more"));
    }
    shown.join(", ")
}

/// Without characters that a terminal obeys.
fn escaped(text: &str) -> String {
    text.escape_debug().to_string()
}

/// A length for a person.
fn bytes(n: u64) -> String {
    match n {
        0..0x400 => format!("{n} bytes"),
        0x400..0x10_0000 => format!("{:.1} KiB", n as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", n as f64 / (1 << 20) as f64),
        _ => format!("{:.2} GiB", n as f64 / (1 << 30) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot;
    use crate::state::wasi::Descriptor;
    use crate::testing;
    use crate::transfer::{AtRest, MemoryAtRest, Sink};
    use dunlin_format::image::NamesBuilder;
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
}
