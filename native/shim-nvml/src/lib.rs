//! Farpool's `libnvidia-ml.so.1`: what `nvidia-smi`, PyTorch and monitors load instead of NVIDIA's. It knows the GPUs
//! of the session, and asks nobody but the session's broker, or a client service: no question takes a GPU, starts a worker or counts as use.
//!
//! This library is a guest in somebody else's process: no threads, no signal handlers, no descriptor that outlives a
//! call, no panic past its exports, nothing on stdout. In a process that uses the machine's own GPU it steps aside.

mod answer;
mod aside;
mod ask;
#[path = "../../nvml/exports/mod.rs"]
mod generated;
mod report;

static LIBRARY: nvml::Library =
    nvml::Library::new(ask::machine, report::once, report::log).beside(&aside::STEP);
