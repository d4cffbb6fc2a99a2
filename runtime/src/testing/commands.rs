//! `--commands`, for tests: calls exports as told on standard input, so that the specification's test scripts and
//! fuzzed modules run through real executables. One line each:
//!
//! ```text
//!   ready                               instantiated (or: trap MESSAGE, and that is the end)
//!   invoke NAME TYPE:BITS ...           ok TYPE:BITS ...
//!   get NAME                            ok TYPE:BITS
//!   set NAME TYPE:BITS                  ok
//!   digest                              ok PAGES:CRC ... / TYPE:BITS ... / LENGTH:NULLS:CRC ...
//!   points                              ok NUMBER
//!                                       trap MESSAGE    the instance goes on
//!                                       err MESSAGE     not possible
//! ```
//!
//! `NAME` is an export's name as hexadecimal bytes (`-` if empty); `BITS` are hexadecimal digits. `digest` tells the
//! state of all memories, globals and tables, in CRC-32s: of a memory's bytes, of which of a table's elements are null,
//! and of the elements. `points` are the migration points passed so far, which only the test modes of
//! [`crate::testing::force`] count.
//!
//! With `--host-calls`, the reply comes after a line `call NAME TYPE:BITS ...` for each call of a host function since
//! the last one, in order. A call that was undone, because the program was captured at it, is told when it is issued
//! again.
//!
//! With `--resume` the first reply is that of the command during which the snapshot was made.

use crate::engine::running::{Enter, Running};
use crate::engine::show;
use crate::instance::Instance;
use crate::instance::instantiate::instantiate;
use crate::instance::memory::{Memory, WASM_PAGE};
use dunlin_format::context::TableEntry;
use dunlin_format::module::ExportKind;
use dunlin_format::types::{NULL_REF, ValType, Value};
use dunlin_interface::exit::Ending;
use dunlin_migrate::state::Invocation;
use std::io::{BufRead, Write};

/// Why serving ends before the input does.
enum Stop {
    /// The program ended in a way that leaves nothing to serve.
    Ended(Ending),
    /// Nobody talks or listens any more.
    Pipe,
}

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Stop {
        Stop::Pipe
    }
}

impl Running {
    /// Instantiates the program and serves commands until the input ends.
    pub(crate) fn serve_commands(&mut self, input: impl BufRead, mut output: impl Write) -> Ending {
        let served = self.serve_from_the_start(input, &mut output);
        self.end_serving(served, &mut output)
    }

    /// Goes on with a restored program and serves commands until the input ends. `import`: see [`Enter::Resume`].
    pub(crate) fn serve_more_commands(
        &mut self,
        import: Option<u32>,
        input: impl BufRead,
        mut output: impl Write,
    ) -> Ending {
        let served = self.serve_from_a_call(import, input, &mut output);
        self.end_serving(served, &mut output)
    }

    fn serve_from_the_start(&mut self, input: impl BufRead, output: &mut impl Write) -> Result<(), Stop> {
        let first = match instantiate(&mut self.instance) {
            Err(trap) => Err(trap.message().to_owned()),
            Ok(()) => match self.instance.program.module.start {
                Some(start) => self.command_call(start, &[])?.map(|_| ()),
                None => Ok(()),
            },
        };
        if let Err(message) = first {
            return self.reply(&format!("trap {message}"), output);
        }
        self.reply("ready", output)?;
        self.serve_lines(input, output)
    }

    fn serve_from_a_call(
        &mut self,
        import: Option<u32>,
        input: impl BufRead,
        output: &mut impl Write,
    ) -> Result<(), Stop> {
        let func = match &self.invocation {
            Invocation::Start => None,
            Invocation::Export(name) => self.instance.program.module.exported_func(name),
        };
        let ended = self.enter(Enter::Resume(import));
        let ended = caught(ended.map(|()| func.map(|func| self.results(func))))?;
        let reply = match &ended {
            Ok(Some(results)) => results_line(results),
            Ok(None) => "ready".into(),
            Err(message) => format!("trap {message}"),
        };
        self.reply(&reply, output)?;
        match (ended, func) {
            (Err(_), None) => Ok(()),
            _ => self.serve_lines(input, output),
        }
    }

    fn serve_lines(&mut self, input: impl BufRead, output: &mut impl Write) -> Result<(), Stop> {
        for line in input.lines() {
            let line = line?;
            let words: Vec<&str> = line.split_whitespace().collect();
            let reply = match words.as_slice() {
                ["invoke", name, args @ ..] => self.command_invoke(name, args)?,
                ["get", name] => self.command_get(name),
                ["set", name, value] => self.command_set(name, value),
                ["digest"] => format!("ok{}", digest(&self.instance)),
                ["points"] => format!("ok {}", self.at_point.as_ref().map_or(0, |it| it.points())),
                [] => continue,
                _ => format!("err no such command: {line:?}"),
            };
            self.reply(&reply, output)?;
        }
        Ok(())
    }

    fn reply(&mut self, reply: &str, output: &mut impl Write) -> Result<(), Stop> {
        self.tell_calls(output)?;
        writeln!(output, "{reply}")?;
        output.flush()?;
        Ok(())
    }

    fn tell_calls(&mut self, output: &mut impl Write) -> std::io::Result<()> {
        if let Some(calls) = &mut self.host_calls {
            output.write_all(calls.as_bytes())?;
            calls.clear();
        }
        Ok(())
    }

