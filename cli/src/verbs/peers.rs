//! `dunlin peers`: the devices that this one is paired with.

use crate::failure::{Outcome, could_not};
use crate::moving::devices::Devices;
use crate::show;
use clap::{Args, Subcommand};
use dunlin_transfer::records::Shelf;
use dunlin_trust::peers::Peers;
use serde_json::json;
use std::io;

/// Lists the devices that this one is paired with
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Listing {
    #[command(subcommand)]
    change: Option<Change>,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Calls a device otherwise
    Rename {
        /// What it is called
        from: String,
        /// What it is to be called
        to: String,
    },
    /// Forgets a device: it can't connect to this one any more, nor this one to it
    Forget {
        /// What it is called
        name: String,
    },
}

/// Runs the verb.
pub(crate) fn run(args: &Listing) -> Outcome {
    let fail = |e: io::Error| could_not(format!("list peers: {e}"));
    let shelf = Shelf::of_user().map_err(fail)?;
    let devices = Devices::open(shelf.directory()).map_err(fail)?;
    let directory = &devices.directory;
    match &args.change {
        Some(Change::Rename { from, to }) => Peers::rename(directory, from, to)
            .map_err(|e| could_not(format!("rename {} to {}: {e}", show::clean(from), show::clean(to)))),
        Some(Change::Forget { name }) => {
            Peers::forget(directory, name).map_err(|e| could_not(format!("forget {}: {e}", show::clean(name))))
        }
        None => {
            let peers = Peers::read(directory).map_err(fail)?;
            match args.json {
                true => show::json(&json!({ "key": devices.own.key(), "peers": peers.all() })),
                false => show::print(&table(&peers)),
            }
            Ok(())
        }
    }
}

fn table(peers: &Peers) -> String {
    if peers.all().is_empty() {
        return "no device is paired with this one (`dunlin pair`)\n".into();
    }
    let mut rows = vec![vec!["NAME".to_owned(), "ADDRESS".into(), "KEY".into()]];
    for peer in peers.all() {
        let address = peer.address.as_deref().unwrap_or("-");
        let key: String = peer.key.to_string().chars().take(16).collect();
        rows.push(vec![show::clean(&peer.name), show::clean(address), key]);
    }
    show::table(&rows)
}
