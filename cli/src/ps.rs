//! `dunlin ps`: the running programs of this user.

use crate::failure::Outcome;
use crate::show;
use crate::sockets::{self, Asked};
use clap::Args;

/// Lists the running programs
#[derive(Debug, Args)]
pub struct Ps {
    /// Print a JSON array instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: &Ps) -> Outcome {
    let programs = sockets::programs(|_| true);
    for (socket, asked) in &programs {
        if let Asked::Silent(why) = asked {
            show::complain(&format!(
                "dunlin: process {} does not say who it is: {}",
                socket.pid,
                show::clean(why)
            ));
        }
    }
    let infos: Vec<_> = programs
        .into_iter()
        .filter_map(|(_, a)| if let Asked::Running(i) = a { Some(i) } else { None })
        .collect();
    if args.json {
        // Serialising plain structs of strings and numbers can't fail.
        show::print(&format!("{}\n", serde_json::to_string_pretty(&infos).unwrap_or_default()));
        return Ok(());
    }
    let mut rows = vec![["PID", "NAME", "ARCH", "MEMORY", "UPTIME", "ARGS"].map(String::from).to_vec()];
    for i in infos {
        let args: Vec<&str> = i.args.iter().skip(1).map(String::as_str).collect();
        let args = shlex::try_join(args.iter().copied()).unwrap_or_else(|_| args.join(" "));
        let note = if i.migratable {
            ""
        } else {
            " (built with --no-migration: cannot be checkpointed)"
        };
        rows.push(vec![
            i.pid.to_string(),
            show::clean(&i.name),
            show::clean(&i.arch),
            show::size(i.memory_bytes),
            show::uptime(i.uptime_seconds),
            show::clean(&args) + note,
        ]);
    }
    show::print(&show::table(&rows));
    Ok(())
}
