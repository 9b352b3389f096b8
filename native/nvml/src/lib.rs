//! What every `libnvidia-ml.so.1` of Farpool shares. NVML is a list of questions about GPUs; here all of them are
//! answered from one description of the GPUs, a [`Machine`], which each library gets in its own way: the shim
//! asks its session's broker, the simulated one looks at the simulated GPUs.
//!
//! Nothing here takes a GPU, starts a thread or keeps a descriptor: `nvidia-smi` and `torch.cuda.is_available()`
//! cost nobody anything.

pub mod calls;
mod facts;
mod generated;
mod library;

pub use facts::{Ecc, Gpu, Machine, Process};
pub use generated::signatures::*;
pub use generated::types::*;
pub use library::{Aside, Library, Refused};
