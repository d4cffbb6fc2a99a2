//! Pre-copy: rounds of the program's pages go while it runs, until what is left fits into the downtime that is wanted.

use super::Moving;
use crate::moving::{Precopy, Progress, Round, SentRound, Way};
use crate::records::{MOST_ROUNDS, round_file};
use crate::wire::{FileKind, Frame};
use std::time::{Duration, Instant};

/// Of a round's bytes, the part that the next one may have and still count as no progress: nine tenths.
const NO_PROGRESS: (u64, u64) = (9, 10);

impl Moving<'_> {
    /// Brings the receiver as much as pays while the program runs. An error ends the move: nothing has stopped yet.
    pub(super) fn rounds(&mut self, way: &mut Way<'_>) -> Result<(), String> {
        let Some(precopy) = way.precopy else { return Ok(()) };
        let mut pace = Pace::default();
        for number in 1..=precopy.max_rounds.min(MOST_ROUNDS) {
            if !(way.progress)(Progress::Round { number }) {
                return Err("it was cancelled".into());
            }
            let begun = Instant::now();
            let place = self.place.as_ref().ok_or("the transfer is over")?;
            let path = place.file(&round_file(number));
            // It can't do that, or there is no room for one more: it stops right away. Anything else that is wrong
            // shows then.
            let Ok(Some(round)) = self.program.round(place, number) else {
                return Ok(());
            };
            let sending = Instant::now();
            let waited = self.file(FileKind::Round(number), &path, precopy.bandwidth, way)?.1;
            self.until(Frame::RoundKept(number), way)?;
            let send = sending.elapsed();
            pace.add(&round, begun, send.saturating_sub(waited));
            self.moved.rounds.push(SentRound { round, send });
            if pace.is_done(precopy, Instant::now()) {
                break;
            }
        }
        Ok(())
    }
}

/// How fast the rounds go, and how fast the program changes what they bring.
#[derive(Debug, Default)]
struct Pace {
    /// The largest round, how long writing and sending it took: the rates of disk and connection.
    largest: Option<(u64, Duration, Duration)>,
    /// Bytes of the last round, and of the one before.
    last: u64,
    before: Option<u64>,
    /// When the last one was asked for, and how long after the one before.
    begun: Option<Instant>,
    interval: Option<Duration>,
}

impl Pace {
    /// A round has gone, which was asked for at `begun` and took `send` to be durable at the receiver.
    fn add(&mut self, round: &Round, begun: Instant, send: Duration) {
        self.interval = self.begun.map(|before| begun.duration_since(before));
        self.before = self.begun.map(|_| self.last);
        self.begun = Some(begun);
        self.last = round.bytes;
        if self.largest.is_none_or(|(bytes, ..)| bytes < round.bytes) {
            self.largest = Some((round.bytes, round.write, send));
        }
    }

    /// Bytes that have changed since the last round, if the program goes on as it did before that; `None` if nothing is
    /// known of it. In less time than those took, it may have changed as much: it may well be the same bytes again and
    /// again.
    fn left(&self, now: Instant) -> Option<f64> {
        let (begun, interval) = (self.begun?, self.interval?);
        let times = now.duration_since(begun).as_secs_f64() / interval.as_secs_f64().max(1e-6);
        let most = self.largest.map_or(0, |(bytes, ..)| bytes) as f64;
        Some((self.last as f64 * times.max(1.0)).min(most))
    }

    /// How long writing and sending that would take. The two sides write at the same time, and while it is sent.
    fn downtime(&self, now: Instant) -> Option<Duration> {
        let (bytes, write, send) = self.largest?;
        let per_byte = (write + send).as_secs_f64() / (bytes.max(1)) as f64;
        Some(Duration::from_secs_f64(self.left(now)? * per_byte))
    }

    /// Whether another round would not make the downtime shorter, or needn't.
    fn is_done(&self, wanted: &Precopy, now: Instant) -> bool {
        // The first one brings everything, and says nothing of what changes.
        let no_less = |before: u64| self.last.saturating_mul(NO_PROGRESS.1) >= before.saturating_mul(NO_PROGRESS.0);
        self.downtime(now).is_some_and(|time| time <= wanted.downtime) || self.before.is_some_and(no_less)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn precopy() -> Precopy {
        Precopy {
            downtime: Duration::from_millis(20),
            max_rounds: 8,
            bandwidth: None,
        }
    }

    /// A program of `size` bytes that changes so many bytes a second, over a connection and a disk of 100 MiB/s each;
    /// returns the bytes of its rounds.
    fn rounds(size: u64, changes: u64) -> Vec<u64> {
        let (mut pace, mut now, mut bytes, mut all) = (Pace::default(), Instant::now(), size, Vec::new());
        let precopy = precopy();
        for _ in 0..precopy.max_rounds {
            let part = Duration::from_secs_f64(bytes as f64 / (100 * MIB) as f64);
            let round = Round {
                bytes,
                write: part,
                ..Round::default()
            };
            pace.add(&round, now, part);
            all.push(bytes);
            now += 2 * part;
            if pace.is_done(&precopy, now) {
                break;
            }
            bytes = ((2 * part).as_secs_f64() * changes as f64) as u64;
            bytes = bytes.clamp(1 << 16, size);
        }
        all
    }

    #[test]
    fn rounds_end_when_the_rest_is_small_or_does_not_become_smaller() {
        assert_eq!(rounds(1024 * MIB, 0), [1024 * MIB, 1 << 16]);
        let half = rounds(1024 * MIB, 25 * MIB);
        assert!(half.len() > 6 && half.is_sorted_by(|a, b| a > b), "{half:?}");
        assert_eq!(rounds(1024 * MIB, 60 * MIB), [1024 * MIB, 1024 * MIB]);
        assert_eq!(rounds(1024 * MIB, 49 * MIB).len(), 2, "it would take for ever");
        assert!(rounds(1024 * MIB, 5 * MIB).last().is_some_and(|&last| last <= MIB));
    }
}
