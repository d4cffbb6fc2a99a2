//! `dunlin pair`: two devices get to know each other.

use crate::failure::{Outcome, could_not, usage};
use crate::moving::devices::{Devices, PORT, connect, with_port};
use crate::serving::configuration::Configuration;
use crate::serving::server::{Server, listen};
use crate::show;
use crate::verbs::serve;
use clap::Args;
use dunlin_transfer::records::Shelf;
use dunlin_trust::pairing::{Became, CODE_LIFE, Code, digits, type_code};
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Pairs this device with another one, so that programs can move between them
///
/// Without HOST it shows a code, which is good for five minutes and one try. On the other device, `dunlin pair HOST`
/// asks for that code. From then on both know each other's key.
#[derive(Debug, Args)]
pub(crate) struct Pair {
    /// The device that shows the code
    #[arg(value_name = "HOST[:PORT]")]
    host: Option<String>,
    /// The code; asked for if it isn't given
    #[arg(value_name = "CODE")]
    code: Option<String>,
    /// Listen there for the other device, unless `dunlin serve` runs, which does [default: as `dunlin serve`]
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "host")]
    listen: Vec<SocketAddr>,
    /// Another configuration file of `dunlin serve`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the verb.
pub(crate) fn run(args: &Pair) -> Outcome {
    let doing = "pair";
    let fail = |e: io::Error| could_not(format!("{doing}: {e}"));
    let configuration = Configuration::read(args.config.as_deref());
    let mut configuration = configuration.map_err(|why| usage(format!("{doing}: {why}")))?;
    if !args.listen.is_empty() {
        configuration.listen = args.listen.clone();
    }
    let shelf = Shelf::of_user().map_err(fail)?;
    let devices = Devices::open(shelf.directory()).map_err(fail)?;
    match &args.host {
        Some(host) => with(host, args.code.as_deref(), shelf.directory(), &devices, &configuration),
        None => show_code(&shelf, devices, &configuration),
    }
}

/// Shows a code until somebody has typed it.
fn show_code(shelf: &Shelf, devices: Devices, configuration: &Configuration) -> Outcome {
    let fail = |e: io::Error| could_not(format!("pair: {e}"));
    let stop = serve::asked_to_end().map_err(fail)?;
    let directory = devices.directory.clone();
    // While `dunlin serve` runs, it answers; else this command does.
    let lock = serve::lock(shelf.directory()).map_err(fail)?;
    let listeners = match &lock {
        Some(_) => listen(&configuration.addresses()).map_err(|why| could_not(format!("pair: {why}")))?,
        None => Vec::new(),
    };
    let bound = listeners.first().and_then(|l| l.local_addr().ok()).map(|a| a.port());
    let code = Code::show(&directory).map_err(fail)?;
    let code = code.ok_or_else(|| could_not("pair: another `dunlin pair` shows a code at the moment"))?;
    let about = serve::about(configuration);
    let running = match &lock {
        Some(_) => None,
        None => serve::port_of_running(shelf.directory()),
    };
    let port = match running.unwrap_or_else(|| bound.unwrap_or(about.port)) {
        PORT => String::new(),
        port => format!(":{port}"),
    };
    show::print(&format!(
        "On the other device:  dunlin pair {}{port}\nCode:  {}  (good for {} minutes and one try)\n",
        about.name,
        code.text(),
        CODE_LIFE.as_secs() / 60
    ));
    let server = Server::new(devices, about, None);
    let mut became = Became::Open;
    let mut error = None;
    let mut over = || {
        match code.became() {
            Ok(now) => became = now,
            Err(e) => error = Some(e),
        }
        error.is_some() || became != Became::Open
    };
    server.accept(&listeners, &stop, &mut over).map_err(fail)?;
    if let Some(e) = error {
        return Err(fail(e));
    }
    match became {
        // The other side has heard so before.
        Became::Paired(name) => {
            show::print(&format!("paired with {}\n", show::clean(&name)));
            Ok(())
        }
        Became::Failed(why) => Err(could_not(format!("pair: {why}; `dunlin pair` shows a new code"))),
        Became::Open => Err(could_not("pair: it was interrupted")),
    }
}

/// Asks for the code that the other device shows.
fn with(host: &str, given: Option<&str>, state: &Path, devices: &Devices, configuration: &Configuration) -> Outcome {
    let doing = format!("pair with {}", show::clean(host));
    let fail = |why: String| could_not(format!("{doing}: {why}"));
    let typed = match given {
        Some(code) => code.to_owned(),
        None => {
            if io::stdin().is_terminal() {
                show::complain(&format!("The code that `dunlin pair` shows on {}:", show::clean(host)));
            }
            let mut line = String::new();
            io::stdin().read_line(&mut line).map_err(|e| fail(e.to_string()))?;
            line
        }
    };
    let code = digits(&typed).ok_or_else(|| usage(format!("{doing}: a code has 8 digits")))?;
    let address = with_port(host);
    let stream = connect(&address).map_err(|e| fail(format!("{address}: {e}")))?;
    let mut about = serve::about(configuration);
    about.port = serve::port_of_running(state).unwrap_or(about.port);
    let paired = type_code(&stream, &devices.directory, &devices.own, &about, &code, &address);
    let (name, _) = paired.map_err(|e| fail(e.to_string()))?;
    show::print(&format!("paired with {}\n", show::clean(&name)));
    Ok(())
}
