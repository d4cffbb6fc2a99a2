//! A bounded slice of the fuzzing, always the same seeds, so that it says the same everywhere. `ci/test` runs it.

use crate::campaign::{Campaign, Plan};
use crate::dunlin::RunError;
use crate::judge::Mode;
use crate::profile::Profile;
use std::ops::Range;

/// Seeds for x86_64: a module takes some milliseconds.
const NATIVE: Range<u64> = 0..2000;
/// Seeds for aarch64: each run starts an emulator.
const EMULATED: Range<u64> = 100_000..100_240;

/// What came of the slice.
#[derive(Debug)]
pub struct Slice {
    /// Against the references, and with forced migrations.
    pub native: Campaign,
    /// On aarch64, and moved between the architectures.
    pub emulated: Campaign,
}

impl Slice {
    /// Runs it.
    pub fn run(jobs: usize) -> Result<Slice, RunError> {
        let run = |seeds, modes: &[Mode]| {
            Campaign::run(&Plan {
                seeds,
                modes: modes.to_vec(),
                jobs,
                until: None,
            })
        };
        Ok(Slice {
            native: run(NATIVE, &[Mode::Native, Mode::Forced])?,
            emulated: run(
                EMULATED,
                &[Mode::Emulated, Mode::EmulatedForced, Mode::Away, Mode::Home],
            )?,
        })
    }

    /// What is wrong, if anything. That what is compared silently becomes next to nothing is wrong, too.
    pub fn complaint(&self) -> Option<String> {
        let failed = self.native.failed() + self.emulated.failed();
        if failed > 0 {
            return Some(format!("{failed} modules went wrong"));
        }
        let mut expected = Vec::new();
        for campaign in [&self.native, &self.emulated] {
            expected.push(("every profile", campaign.profiles.len() == Profile::ALL.len()));
        }
        let of = |campaign: &Campaign, mode| campaign.modes.get(&mode).cloned().unwrap_or_default();
        let (native, forced) = (of(&self.native, Mode::Native), of(&self.native, Mode::Forced));
        expected.push(("modules", native.modules > 1900 && forced.modules == native.modules));
        expected.push(("replies", native.replies > 36_000 && native.traps > 4000));
        expected.push((
            "an interpreter that agrees",
            native.interpreted > 900 && native.outvoted < 24,
        ));
        expected.push(("host calls", native.calls > 1_000_000));
        expected.push(("migrations", forced.points > 60_000));
        for mode in [Mode::Emulated, Mode::EmulatedForced, Mode::Away, Mode::Home] {
            let count = of(&self.emulated, mode);
            expected.push(("modules under emulation", count.modules > 220 && count.skipped < 80));
            expected.push(("replies under emulation", count.replies > 3000));
        }
        let missing = expected.into_iter().find(|(_, there)| !there);
        missing.map(|(what, _)| format!("too little was compared: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{EMULATED, NATIVE};
    use crate::dunlin::max_alive;

    #[test]
    fn a_quarter_has_variables_in_memory() {
        for seeds in [NATIVE, EMULATED] {
            let all = seeds.clone().count();
            let few = seeds.filter(|&seed| max_alive(seed) < 16).count();
            assert!((all / 5..all / 3).contains(&few), "{few} of {all}");
        }
    }
}
