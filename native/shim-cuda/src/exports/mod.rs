//! The hand-written exports, by noun. Each is a thin skin: it checks pointers and handles as CUDA does and
//! leaves the work to the modules beside this folder.

/// Declares functions that are exported behind slots (`generated/slots.rs`). The body runs behind the boundary of [`crate::entry`].
macro_rules! exports {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) $entry:ident |$client:pat_param| $body:block)*) => {$(
        #[doc = concat!("`", stringify!($name), "`, as CUDA documents it.")]
        ///
        /// # Safety
        /// CUDA's contract: pointers are null or lead to memory of the documented size.
        #[allow(non_snake_case, unused_unsafe, reason = "CUDA's names; not every body has pointers")]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> cuda_abi::CUresult {
            crate::entry::$entry(stringify!($name), crate::servers::named!($($argument),*), |$client| {
                // SAFETY: the program keeps CUDA's contract for the pointers it passes; null is checked where
                // CUDA allows or reports it, by the functions of `crate::convert`.
                unsafe { $body }
            })
        }
    )*};
}

mod capture;
mod context;
mod copy;
mod device;
mod execution;
mod graph;
mod graph_exec;
mod graph_node;
mod graph_parameters;
mod graph_resources;
pub mod host_memory;
mod initialisation;
mod library;
mod memory;
mod memory_pool;
mod module;
mod occupancy;
mod peer;
mod pointer;
mod primary_context;
mod rectangle;
mod stream;

pub use capture::*;
pub use context::*;
pub use copy::*;
pub use device::*;
pub use execution::*;
pub use graph::*;
pub use graph_exec::*;
pub use graph_node::*;
pub use graph_parameters::*;
pub use graph_resources::*;
pub use host_memory::*;
pub use initialisation::*;
pub use library::*;
pub use memory::*;
pub use memory_pool::*;
pub use module::*;
pub use occupancy::*;
pub use peer::*;
pub use pointer::*;
pub use primary_context::*;
pub use rectangle::*;
pub use stream::*;

pub(crate) use context::create;
pub(crate) use module::load as load_module;
