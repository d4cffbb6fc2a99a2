//! Text from outside (names, arguments, paths, another machine's words) made safe for a terminal, which obeys control
//! characters.
//!
//! Everything that is printed goes through here once, where it is written ([`lines`], [`json`]); what comes from
//! outside goes through [`line`] before it becomes part of a message, so that it can't look like a line of its own.

use std::borrow::Cow;
use std::fmt::Write;
use std::io;

/// Is it a character that a terminal obeys, or one that is not seen and changes what the others look like (text
/// direction, tags)?
fn obeyed(c: char) -> bool {
    let hidden = matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || hidden
}

fn escape(text: &str, keep: impl Fn(char) -> bool, put: impl Fn(&mut String, char)) -> Cow<'_, str> {
    let hostile = |c: char| obeyed(c) && !keep(c);
    if !text.contains(hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hostile(c) { put(&mut out, c) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// As one line, of which nothing is obeyed: control characters are written as in Rust, such as `\u{1b}` and `\n`.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false, |out, c| out.extend(c.escape_default()))
}

/// The same of a text of several lines: ends of lines and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(
        text,
        |c| matches!(c, '\n' | '\t'),
        |out, c| out.extend(c.escape_default()),
    )
}

/// The same of JSON, which stays the same JSON.
pub fn json(text: &str) -> Cow<'_, str> {
    let put = |out: &mut String, c: char| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string doesn't fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    };
    escape(text, |c| matches!(c, '\n' | '\t'), put)
}

/// Passes JSON on as [`json`] has it, as it comes.
#[derive(Debug)]
pub struct JsonWriter<W> {
    out: W,
    /// The beginning of a character.
    rest: Vec<u8>,
}

impl<W: io::Write> JsonWriter<W> {
    /// Passes on to `out`.
    pub fn new(out: W) -> JsonWriter<W> {
        JsonWriter { out, rest: Vec::new() }
    }
}

impl<W: io::Write> io::Write for JsonWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            Ok(_) => self.rest.len(),
            Err(e) => e.valid_up_to(),
        };
        let text = std::str::from_utf8(&self.rest[..whole]).unwrap_or_default();
        self.out.write_all(json(text).as_bytes())?;
        self.rest.drain(..whole);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_passed_on_in_any_pieces() {
        let text = "{\"a\":\"\u{9b}1m \u{e9}\u{1f600}\u{7f}\"}";
        for size in 1..6 {
            let mut out = JsonWriter::new(Vec::new());
            for piece in text.as_bytes().chunks(size) {
                io::Write::write_all(&mut out, piece).unwrap();
            }
            assert_eq!(out.out, json(text).as_bytes());
        }
    }

    #[test]
    fn nothing_hostile_is_left() {
        let hostile = "a\x1b[31m\u{9b}2J\x07\u{202e}b\r\n\tc\x7f";
        assert_eq!(line(hostile), "a\\u{1b}[31m\\u{9b}2J\\u{7}\\u{202e}b\\r\\n\\tc\\u{7f}");
        assert_eq!(lines(hostile), "a\\u{1b}[31m\\u{9b}2J\\u{7}\\u{202e}b\\r\n\tc\\u{7f}");
    }

    #[test]
    fn ordinary_text_is_as_it_was() {
        let text = "Grüße, 你好, 'quoted' \"text\" \\ 👩\u{200d}🚀";
        assert!(matches!(line(text), Cow::Borrowed(same) if same == text));
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({ "a\u{9b}": "x\u{1b}\u{7f}\u{202e}\n\u{e0001}é" });
        let text = format!("{value:#}");
        let safe = json(&text);
        assert!(safe.chars().all(|c| c == '\n' || !obeyed(c)), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
