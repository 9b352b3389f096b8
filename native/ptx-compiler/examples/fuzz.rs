//! Runs random and damaged programs on compiled code, and compares with the interpreter:
//! `cargo run --release -p ptx-compiler --example fuzz -- --minutes 10 [--seed N] [FILE…]`.

#![allow(clippy::result_large_err, reason = "a fault ends a launch: its size does not matter")]

use ptx::{Device, Fault, Function, LaunchConfig, LaunchStats, Module};

fn launch(
    module: &Module,
    function: &Function,
    config: &LaunchConfig<'_>,
    device: &dyn Device,
) -> Result<LaunchStats, Fault> {
    // What the code generator refuses (damaged programs use registers at several widths) the interpreter runs.
    ptx_compiler::Kernel::new(function).eagerly().launch(module, function, config, device)
}

fn main() -> std::process::ExitCode {
    ptx_testing::fuzz(launch)
}
