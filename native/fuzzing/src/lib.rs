//! What the fuzzers of the data path share: their options, seeds recorded from real programs, and ways to damage them.
//!
//! The seeds in `corpus/` are what `farpool-stand --record` wrote down: all that one connection of a program has sent, from
//! its first byte on, cut at 40 KiB. It knows the shape of records by itself, so that it damages them whatever `wire` says.

#![forbid(unsafe_code)]

mod damage;
mod options;
mod random;
mod recording;

pub use damage::{damage, damage_payload};
pub use options::{Options, end};
pub use random::Random;
pub use recording::{Record, Recording, corpus};
