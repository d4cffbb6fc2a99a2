//! The kinds of values that options take: numbers, sizes, times, paths, texts.

use super::{BadValue, EnvVar, Signal};
use dunlin_migrate::preflight;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// Least size of the WebAssembly stack, in bytes.
const MIN_STACK_SIZE: u64 = 16 << 10;

/// Greatest size of the WebAssembly stack, in bytes.
const MAX_STACK_SIZE: u64 = 64 << 30;

/// Shortest time between periodic checkpoints, in milliseconds.
const MIN_EVERY_MS: u64 = 10;

/// Longest time between periodic checkpoints, in milliseconds: a year.
const MAX_EVERY_MS: u64 = 8760 * 3_600_000;

/// The most snapshots that may be kept.
const MAX_KEEP: u32 = 1000;

/// A text that WebAssembly programs can be given, or that names something in them.
pub(super) fn text(value: &OsStr) -> Result<String, BadValue> {
    if value.as_bytes().contains(&0) {
        return Err(BadValue::new(value, "contains a NUL byte"));
    }
    let text = value.to_str().ok_or_else(|| BadValue::new(value, "is not UTF-8"))?;
    Ok(text.to_owned())
}

/// A path, whatever lies there.
pub(super) fn path(value: &OsStr) -> Result<PathBuf, BadValue> {
    if value.is_empty() || value.as_bytes().contains(&0) {
        return Err(BadValue::new(value, "is not a path"));
    }
    Ok(PathBuf::from(value))
}

/// `NAME=VALUE`, or `NAME`.
pub(super) fn variable(value: &OsStr) -> Result<EnvVar, BadValue> {
    let text = text(value)?;
    let (name, content) = match text.split_once('=') {
        Some((name, content)) => (name, Some(content.to_owned())),
        None => (&text[..], None),
    };
    if name.is_empty() {
        return Err(BadValue::new(value, "must be NAME=VALUE or NAME"));
    }
    Ok(EnvVar {
        name: name.to_owned(),
        value: content,
    })
}

/// Names of signals, separated by commas.
pub(super) fn signals(value: &OsStr) -> Result<Vec<Signal>, BadValue> {
    let named = |name| {
        Signal::from_name(name).ok_or_else(|| {
            let known = Signal::ALL.map(Signal::name).join(", ");
            BadValue::new(
                OsStr::new(name),
                format!("is not a signal to use here; use one of {known}"),
            )
        })
    };
    value.to_string_lossy().split(',').map(named).collect()
}

/// A machine to go to, as words for `dunlin migrate`: HOST, and if need be its options.
pub(super) fn machine(value: &OsStr) -> Result<String, BadValue> {
    let text = text(value)?;
    match shlex::split(&text).as_deref() {
        Some([host, ..]) if !host.starts_with('-') && !host.is_empty() => Ok(text),
        Some(_) => Err(BadValue::new(value, "must begin with a machine, such as ssh://pi")),
        None => Err(BadValue::new(value, "is not a list of shell words")),
    }
}

/// How many snapshots are kept.
pub(super) fn kept(value: &OsStr) -> Result<u32, BadValue> {
    let number = value.to_str().and_then(|v| v.parse().ok());
    let number = number.filter(|n| (1..=MAX_KEEP).contains(n));
    number.ok_or_else(|| BadValue::new(value, "is not a number from 1 to 1000"))
}

/// A number of bytes: decimal, with an optional binary suffix K, M or G.
pub(super) fn size(value: &OsStr) -> Result<u64, BadValue> {
    let size = value.to_str().and_then(preflight::parse_size);
    size.ok_or_else(|| BadValue::new(value, "is not a number of bytes (such as 1048576, 1024K, 1M or 4G)"))
}

/// The size of a WebAssembly stack, in bytes.
pub(super) fn stack_size(value: &OsStr) -> Result<u64, BadValue> {
    match size(value)? {
        size @ MIN_STACK_SIZE..=MAX_STACK_SIZE => Ok(size),
        _ => Err(BadValue::new(value, "is out of range: from 16K to 64G")),
    }
}

/// The time between periodic checkpoints, such as `500ms`, `30s`, `5m` or `1h`.
pub(super) fn every(value: &OsStr) -> Result<Duration, BadValue> {
    let text = value.to_string_lossy();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = number.parse::<u64>().ok().zip(unit);
    match millis.and_then(|(n, unit)| n.checked_mul(unit)) {
        Some(n @ MIN_EVERY_MS..=MAX_EVERY_MS) => Ok(Duration::from_millis(n)),
        Some(_) => Err(BadValue::new(value, "is out of range: from 10ms to 8760h")),
        None => Err(BadValue::new(value, "is not a time (such as 500ms, 30s, 5m or 1h)")),
    }
}
