//! `dunlin-fuzz`: runs seeds through modes, prints a summary, and keeps what differs in `target/fuzz/`.

use dunlin_fuzz::campaign::{Campaign, Plan};
use dunlin_fuzz::judge::Mode;
use dunlin_fuzz::slice::Slice;
use dunlin_fuzz::{keep, reduce};
use lexopt::prelude::*;
use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const HELP: &str = "usage: dunlin-fuzz --seeds A..B [--mode MODE,...] [--jobs N] [--minutes M]
       dunlin-fuzz --slice [--jobs N]
       dunlin-fuzz --reduce SEED [--mode MODE,...]

Modes: native, forced, emulated, emulated-forced, away, home; all without --mode.
--slice runs a fixed set of seeds in all modes, and checks that enough is compared.
--reduce makes a seed's module smaller for as long as a mode finds a difference, or without --mode for as long as
`dunlin build` crashes.
Run ./ci/build first: the executables are made of the runtimes in target/runtimes/.";

struct Options {
    seeds: Range<u64>,
    modes: Vec<Mode>,
    jobs: usize,
    until: Option<Instant>,
    reduce: bool,
    slice: bool,
}

fn options() -> Result<Options, lexopt::Error> {
    let mut o = Options {
        seeds: 0..0,
        modes: Vec::new(),
        jobs: 1,
        until: None,
        reduce: false,
        slice: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("seeds") => {
                let text = parser.value()?.string()?;
                let (from, to) = text.split_once("..").ok_or("--seeds takes A..B")?;
                let number = |n: &str| n.parse().map_err(|_| lexopt::Error::from("--seeds takes A..B"));
                o.seeds = number(from)?..number(to)?;
            }
            Long("reduce") => {
                let seed: u64 = parser.value()?.parse()?;
                o.seeds = seed..seed + 1;
                o.reduce = true;
            }
            Long("slice") => o.slice = true,
            Long("mode") => {
                for word in parser.value()?.string()?.split(',') {
                    let found = Mode::ALL.iter().find(|(_, name)| *name == word);
                    let (mode, _) = found.ok_or_else(|| format!("no such mode: {word}"))?;
                    o.modes.push(*mode);
                }
            }
            Long("jobs") => o.jobs = parser.value()?.parse()?,
            Long("minutes") => {
                let minutes: f64 = parser.value()?.parse()?;
                o.until = Some(Instant::now() + Duration::from_secs_f64(60.0 * minutes));
            }
            Short('h') | Long("help") => {
                println!("{HELP}");
                std::process::exit(0);
            }
            _ => return Err(arg.unexpected()),
        }
    }
    if o.seeds.is_empty() && !o.slice {
        return Err("no seeds; see --help".into());
    }
    if o.modes.is_empty() && !o.reduce {
        o.modes = Mode::ALL.iter().map(|(mode, _)| *mode).collect();
    }
    Ok(o)
}

fn main() -> ExitCode {
    let o = match options() {
        Ok(o) => o,
        Err(e) => {
            eprintln!("dunlin-fuzz: {e}");
            return ExitCode::from(2);
        }
    };
    if o.reduce {
        return match reduce::reduce(o.seeds.start, &o.modes) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(e) => {
                eprintln!("dunlin-fuzz: {e}");
                ExitCode::FAILURE
            }
        };
    }
    keep::on_panic();
    if o.slice {
        return slice(o.jobs);
    }
    let plan = Plan {
        seeds: o.seeds,
        modes: o.modes,
        jobs: o.jobs.max(1),
        until: o.until,
    };
    match Campaign::run(&plan) {
        Ok(campaign) => {
            print!("{campaign}");
            if campaign.failed() == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(e) => {
            eprintln!("dunlin-fuzz: {e}");
            ExitCode::FAILURE
        }
    }
}

fn slice(jobs: usize) -> ExitCode {
    let complaint = match Slice::run(jobs) {
        Ok(slice) => {
            print!("{}{}", slice.native, slice.emulated);
            slice.complaint()
        }
        Err(e) => Some(e.to_string()),
    };
    match complaint {
        None => ExitCode::SUCCESS,
        Some(complaint) => {
            eprintln!("dunlin-fuzz: {complaint}");
            ExitCode::FAILURE
        }
    }
}