    fn end_serving(&mut self, served: Result<(), Stop>, output: &mut impl Write) -> Ending {
        match served {
            Ok(()) | Err(Stop::Pipe) => Ending::Returned,
            Err(Stop::Ended(ending)) => {
                // The calls of a command that has no reply here: it goes on elsewhere.
                let _ = self.tell_calls(output).and_then(|()| output.flush());
                ending
            }
        }
    }

    fn command_invoke(&mut self, name: &str, args: &[&str]) -> Result<String, Stop> {
        let module = &self.instance.program.module;
        let Some(name) = parse_name(name) else {
            return Ok(format!("err not a name: {name:?}"));
        };
        let Some(func) = module.exported_func(&name) else {
            return Ok(format!("err no function {name:?} is exported"));
        };
        let args: Option<Vec<Value>> = args.iter().map(|arg| parse_value(arg)).collect();
        let Some(args) = args else {
            return Ok("err not a list of TYPE:BITS".into());
        };
        let params = &module.func_type(func).params;
        if !args.iter().map(|arg| arg.ty()).eq(params.iter().copied()) {
            return Ok("err these are not the function's parameter types".into());
        }
        self.invocation = Invocation::Export(name);
        Ok(match self.command_call(func, &args)? {
            Ok(results) => results_line(&results),
            Err(message) => format!("trap {message}"),
        })
    }

    /// Calls a function. A trap is an inner error: the instance can still be used.
    fn command_call(&mut self, func: u32, args: &[Value]) -> Result<Result<Vec<Value>, String>, Stop> {
        caught(self.call(func, args))
    }

    fn command_get(&self, name: &str) -> String {
        let Some(name) = parse_name(name) else {
            return format!("err not a name: {name:?}");
        };
        let exports = &self.instance.program.module.exports;
        match exports.iter().find(|e| e.kind == ExportKind::Global && e.name == name) {
            Some(export) => format!("ok {}", show(self.instance.global(export.index))),
            None => format!("err no global {name:?} is exported"),
        }
    }

    fn command_set(&mut self, name: &str, value: &str) -> String {
        let (Some(name), Some(value)) = (parse_name(name), parse_value(value)) else {
            return "err not a name and a value".into();
        };
        let module = &self.instance.program.module;
        let found = module
            .exports
            .iter()
            .find(|e| e.kind == ExportKind::Global && e.name == name);
        let declared = found.and_then(|e| Some((e.index, module.globals.get(e.index as usize)?)));
        match declared {
            Some((index, global)) if global.mutable && global.ty == value.ty() => {
                self.instance.set_global(index, value);
                "ok".into()
            }
            _ => format!("err no such mutable global {name:?} is exported"),
        }
    }
}

/// Makes a trap an inner error.
fn caught<T>(ended: Result<T, Ending>) -> Result<Result<T, String>, Stop> {
    match ended {
        Ok(value) => Ok(Ok(value)),
        Err(Ending::Trapped { message, .. }) => Ok(Err(message)),
        Err(ending) => Err(Stop::Ended(ending)),
    }
}

fn results_line(results: &[Value]) -> String {
    results
        .iter()
        .fold("ok".into(), |line, &value| line + " " + &show(value))
}

/// Memories, globals and tables.
fn digest(instance: &Instance) -> String {
    let module = &instance.program.module;
    let memory = |m: &Memory| format!("{}:{:x}", m.size() / WASM_PAGE, crc32fast::hash(m.bytes()));
    let table = |entries: &Vec<TableEntry>| {
        let (mut nulls, mut elements) = (crc32fast::Hasher::new(), crc32fast::Hasher::new());
        for entry in entries {
            nulls.update(&[u8::from(entry.func == NULL_REF)]);
            elements.update(&entry.func.to_le_bytes());
        }
        format!("{}:{:x}:{:x}", entries.len(), nulls.finalize(), elements.finalize())
    };
    let memories = instance.memories().map(memory);
    let globals = (0..module.globals.len() as u32).map(|g| show(instance.global(g)));
    let tables = instance.tables().iter().map(table);
    let slash = || std::iter::once("/".to_owned());
    let words = memories.chain(slash()).chain(globals).chain(slash()).chain(tables);
    words.fold(String::new(), |line, word| line + " " + &word)
}

fn parse_name(hex: &str) -> Option<String> {
    if hex == "-" {
        return Some(String::new());
    }
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    String::from_utf8(pairs.iter().map(byte).collect::<Option<_>>()?).ok()
}

fn parse_value(text: &str) -> Option<Value> {
    let (ty, bits) = text.split_once(':')?;
    let ty = (0..).map_while(ValType::from_u8).find(|t| t.to_string() == ty)?;
    let bits = u128::from_str_radix(bits.strip_prefix("0x").unwrap_or(bits), 16).ok()?;
    (bits >> (8 * ty.size() - 1) <= 1).then(|| Value::from_bits(ty, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bytes() {
        assert_eq!(parse_name("612d20c3a9").as_deref(), Some("a- é"));
        assert_eq!(parse_name("-").as_deref(), Some(""));
        assert_eq!(parse_name("6"), None);
        assert_eq!(parse_name("zz"), None);
        assert_eq!(parse_name("ff"), None);
    }

    #[test]
    fn values_keep_their_bits() {
        for value in [
            Value::I32(7),
            Value::I64(u64::MAX),
            Value::F32(0x7fa0_0000),
            Value::F64(1),
            Value::V128(u128::MAX),
        ] {
            assert_eq!(parse_value(&show(value)), Some(value));
        }
        assert_eq!(show(Value::FuncRef(None)), "funcref:ffffffff");
        assert_eq!(parse_value("i32:100000000"), None);
        assert_eq!(parse_value("i33:1"), None);
        assert_eq!(parse_value("i32"), None);
    }
}
