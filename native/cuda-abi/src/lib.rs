//! What every `libcuda.so.1` of ours shares: CUDA's types and its look-up table (generated), the private tables
//! that NVIDIA's runtime asks for, the integrity check, and the reading of device code images.

pub mod export_tables;
pub mod fatbin;
pub mod integrity;

mod generated;
pub mod proc_address;

pub use generated::signatures::*;
pub use generated::types::*;
