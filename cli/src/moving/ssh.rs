//! A machine that is reached through a remote shell: `dunlin receive` there, over its standard input and output. So
//! there is no port and no service, and who may come is what the remote shell says.

use crate::spawn::spawn;
use dunlin_transfer::link::{Link, LinkError};
use serde::{Deserialize, Serialize};
use std::io;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The beginning of an address.
pub(crate) const SCHEME: &str = "ssh://";

/// A receiving machine; written down so that it can be reached again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shell {
    /// The address as it was given: `ssh://[USER@]HOST[:PORT]`.
    pub address: String,
    /// The remote shell, and its arguments before the host.
    shell: Vec<String>,
    /// `dunlin` on the other machine.
    dunlin: String,
    /// What `dunlin receive` is given there.
    options: Vec<String>,
}

impl Shell {
    /// A machine. `shell`: a remote shell, and its arguments.
    pub(crate) fn new(address: &str, shell: &str, dunlin: &str, options: &[String]) -> Result<Shell, String> {
        let host = address.strip_prefix(SCHEME).unwrap_or_default();
        if host.is_empty() || host.starts_with('-') || host.contains(['/', ' ']) {
            return Err(format!("it is reached as {SCHEME}[USER@]HOST[:PORT]"));
        }
        let shell = shlex::split(shell)
            .filter(|w| !w.is_empty())
            .ok_or("--rsh: it is not a list of shell words")?;
        Ok(Shell {
            address: address.to_owned(),
            shell,
            dunlin: dunlin.to_owned(),
            options: options.to_vec(),
        })
    }

    /// The command that connects.
    fn command(&self) -> Result<Command, String> {
        let host = self.address.strip_prefix(SCHEME).unwrap_or(&self.address);
        let (host, port) = match host.rsplit_once(':') {
            // An IPv6 address is in brackets.
            Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
            _ => (host, None),
        };
        let host = host.replace(['[', ']'], "");
        let [program, arguments @ ..] = &self.shell[..] else {
            return Err("there is no remote shell".into());
        };
        let mut command = Command::new(program);
        command.args(arguments);
        if let Some(port) = port {
            command.args(["-p", port]);
        }
        // Remote shells join words with spaces and have them split again.
        let words = [self.dunlin.as_str(), "receive"]
            .into_iter()
            .chain(self.options.iter().map(String::as_str));
        let line = shlex::try_join(words).map_err(|e| format!("the options for the other machine: {e}"))?;
        command.arg(host).arg(line);
        Ok(command)
    }

    /// Connects.
    pub(crate) fn connect(&self) -> Result<Link, LinkError> {
        let mut command = self.command().map_err(io::Error::other)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn(&mut command)
            .map_err(|e| io::Error::new(e.kind(), format!("{} can't be run: {e}", self.shell[0])))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("its standard streams are not there").into());
        };
        let child = Mutex::new(child);
        let link = Link::new(from, to, move || {
            let mut child = child.lock().unwrap_or_else(|e| e.into_inner());
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(address: &str, shell: &str) -> Vec<String> {
        let options = ["--dir".to_owned(), "/a b::data".into()];
        let command = Shell::new(address, shell, "dunlin", &options)
            .unwrap()
            .command()
            .unwrap();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|w| w.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn an_address_becomes_a_remote_shells_command() {
        let line = "dunlin receive --dir '/a b::data'";
        assert_eq!(words("ssh://pi", "ssh"), ["ssh", "pi", line]);
        assert_eq!(words("ssh://me@pi:2222", "ssh"), ["ssh", "-p", "2222", "me@pi", line]);
        assert_eq!(
            words("ssh://[::1]:22", "rsh -x 'a b'"),
            ["rsh", "-x", "a b", "-p", "22", "::1", line]
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for address in ["", "pi", "ssh://", "ssh://-oProxyCommand=x", "ssh://a/b", "http://pi"] {
            assert!(Shell::new(address, "ssh", "dunlin", &[]).is_err(), "{address}");
        }
        assert!(Shell::new("ssh://pi", "'", "dunlin", &[]).is_err());
    }
}
