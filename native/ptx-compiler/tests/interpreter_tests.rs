//! The tests that every engine must pass, run by compiled code.

#![allow(clippy::result_large_err, reason = "a fault is what the tests look at")]
#![allow(clippy::duplicate_mod, reason = "elsewhere both files are programs of their own")]

use ptx::{Device, Fault, Function, LaunchConfig, LaunchStats, Module};

#[path = "../../ptx/tests/execution.rs"]
mod execution;
#[path = "../../ptx/tests/fuzz.rs"]
mod fuzz;
#[path = "../../ptx/tests/instructions.rs"]
mod instructions;

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
