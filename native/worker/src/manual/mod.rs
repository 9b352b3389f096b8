//! The calls that are executed by hand, because they touch memory accounting, images, or bulk data.

#![allow(non_snake_case, reason = "the functions bear CUDA's names")]

mod code_tables;
mod contexts;
mod copies;
mod graphs;
mod launches;
mod libraries;
mod memory;
pub mod modules;
mod occupancy;
mod pools;
pub mod waiting;
mod window;

pub use contexts::*;
pub use copies::*;
pub use graphs::*;
pub use launches::*;
pub use libraries::*;
pub use memory::*;
pub use modules::*;
pub use occupancy::*;
pub use pools::*;
pub use window::*;

use cuda_abi::CUresult;

use crate::handles::HandleError;

/// What a call by hand answers.
pub type Answer = Result<CUresult, HandleError>;
