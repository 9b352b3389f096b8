//! The simulated GPU: a `libcuda.so.1` that runs real CUDA programs on CPU cores.
//!
//! Programs reach it as they reach NVIDIA's driver library: by its name, through `cuGetProcAddress`, and through
//! the private tables of `cuGetExportTable`. Kernels are PTX, which the crate `ptx` executes; this crate is
//! everything around them: devices, contexts, streams of asynchronous work, memory, modules. It is deliberately
//! as unkind as the real thing (see docs/user/simulated-gpu.md), because the rest of Farpool grows up on it.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_lossless,
    reason = "sizes and addresses of the vendor's interface change width on their way; the library is 64-bit only"
)]

mod attributes;
mod capture;
mod context;
mod copy;
mod device;
mod event;
mod exports;
mod generated;
mod graph;
mod guard;
mod heap;
mod jit;
mod launch;
mod library;
mod memory;
mod module;
mod occupancy;
mod output;
mod pool;
mod stream;
mod virtual_memory;

use simgpu_machine::{accounting, config};

/// What calls answer that exist in CUDA, but not here.
fn unsupported(name: &'static str) -> cuda_abi::CUresult {
    config::log(|| format!("{name} is not supported"));
    cuda_abi::CUresult::NOT_SUPPORTED
}
