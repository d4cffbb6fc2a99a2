//! What a program sees of its host: made from the options, the command line and the environment.

use super::{Grant, OptionError, Options};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What a program may see of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WasiConfig {
    /// The guest's arguments, `argv[0]` included.
    pub args: Vec<String>,
    /// The guest's environment.
    pub env: Vec<(String, String)>,
    /// Addresses that the guest listens on, in the order given: its descriptors 3, 4, ...
    pub listen: Vec<SocketAddr>,
    /// Granted directories, in the order given: the descriptors after those.
    pub grants: Vec<Grant>,
    /// On resuming, a shared file that isn't as it was is taken as it is; otherwise nothing runs.
    pub accept_changed: bool,
    /// The files were taken back to the snapshot that the program goes on from: what isn't as it says was changed by
    /// others.
    pub back: bool,
    /// Where the program's own snapshots go, and whether that is a directory: it is hidden from the program.
    pub snapshots: Option<(PathBuf, bool)>,
}

impl Options {
    /// What the guest may see: `args` are the arguments after `argv[0]`, which is `--argv0` or else `name`.
    pub fn wasi_config(&self, name: &str, args: impl IntoIterator<Item = OsString>) -> Result<WasiConfig, OptionError> {
        let mut config = WasiConfig {
            listen: self.listen.clone(),
            grants: self.dirs.clone(),
            // Whoever wants files to stay as they are takes them as they are.
            accept_changed: self.accept_changed || self.no_rollback,
            snapshots: self
                .checkpoint_to
                .clone()
                .map(|to| (to, self.checkpoint_every.is_some())),
            ..WasiConfig::default()
        };
        config.args.push(self.argv0.clone().unwrap_or_else(|| name.to_owned()));
        for arg in args {
            config.args.push(utf8("an argument of the program", arg)?);
        }
        for var in &self.env {
            let value = match &var.value {
                Some(value) => value.clone(),
                None => {
                    let value =
                        std::env::var_os(&var.name).ok_or_else(|| OptionError::NoSuchVariable(var.name.clone()))?;
                    utf8("an environment variable's value", value)?
                }
            };
            config.env.retain(|(name, _)| *name != var.name);
            config.env.push((var.name.clone(), value));
        }
        Ok(config)
    }
}

fn utf8(what: &'static str, value: OsString) -> Result<String, OptionError> {
    value.into_string().map_err(|v| OptionError::NotUtf8 {
        what,
        value: v.to_string_lossy().into_owned(),
    })
}
