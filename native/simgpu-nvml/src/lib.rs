//! `libnvidia-ml.so.1` of the simulated GPUs. It agrees with their `libcuda.so.1`, which lies beside it, on names,
//! identifiers, addresses and memory, and initialises nothing: who asks it can still fork and then use CUDA.

#[path = "../../nvml/exports/mod.rs"]
mod generated;
mod machine;

static LIBRARY: nvml::Library = nvml::Library::new(machine::look, simgpu_machine::config::say, |sentence| {
    simgpu_machine::config::log(|| sentence.to_owned());
});
