//! The engine of these tests.

use ptx::{Device, Fault, Function, LaunchConfig, LaunchStats, Module};

/// Runs compiled code, of which nothing was refused.
pub fn launch(
    module: &Module,
    function: &Function,
    config: &LaunchConfig<'_>,
    device: &dyn Device,
) -> Result<LaunchStats, Fault> {
    let kernel = ptx_compiler::Kernel::new(function).eagerly(crate::EFFORT);
    let result = kernel.launch(module, function, config, device);
    let refusals = kernel.take_refusals();
    assert!(refusals.is_empty(), "{refusals:?}");
    result
}
