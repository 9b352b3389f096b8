//! Graphs. What a node does is in [`action`], running graphs in [`exec`].

pub mod action;
pub mod exec;
pub mod memory;

use std::sync::Arc;

use cuda_abi::{CUgraph, CUgraphNode};
pub use graph::{PLAIN, node_handle};

use crate::graph::action::{Action, NAMES};
use crate::guard::Answer;

/// A graph of this driver.
pub type Graph = graph::Graph<Action>;
/// A node of one.
pub type Node = graph::Node<Action>;

/// The graph of a handle.
///
/// # Errors
/// INVALID_VALUE when it names nothing.
pub fn graph(handle: CUgraph) -> Answer<Arc<Graph>> {
    NAMES.graph(handle)
}

/// The node of a handle.
///
/// # Errors
/// INVALID_VALUE when it names nothing.
pub fn node(handle: CUgraphNode) -> Answer<Arc<Node>> {
    NAMES.node(handle)
}
