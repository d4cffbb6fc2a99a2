//! A snapshot as JSON, written as it is read: no tree of all of it is ever in memory, which would be many times the
//! size of the file.

use super::{section_name, stored_pages};
use crate::snapshot::Snapshot;
use crate::state::files::Files;
use crate::state::wasi::WasiState;
use crate::state::{Exception, Frame, Invocation, State};
use dunlin_format::image::Names;
use dunlin_format::module::ModuleHash;
use dunlin_format::point::Slot;
use dunlin_format::types::Value;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use std::io;

/// The snapshot as JSON: one object with `format`, `sections`, `module`, `invocation`, `frames` (innermost first),
/// `memories`, `globals`, `tables`, `dropped`, `exceptions` (null where one was forgotten) and `wasi`. Integers of 64
/// bits and more, and floats, are strings; a float comes with its bits.
pub fn json<R>(snapshot: &Snapshot<R>, names: Option<&Names<'_>>) -> Json {
    serde_json::to_value(Document { snapshot, names }).unwrap_or_default()
}

/// Writes what [`json()`] returns, with line breaks and a final one.
pub fn write_json<R>(out: &mut impl io::Write, snapshot: &Snapshot<R>, names: Option<&Names<'_>>) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &Document { snapshot, names })?;
    out.write_all(b"\n")
}

/// A list whose items are made when they are written.
struct List<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for List<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

struct Document<'a, R> {
    snapshot: &'a Snapshot<R>,
    names: Option<&'a Names<'a>>,
}

impl<R> Serialize for Document<'_, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (snapshot, names) = (self.snapshot, self.names);
        let header = snapshot.header();
        // Every field by name: a new one must not be forgotten here.
        let State {
            module: _, // As in the header.
            invocation,
            frames,
            globals,
            memories,
            tables,
            dropped_elements,
            dropped_data,
            wasi,
            exceptions,
        } = snapshot.state();
        let (invocation, export) = match invocation {
            Invocation::Start => ("start", None),
            Invocation::Export(name) => ("export", Some(name)),
        };
        let sections = || {
            snapshot.sections().iter().map(|section| {
                json!({
                    "id": section.id,
                    "name": section_name(section),
                    "version": section.version,
                    "bytes": section.len,
                })
            })
        };
        let bases = || {
            snapshot.bases().iter().enumerate().map(|(nth, base)| {
                json!({
                    "name": base.name,
                    "identity": ModuleHash(base.identity).to_string(),
                    "pages": base.pages,
                    "used": snapshot.pages_from(nth),
                    "present": snapshot.is_attached(nth),
                })
            })
        };
        let frames = || {
            let frames = frames.iter().rev().enumerate();
            frames.map(|(depth, frame)| ShownFrame { depth, frame, names })
        };
        let stored = stored_pages(snapshot);
        let memories = || {
            let memories = memories.iter().zip(&stored);
            memories.map(|(m, (own, bases))| json!({ "pages": m.pages, "stored_pages": own, "base_pages": bases }))
        };
        let tables = || {
            let not_null = |elements: &[Option<u32>]| elements.iter().flatten().count();
            let tables = tables.iter().map(|t| &t.elements);
            tables.map(move |e| json!({ "elements": e.len(), "not_null": not_null(e) }))
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("format", &header.version)?;
        map.serialize_entry("bytes", &header.total_len)?;
        map.serialize_entry("identity", &ModuleHash(snapshot.identity()).to_string())?;
        map.serialize_entry("sections", &List(sections))?;
        map.serialize_entry("bases", &List(bases))?;
        map.serialize_entry("module", &header.module.to_string())?;
        map.serialize_entry("invocation", &json!({ "kind": invocation, "name": export }))?;
        map.serialize_entry("frames", &List(frames))?;
        map.serialize_entry("memories", &List(memories))?;
        map.serialize_entry("globals", &List(|| globals.iter().map(|&v| json_value(v))))?;
        map.serialize_entry("tables", &List(tables))?;
        map.serialize_entry(
            "dropped",
            &Dropped {
                elements: dropped_elements,
                data: dropped_data,
            },
        )?;
        map.serialize_entry(
            "exceptions",
            &List(|| exceptions.iter().map(|e| e.as_ref().map(ShownException))),
        )?;
        map.serialize_entry("wasi", &Host(wasi))?;
        map.end()
    }
}

