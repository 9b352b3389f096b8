//! What every `libcuda.so.1` of ours shares: CUDA's types and its look-up table (generated), the private tables
//! that NVIDIA's runtime asks for, the integrity check, the reading of device code images, and what a guest must know of
//! its process: where it stands, and what belongs to each thread.

pub mod export_tables;
pub mod fatbin;
pub mod integrity;

mod generated;
pub mod pci;
pub mod per_thread;
pub mod phase;
pub mod proc_address;

pub use generated::signatures::*;
pub use generated::types::*;
