//! CUDA graphs as data: what the simulated GPU keeps as a driver, and the shim as a client that builds graphs
//! without asking anybody. What a node *does* is the library's own affair ([`NodeAction`]).

#![forbid(unsafe_code)]

mod model;
mod registry;
mod user_object;

pub use model::{Graph, Names, Node, NodeAction, Ordered, PLAIN, Pair, node_handle};
pub use registry::{Registry, handle};
pub use user_object::{Held, UserObject, user_object};

use std::sync::{Mutex, MutexGuard, PoisonError};

use cuda_abi::CUresult;

/// What may fail with one of CUDA's codes.
pub type Answer<T = ()> = Result<T, CUresult>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // State behind these locks is valid between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
