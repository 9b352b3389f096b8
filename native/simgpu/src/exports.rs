//! The calls themselves, by subject. What they mean is CUDA's documentation's to say; how they do it is in the
//! modules beside this one.

#![allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)]

mod capture;
mod context;
mod copy;
mod device;
mod event;
mod function;
mod graph;
mod graph_exec;
mod graph_node;
mod graph_parameters;
mod graph_resources;
mod initialisation;
mod library;
mod memory;
mod memset;
mod module;
mod occupancy;
mod peer;
mod pointer;
mod pool;
mod primary_context;
mod stream;
mod virtual_memory;

pub use capture::*;
pub use context::*;
pub use copy::*;
pub use device::*;
pub use event::*;
pub use function::*;
pub use graph::*;
pub use graph_exec::*;
pub use graph_node::*;
pub use graph_parameters::*;
pub use graph_resources::*;
pub use initialisation::*;
pub use library::*;
pub use memory::*;
pub use memset::*;
pub use module::*;
pub use occupancy::*;
pub use peer::*;
pub use pointer::*;
pub use pool::*;
pub use primary_context::*;
pub use stream::*;
pub use virtual_memory::*;
