//! `dunlin ps`: the running programs of this user.

use crate::failure::Outcome;
use crate::find::{self, Asked, Socket};
use crate::show;
use clap::Args;

/// Lists the running programs
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Ps) -> Outcome {
    if let Some(warning) = find::warning() {
        show::complain(&warning);
    }
    let programs = find::programs(|_| true);
    for (socket, asked) in &programs {
        let why = match asked {
            Asked::Silent(why) => show::clean(why),
            Asked::Stopped => format!("it is stopped; kill -CONT {} lets it go on", socket.pid),
            Asked::Running(_) | Asked::Stale => continue,
        };
        show::complain(&format!("dunlin: process {} does not say who it is: {why}", socket.pid));
    }
    let running = |(socket, asked)| match asked {
        Asked::Running(info) => Some((socket, info)),
        _ => None,
    };
    let (sockets, infos): (Vec<Socket>, Vec<_>) = programs.into_iter().filter_map(running).unzip();
    if args.json {
        show::json(&serde_json::json!(infos));
        return Ok(());
    }
    let mut rows = vec![
        ["PID", "NAME", "ARCH", "MEMORY", "UPTIME", "ARGS"]
            .map(String::from)
            .to_vec(),
    ];
    for (socket, i) in sockets.iter().zip(infos) {
        let args: Vec<&str> = i.args.iter().skip(1).map(String::as_str).collect();
        let args = shlex::try_join(args.iter().copied()).unwrap_or_else(|_| args.join(" "));
        let mut note = String::new();
        if !i.migratable {
            note += " (built with --no-migration: cannot be checkpointed)";
        }
        if socket.elsewhere {
            note += " (of another PID namespace)";
        }
        rows.push(vec![
            i.pid.to_string(),
            show::clean(&i.name),
            show::clean(&i.arch),
            show::size(i.memory_bytes),
            show::uptime(i.uptime_seconds),
            short(&show::clean(&args)) + &note,
        ]);
    }
    show::print(&show::table(&rows));
    Ok(())
}

/// The most characters of a program's arguments that the table shows.
const SHOWN_ARGS: usize = 200;

/// A text that may be megabytes long, cut.
fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN_ARGS) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}... ({} bytes)", &text[..at], text.len()),
    }
}
