//! Telling a line that is dead from a program that is stopped: only silence that this process sat through counts.

use std::time::{Duration, Instant};

/// Silence after which the other end is asked for a word, and a part of the time of grace that it takes at most.
const PROBE_AFTER: Duration = Duration::from_secs(2);
const PROBE_PART: u32 = 4;

/// Silence after which the connection is given up and made anew, and a part of the time of grace that it takes at most: the
/// rest is for connecting anew.
const DEAD_AFTER: Duration = Duration::from_secs(10);
const DEAD_PART: u32 = 2;

/// A gap between two looks that is longer than this means that this process itself was stopped.
const LONGEST_GAP: Duration = Duration::from_secs(3);

/// What is to be done about the silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Nothing.
    Wait,
    /// Ask for a word.
    Probe,
    /// Make a new connection.
    GiveUp,
}

/// How long the other end has said nothing.
#[derive(Debug)]
pub struct Silence {
    looked: Instant,
    silent: Duration,
    probed: bool,
    probe_after: Duration,
    dead_after: Duration,
}

impl Silence {
    /// Begins now, on a lane whose ends wait for each other for `grace`.
    pub fn new(now: Instant, grace: Duration) -> Silence {
        Silence {
            looked: now,
            silent: Duration::ZERO,
            probed: false,
            probe_after: PROBE_AFTER.min(grace / PROBE_PART),
            dead_after: DEAD_AFTER.min(grace / DEAD_PART),
        }
    }

    /// How long the other end has said nothing, as far as this process sat through it.
    pub fn length(&self) -> Duration {
        self.silent
    }

    /// A look at `now`; `heard` tells whether anything came since the last one.
    pub fn look(&mut self, now: Instant, heard: bool) -> Advice {
        let gap = now.saturating_duration_since(self.looked);
        self.looked = now;
        if heard {
            self.silent = Duration::ZERO;
            self.probed = false;
            return Advice::Wait;
        }
        if gap > LONGEST_GAP {
            // What the other end said meanwhile may be there to be read.
            self.silent = Duration::ZERO;
            self.probed = false;
            return Advice::Wait;
        }
        self.silent += gap;
        if self.silent >= self.dead_after && self.probed {
            return Advice::GiveUp;
        }
        if self.silent >= self.probe_after && !self.probed {
            self.probed = true;
            return Advice::Probe;
        }
        Advice::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(looks: &[(u64, bool)]) -> Vec<Advice> {
        advice_within(Duration::from_secs(120), looks)
    }

    fn advice_within(grace: Duration, looks: &[(u64, bool)]) -> Vec<Advice> {
        let start = Instant::now();
        let mut silence = Silence::new(start, grace);
        looks
            .iter()
            .map(|(second, heard)| silence.look(start + Duration::from_secs(*second), *heard))
            .collect()
    }

    #[test]
    fn silence_is_probed_then_given_up() {
        let looks: Vec<(u64, bool)> = (1..=11).map(|second| (second, false)).collect();
        let given = advice(&looks);
        assert_eq!(given.iter().filter(|advice| **advice == Advice::Probe).count(), 1);
        assert_eq!(given[1], Advice::Probe);
        assert_eq!(given[9], Advice::GiveUp);
        assert!(!given[..9].contains(&Advice::GiveUp));
    }

    #[test]
    fn a_short_time_of_grace_is_not_over_before_the_line_is_given_up() {
        let given = advice_within(Duration::from_secs(3), &[(1, false), (2, false)]);
        assert_eq!(given, [Advice::Probe, Advice::GiveUp]);
    }

    #[test]
    fn a_word_ends_the_silence() {
        let looks: Vec<(u64, bool)> = (1..=30).map(|second| (second, second % 4 == 0)).collect();
        assert!(!advice(&looks).contains(&Advice::GiveUp));
    }

    #[test]
    fn a_process_that_was_stopped_begins_anew() {
        assert_eq!(advice(&[(1, false), (2, false), (3600, false), (3601, false)])[2..], [Advice::Wait; 2]);
    }
}
