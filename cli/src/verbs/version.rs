//! `dunlin version`: which Dunlin this is and what it understands.

use crate::failure::Outcome;
use crate::make::runtimes;
use crate::show;
use clap::Args;
use dunlin_format::arch::Arch;
use dunlin_format::image;
use dunlin_migrate::snapshot;

/// Prints the version, the architectures, and the formats
#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Version) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    if args.json {
        let value = serde_json::json!({
            "version": version,
            "host": Arch::host().map(Arch::name),
            "targets": Arch::ALL.map(Arch::name),
            "portable": Arch::PORTABLE.map(Arch::name),
            "snapshot_format": snapshot::VERSION,
            "image_format": image::VERSION,
        });
        show::json(&value);
        return Ok(());
    }
    let mut text = format!("dunlin {version}\n");
    for arch in Arch::ALL {
        let note = if Arch::host() == Some(arch) {
            ", this machine's"
        } else {
            ""
        };
        text += &format!(
            "builds for        {arch} (runtime of {}{note})\n",
            show::size(runtimes::runtime(arch).len() as u64)
        );
    }
    if let Some(arch) = Arch::portable_host() {
        let size = show::size(runtimes::runtime(arch).len() as u64);
        text += &format!("interprets        {arch} (runtime of {size})\n");
    }
    text += &format!(
        "snapshot format   {}\nimage format      {}\n",
        snapshot::VERSION,
        image::VERSION
    );
    show::print(&text);
    Ok(())
}
