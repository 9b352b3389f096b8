//! A thin, unsafe layer over a libcuda.so.1 that was found by `dlopen`: NVIDIA's, or the simulated one.
//!
//! [`Driver`] has one method per call that the worker uses; a call that the library lacks answers
//! `CUDA_ERROR_NOT_FOUND`. Nothing is checked here: the worker did that before.

mod driver;
mod nvml;
mod simulated;

#[path = "generated/functions.rs"]
mod functions;

pub use driver::{Driver, LoadError};
pub use nvml::Nvml;
pub use simulated::Simulated;
