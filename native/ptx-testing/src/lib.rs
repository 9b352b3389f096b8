//! Tests that every engine for PTX must pass, as text: tables of single instructions and whole programs, with
//! expected values from the PTX specification or an independent computation, never from an engine.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_lossless,
    clippy::result_large_err,
    clippy::missing_panics_doc,
    reason = "bit patterns are cut and reinterpreted, and a test that cannot go on panics"
)]

mod endurance;
mod fuzz;
mod generator;
mod host;
mod programs;
mod random;
mod tables;
mod text;

use ptx::{Device, Fault, Function, LaunchConfig, LaunchStats, Module};

pub use endurance::fuzz;
pub use fuzz::{Fuzz, compare_engines, mutate_and_run, run_random_pointers, run_random_program};
pub use generator::program;
pub use host::{Host, kernel};
pub use programs::check_programs;
pub use random::{Random, mutated};
pub use tables::check_tables;

/// What runs a kernel: [`ptx::launch`], or another with its contract.
pub type Engine = fn(&Module, &Function, &LaunchConfig<'_>, &dyn Device) -> Result<LaunchStats, Fault>;

/// The folder with the tables of single instructions.
pub const TABLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ptx/tests/instructions");
/// The folder with the whole programs.
pub const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ptx/tests/programs");

/// The outcome of many tests.
#[derive(Debug, Default)]
pub struct Report {
    /// How many vectors or programs were run.
    pub run: usize,
    /// One line for each that failed.
    pub failures: Vec<String>,
}

impl Report {
    /// Panics with the failures, if there are any, or if fewer than `least` were run.
    pub fn expect_at_least(&self, least: usize) {
        assert!(self.failures.is_empty(), "\n{}", self.failures.join("\n"));
        assert!(self.run >= least, "only {} were run", self.run);
    }
}
