//! A snapshot as text.

use super::{section_name, stored_pages};
use crate::snapshot::{PAGE_SIZE, Section, Snapshot};
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
pub(super) fn bytes(n: u64) -> String {
    match n {
        0..0x400 => format!("{n} bytes"),
        0x400..0x10_0000 => format!("{:.1} KiB", n as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", n as f64 / (1 << 20) as f64),
        _ => format!("{:.2} GiB", n as f64 / (1 << 30) as f64),
    }
}
