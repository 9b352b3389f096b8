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
    let kernel = ptx_compiler::Kernel::new(function).eagerly();
    let result = kernel.launch(module, function, config, device);
    let refusals = kernel.take_refusals();
    assert!(refusals.is_empty(), "{refusals:?}");
    result
}

fn main() -> std::process::ExitCode {
    ptx_testing::fuzz(launch)
}