/// Which segments were dropped.
#[derive(Serialize)]
struct Dropped<'a> {
    elements: &'a [bool],
    data: &'a [bool],
}

/// An exception that references refer to.
struct ShownException<'a>(&'a Exception);

impl Serialize for ShownException<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Exception {
            tag,
            values,
            referenced,
        } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("tag", tag)?;
        map.serialize_entry("referenced", referenced)?;
        map.serialize_entry("values", &List(|| values.iter().map(|&v| json_value(v))))?;
        map.end()
    }
}

struct ShownFrame<'a> {
    depth: usize,
    frame: &'a Frame,
    names: Option<&'a Names<'a>>,
}

impl Serialize for ShownFrame<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("depth", &self.depth)?;
        map.serialize_entry("function", &self.frame.func)?;
        map.serialize_entry("name", &self.names.and_then(|n| n.get(self.frame.func)))?;
        map.serialize_entry("offset", &self.frame.offset)?;
        map.serialize_entry("kind", &self.frame.kind.to_string())?;
        map.serialize_entry("values", &List(|| self.frame.values.iter().map(json_slot)))?;
        map.end()
    }
}

/// The host's side; of the environment only names.
struct Host<'a>(&'a WasiState);

impl Serialize for Host<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Every field by name: a new one must not be forgotten here.
        let WasiState {
            args,
            env,
            grants,
            descriptors,
            times,
            files,
        } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("args", args)?;
        map.serialize_entry("env", &List(|| env.iter().map(|(name, _)| name)))?;
        map.serialize_entry("grants", grants)?;
        map.serialize_entry("descriptors", descriptors)?;
        map.serialize_entry("times", times)?;
        map.serialize_entry("files", &Carried(files))?;
        map.end()
    }
}

/// The carried files; of their chunks only how many there are and how long.
struct Carried<'a>(&'a Files);

impl Serialize for Carried<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let files = self.0;
        let contents = || {
            let contents = files.contents.iter();
            contents.map(|c| json!({ "bytes": c.len, "data_bytes": c.data_len(&files.chunks) }))
        };
        let chunks = json!({
            "number": files.chunks.len(),
            "bytes": files.chunks.iter().fold(0u64, |sum, c| sum.saturating_add(c.len)),
            "stored": files.chunks.iter().filter(|c| c.stored).count(),
            "stored_bytes": files.stored_len(),
        });
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("modes", &List(|| files.modes.iter().map(|m| m.option())))?;
        map.serialize_entry("contents", &List(contents))?;
        map.serialize_entry("chunks", &chunks)?;
        map.serialize_entry("nodes", &files.nodes)?;
        map.serialize_entry("removed", &files.removed)?;
        map.serialize_entry("unlinked", &files.unlinked)?;
        map.serialize_entry("listeners", &files.listeners)?;
        map.end()
    }
}

fn json_slot(&(slot, value): &(Slot, Value)) -> Json {
    let (place, index) = match slot {
        Slot::Local(n) => ("local", n),
        Slot::Stack(n) => ("stack", n),
    };
    let mut object = json_value(value);
    object["place"] = place.into();
    object["index"] = index.into();
    object
}

fn json_value(value: Value) -> Json {
    let ty = value.ty().to_string();
    match value {
        Value::I32(x) => json!({ "type": ty, "value": x as i32 }),
        Value::I64(x) => json!({ "type": ty, "value": (x as i64).to_string() }),
        Value::F32(x) => json!({ "type": ty, "value": f32::from_bits(x).to_string(), "bits": format!("{x:#010x}") }),
        Value::F64(x) => json!({ "type": ty, "value": f64::from_bits(x).to_string(), "bits": format!("{x:#018x}") }),
        Value::V128(x) => json!({ "type": ty, "value": format!("{x:#034x}") }),
        Value::FuncRef(r) | Value::ExternRef(r) | Value::ExnRef(r) => json!({ "type": ty, "value": r }),
    }
}
