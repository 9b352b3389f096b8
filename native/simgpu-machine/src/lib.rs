//! What simulated GPUs a machine has, and who uses their memory. Their libcuda and their NVML are two libraries, which
//! may be loaded into different processes: what both say of a GPU is said once, here.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_lossless,
    reason = "sizes of the C library's interface change width on their way; the library is 64-bit only"
)]

pub mod accounting;
pub mod config;
pub mod identity;
