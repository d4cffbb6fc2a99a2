//! `dunlin receive`: the other end of `dunlin migrate`, over standard input and output.

use crate::failure::{Outcome, could_not, usage};
use crate::moving::machine::{Machine, emulator};
use crate::options::HostOptions;
use crate::show;
use clap::Args;
use dunlin_migrate::preflight::parse_size;
use dunlin_transfer::link::Link;
use dunlin_transfer::receiver::serve;
use dunlin_transfer::records::Shelf;
use std::io::{self, Write};
use std::process::exit;

/// Lets a program come to this machine; `dunlin migrate` runs it here through ssh
///
/// It speaks with `dunlin migrate` over standard input and output. The options say what the program may use here. Its
/// output goes to a file below $XDG_STATE_HOME/dunlin/logs (~/.local/state/dunlin/logs).
#[derive(Debug, Args)]
pub(crate) struct Receive {
    /// Run programs built for another architecture, by this command
    #[arg(long, value_name = "ARCH=COMMAND")]
    emulator: Option<String>,
    /// How much of a program's newest output is kept, such as 1M (default 64M); 0 keeps all
    #[arg(long, value_name = "BYTES")]
    log_limit: Option<String>,
    #[command(flatten)]
    options: HostOptions,
}

/// Runs the verb.
pub(crate) fn run(args: &Receive) -> Outcome {
    let doing = "receive";
    let options = args.options.checked(doing)?;
    let emulator = args.emulator.as_deref().map(emulator).transpose();
    let emulator = emulator.map_err(|why| usage(format!("{doing}: --emulator: {why}")))?;
    let log_limit = args.log_limit.as_deref().map(|given| {
        let size = parse_size(given);
        size.ok_or_else(|| usage(format!("{doing}: --log-limit: it is a number of bytes, such as 64M")))
    });
    let log_limit = log_limit.transpose()?;
    let fail = |why: String| could_not(format!("{doing}: {why}"));
    let shelf = Shelf::of_user().map_err(|e| fail(e.to_string()))?;
    let machine = Machine::new(options, emulator, &shelf);
    let mut machine = machine.ok_or_else(|| fail("this machine is neither x86_64 nor aarch64".into()))?;
    if let Some(limit) = log_limit {
        machine.limit_logs(limit);
    }
    let hung_up = || {
        // Standard input can't be made to end. All that counts is durable at any moment.
        show::complain("dunlin receive: the sender is silent, or gone");
        exit(1)
    };
    let link = Link::new(io::stdin(), Closing(io::stdout()), hung_up).map_err(|e| fail(e.to_string()))?;
    let served = serve(&link, &shelf, &mut machine);
    served.map_err(|e| fail(e.to_string()))?;
    Ok(())
}

/// Standard output, which is closed when this is dropped.
struct Closing(io::Stdout);

impl Write for Closing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        // The descriptor stays one, so that nothing else gets its number.
        if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdout(null);
        }
    }
}
