//! Runs random and damaged programs on compiled code, and compares with the interpreter:
//! `cargo run --release -p ptx-compiler --example fuzz -- --minutes 10 [--seed N] [FILE…]`.

#![allow(clippy::result_large_err, reason = "a fault ends a launch: its size does not matter")]

use std::sync::atomic::{AtomicU64, Ordering};

use ptx::{Device, Fault, Function, LaunchConfig, LaunchStats, Module};
use ptx_compiler::{Effort, Kernel};

/// Every other one runs code that was compiled quickly.
static LAUNCHES: AtomicU64 = AtomicU64::new(0);

fn launch(
    module: &Module,
    function: &Function,
    config: &LaunchConfig<'_>,
    device: &dyn Device,
) -> Result<LaunchStats, Fault> {
    // What the code generator refuses (damaged programs use registers at several widths) the interpreter runs.
    let effort = if LAUNCHES.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
        Effort::Quick
    } else {
        Effort::Thorough
    };
    Kernel::new(function).eagerly(effort).launch(module, function, config, device)
}

fn main() -> std::process::ExitCode {
    ptx_testing::fuzz(launch)
}
