//! Graphs. They are built here, in the client, node by node and by capture alike; the worker learns of one when it
//! becomes executable. What a node does is in [`action`], what is sent in [`plan`], executable graphs in [`exec`].

pub mod action;
pub mod exec;
pub mod memory;
pub mod plan;

use std::sync::Arc;

pub use ::graph::{PLAIN, node_handle};
use cuda_abi::{CUgraph, CUgraphNode};

use crate::entry::Answer;
use crate::graph::action::{Action, NAMES};

/// A graph of this process.
pub type Graph = ::graph::Graph<Action>;
/// A node of one.
pub type Node = ::graph::Node<Action>;

/// The graph of a handle.
///
/// Errors: `INVALID_VALUE` when it names nothing.
pub fn graph(handle: CUgraph) -> Answer<Arc<Graph>> {
    NAMES.graph(handle)
}

/// The node of a handle.
///
/// Errors: `INVALID_VALUE` when it names nothing.
pub fn node(handle: CUgraphNode) -> Answer<Arc<Node>> {
    NAMES.node(handle)
}
