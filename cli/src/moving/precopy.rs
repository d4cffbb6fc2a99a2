//! Pre-copy as a person asks for it: options of `dunlin migrate`, and what is reported of the rounds.

use crate::show;
use clap::Args;
use dunlin_migrate::preflight::{Needs, parse_size};
use dunlin_transfer::sender::{Precopy, SentRound};
use serde_json::{Value, json};
use std::time::Duration;

/// Bytes of memory in use up to which rounds cost more than they save.
const SMALL: u64 = 4 << 20;

/// How the program's memory goes while it runs.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// Stop the program when what is left takes no longer, such as 20ms or 1s
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = time)]
    downtime: Duration,
    /// Send its memory so many times while it runs, at most; 0: only when it has stopped
    #[arg(long, value_name = "N", default_value_t = 8)]
    max_rounds: u32,
    /// Send so many bytes a second while it runs, at most (such as 512K, 10M)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    bandwidth: Option<u64>,
}

impl Wanted {
    /// What is wanted for a program that needs so much; `None` if it is so small that it goes all at once.
    pub(crate) fn of(&self, needs: &Needs) -> Option<Precopy> {
        let precopy = Precopy {
            downtime: self.downtime,
            max_rounds: self.max_rounds,
            bandwidth: self.bandwidth,
        };
        (self.max_rounds > 0 && needs.memory_bytes > SMALL).then_some(precopy)
    }
}

/// Reads a time: a number and ms or s.
fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 1000),
        _ => (text, 0),
    };
    let millis = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    let millis = millis.filter(|_| unit > 0);
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| "it is not a time (such as 20ms or 1s)".into())
}

fn size(text: &str) -> Result<u64, String> {
    let size = parse_size(text).filter(|&n| n > 0);
    size.ok_or_else(|| "it is not a number of bytes (such as 512K or 10M)".into())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What went while the program ran, for a person: a line, or nothing.
pub(crate) fn report(rounds: &[SentRound]) -> String {
    let Some(longest) = rounds.iter().map(|r| r.round.pause).max() else {
        return String::new();
    };
    let sizes: Vec<String> = rounds.iter().map(|r| show::size(r.round.bytes)).collect();
    format!(
        "  before     {}, while it ran (it paused for {} at most)\n",
        sizes.join(", "),
        show::micros(micros(longest))
    )
}

/// The same for a program.
pub(crate) fn report_json(rounds: &[SentRound]) -> Value {
    let rounds = rounds.iter().map(|r| {
        json!({
            "bytes": r.round.bytes,
            "pause_us": micros(r.round.pause),
            "write_us": micros(r.round.write),
            "send_us": micros(r.send),
            "tracked": r.round.tracked,
        })
    });
    rounds.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(time("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(time("0s"), Ok(Duration::ZERO));
        for wrong in ["20", "ms", "", "-1s", "1m", "1.5s", "99999999999999999999s"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
        assert!(size("0").is_err() && size("x").is_err());
        assert_eq!(size("10M"), Ok(10 << 20));
    }
}
