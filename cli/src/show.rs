//! Printing for people: output that survives a closed pipe, sizes, durations, tables.

use dunlin_migrate::printable;
use serde_json::Value;
use std::io::{self, Write};
use std::path::Path;
use std::process::exit;

/// Prints text to standard output; control characters other than ends of lines are escaped. A reader that has gone away
/// (`dunlin ps | head -1`) ends the command quietly; any other failure (a full disk) ends it with a message and exit
/// code 1.
pub(crate) fn print(text: &str) {
    write(|out| out.write_all(printable::lines(text).as_bytes()));
}

/// Prints what `fill` writes to standard output, byte for byte; it fails as [`print()`] does.
pub(crate) fn write(fill: impl FnOnce(&mut io::BufWriter<io::StdoutLock<'static>>) -> io::Result<()>) {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if let Err(e) = fill(&mut out).and_then(|()| out.flush()) {
        if e.kind() == io::ErrorKind::BrokenPipe {
            exit(0);
        }
        complain(&format!("dunlin: cannot write to standard output: {e}"));
        exit(1);
    }
}

/// Prints a line to standard error; whether it can be written makes no difference.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{}", printable::lines(line));
}

/// A size for a person, in binary units: "512 B", "1.4 MiB".
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would print as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A duration in microseconds for a person: "850 us", "4.2 ms", "1.3 s".
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// Time since a start, in seconds, for a person: "42s", "3m07s", "2h05m", "4d01h".
pub(crate) fn uptime(seconds: u64) -> String {
    let (m, h, d) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{m}m{:02}s", seconds % 60),
        3600..86400 => format!("{h}h{:02}m", m % 60),
        _ => format!("{d}d{:02}h", h % 24),
    }
}

/// Lines of cells, each column as wide as its widest cell; the last column is not padded.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter()
            .filter_map(|r| r.get(c))
            .map(|s| s.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, cell) in row.iter().enumerate() {
            if c > 0 {
                line.push_str("  ");
            }
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', widths[c] - cell.chars().count()));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Text from outside as part of a line, safe to print on a terminal: control characters are escaped.
pub(crate) fn clean(text: &str) -> String {
    printable::line(text).into_owned()
}

/// A path as part of a line, safe to print.
pub(crate) fn path(path: &Path) -> String {
    clean(&path.to_string_lossy())
}

/// Prints a value as JSON, safe on a terminal, too.
pub(crate) fn json(value: &Value) {
    write(|out| writeln!(out, "{}", printable::json(&format!("{value:#}"))));
}

/// Prints a value as one line of JSON.
pub(crate) fn json_line(value: &Value) {
    write(|out| writeln!(out, "{}", printable::json(&value.to_string())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_binary_units() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size((1 << 20) - 1), "1.0 MiB", "never 1024.0 KiB");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(micros(999), "999 us");
        assert_eq!(micros(4_200), "4.2 ms");
        assert_eq!(micros(1_300_000), "1.3 s");
        assert_eq!(uptime(59), "59s");
        assert_eq!(uptime(187), "3m07s");
        assert_eq!(uptime(7_500), "2h05m");
        assert_eq!(uptime(4 * 86400 + 3600), "4d01h");
    }

    #[test]
    fn tables_align_and_do_not_trail() {
        let rows = [
            vec!["PID".into(), "NAME".into()],
            vec!["7".into(), "a".into()],
            vec!["12345".into(), "b".into()],
        ];
        assert_eq!(table(&rows), "PID    NAME\n7      a\n12345  b\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\n"), "a\\u{1b}[31mb\\n");
        assert_eq!(path(Path::new("a\u{9b}2J")), "a\\u{9b}2J");
    }
}
