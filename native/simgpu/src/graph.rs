//! Graphs: nodes and what they wait for. What a node does is in [`action`], running graphs in [`exec`].

pub mod action;
pub mod exec;
pub mod memory;
pub mod user_object;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use cuda_abi::{CUgraph, CUgraphEdgeData, CUgraphNode, CUresult};

use crate::device::lock;
use crate::graph::action::Action;
use crate::graph::user_object::{Held, UserObject};
use crate::guard::Answer;
use crate::registry::{Registry, handle};

/// An edge without ports: the second node begins when the first has ended.
pub const PLAIN: CUgraphEdgeData = CUgraphEdgeData { from_port: 0, to_port: 0, r#type: 0, reserved: [0; 5] };

/// A graph.
#[derive(Default)]
pub struct Graph {
    state: Mutex<State>,
    /// Belongs to a node of another graph, which destroys it.
    owned: AtomicBool,
    /// Where it was cloned from: the copies of nodes by the id of their originals.
    originals: Mutex<HashMap<u64, u64>>,
    /// Objects of the program that it keeps.
    held: Mutex<Vec<Held>>,
}

#[derive(Default)]
struct State {
    /// In the order in which they were added.
    nodes: Vec<Arc<Node>>,
    edges: Vec<Edge>,
}

/// One node waits for another.
#[derive(Clone, Copy)]
pub struct Edge {
    pub from: u64,
    pub to: u64,
}

/// A node of a graph.
pub struct Node {
    pub id: u64,
    graph: Weak<Graph>,
    action: Mutex<Arc<Action>>,
}

/// All graphs that programs can name.
pub static GRAPHS: Registry<Graph> = Registry::new();
static NODES: Registry<Node> = Registry::new();

impl Node {
    /// What it does.
    pub fn action(&self) -> Arc<Action> {
        Arc::clone(&lock(&self.action))
    }

    /// Lets it do the same kind of thing with other parameters.
    ///
    /// # Errors
    /// INVALID_VALUE for another kind.
    pub fn set_action(&self, action: Action) -> Answer {
        let mut current = lock(&self.action);
        if current.kind() != action.kind() {
            return Err(CUresult::INVALID_VALUE);
        }
        *current = Arc::new(action);
        Ok(())
    }

    /// The graph it is in.
    ///
    /// # Errors
    /// INVALID_VALUE when that is gone.
    pub fn graph(&self) -> Answer<Arc<Graph>> {
        self.graph.upgrade().ok_or(CUresult::INVALID_VALUE)
    }
}

impl Graph {
    /// An empty graph that programs can name.
    pub fn create() -> Arc<Self> {
        let graph = Arc::new(Self::default());
        GRAPHS.insert(&graph);
        graph
    }

    /// Adds a node behind others.
    ///
    /// # Errors
    /// INVALID_VALUE for nodes of other graphs and for one that is named twice.
    pub fn add(self: &Arc<Self>, action: Action, after: &[Arc<Node>]) -> Answer<Arc<Node>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut state = lock(&self.state);
        let mut seen = HashSet::new();
        if !after.iter().all(|node| self.holds(node) && seen.insert(node.id)) {
            return Err(CUresult::INVALID_VALUE);
        }
        if let Action::Child(child) = &action {
            child.owned.store(true, Ordering::Release);
        }
        let node = Arc::new(Node {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            graph: Arc::downgrade(self),
            action: Mutex::new(Arc::new(action)),
        });
        NODES.insert(&node);
        state.edges.extend(after.iter().map(|from| Edge { from: from.id, to: node.id }));
        state.nodes.push(Arc::clone(&node));
        Ok(node)
    }

    fn holds(self: &Arc<Self>, node: &Node) -> bool {
        std::ptr::eq(node.graph.as_ptr(), Arc::as_ptr(self))
    }

    /// Adds edges.
    ///
    /// # Errors
    /// INVALID_VALUE for nodes of other graphs, for a node behind itself and for edges that exist.
    pub fn connect(self: &Arc<Self>, edges: &[(Arc<Node>, Arc<Node>)]) -> Answer {
        let mut state = lock(&self.state);
        for (from, to) in edges {
            let exists = state.edges.iter().any(|edge| edge.from == from.id && edge.to == to.id);
            if exists || from.id == to.id || !self.holds(from) || !self.holds(to) {
                return Err(CUresult::INVALID_VALUE);
            }
            state.edges.push(Edge { from: from.id, to: to.id });
        }
        Ok(())
    }

    /// Takes edges away.
    ///
    /// # Errors
    /// INVALID_VALUE for edges that do not exist.
    pub fn disconnect(&self, edges: &[(Arc<Node>, Arc<Node>)]) -> Answer {
        let mut state = lock(&self.state);
        for (from, to) in edges {
            let found = state.edges.iter().position(|edge| edge.from == from.id && edge.to == to.id);
            state.edges.remove(found.ok_or(CUresult::INVALID_VALUE)?);
        }
        Ok(())
    }

    /// Takes a node away with its edges.
    pub fn remove(&self, node: &Arc<Node>) {
        let mut state = lock(&self.state);
        state.nodes.retain(|other| other.id != node.id);
        state.edges.retain(|edge| edge.from != node.id && edge.to != node.id);
        drop(state);
        forget(node);
    }

    /// All nodes, in the order in which they were added.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        lock(&self.state).nodes.clone()
    }

    /// Nodes that wait for none.
    pub fn roots(&self) -> Vec<Arc<Node>> {
        let state = lock(&self.state);
        let waiting: HashSet<_> = state.edges.iter().map(|edge| edge.to).collect();
        state.nodes.iter().filter(|node| !waiting.contains(&node.id)).cloned().collect()
    }

    /// All edges as pairs of nodes.
    pub fn edges(&self) -> Vec<(Arc<Node>, Arc<Node>)> {
        let state = lock(&self.state);
        let by_id: HashMap<_, _> = state.nodes.iter().map(|node| (node.id, node)).collect();
        state.edges.iter().map(|edge| (Arc::clone(by_id[&edge.from]), Arc::clone(by_id[&edge.to]))).collect()
    }

    /// Nodes that a node waits for.
    pub fn before(&self, node: &Node) -> Vec<Arc<Node>> {
        self.edges().into_iter().filter(|(_, to)| to.id == node.id).map(|(from, _)| from).collect()
    }

    /// Nodes that wait for a node.
    pub fn behind(&self, node: &Node) -> Vec<Arc<Node>> {
        self.edges().into_iter().filter(|(from, _)| from.id == node.id).map(|(_, to)| to).collect()
    }

    /// Whether every node of `nodes` is one of `ends` or before one of them.
    pub fn reaches(&self, nodes: &[Arc<Node>], ends: &[Arc<Node>]) -> bool {
        let state = lock(&self.state);
        let mut before: HashMap<u64, Vec<u64>> = HashMap::new();
        state.edges.iter().for_each(|edge| before.entry(edge.to).or_default().push(edge.from));
        let mut seen = HashSet::new();
        let mut open: Vec<u64> = ends.iter().map(|node| node.id).collect();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(before.get(&id).into_iter().flatten());
            }
        }
        nodes.iter().all(|node| seen.contains(&node.id))
    }

    /// The nodes in an order in which they may run, each with the places in it of those it waits for.
    ///
    /// # Errors
    /// INVALID_VALUE when nodes wait in a circle.
    pub fn order(&self) -> Answer<Vec<(Arc<Node>, Vec<usize>)>> {
        let state = lock(&self.state);
        let index: HashMap<_, _> = state.nodes.iter().enumerate().map(|(at, node)| (node.id, at)).collect();
        let mut missing = vec![0_usize; state.nodes.len()];
        let mut next = vec![Vec::new(); state.nodes.len()];
        for edge in &state.edges {
            missing[index[&edge.to]] += 1;
            next[index[&edge.from]].push(index[&edge.to]);
        }
        // The earliest added of those that may run: what a program added in order stays in order.
        let mut ready: BTreeSet<_> = (0..missing.len()).filter(|at| missing[*at] == 0).collect();
        let mut place = vec![0; missing.len()];
        let mut before = vec![Vec::new(); missing.len()];
        let mut ordered = Vec::with_capacity(missing.len());
        while let Some(at) = ready.pop_first() {
            place[at] = ordered.len();
            ordered.push((Arc::clone(&state.nodes[at]), std::mem::take(&mut before[at])));
            for &to in &next[at] {
                before[to].push(place[at]);
                missing[to] -= 1;
                if missing[to] == 0 {
                    ready.insert(to);
                }
            }
        }
        if ordered.len() == missing.len() { Ok(ordered) } else { Err(CUresult::INVALID_VALUE) }
    }

    /// A copy with nodes of its own.
    ///
    /// # Errors
    /// As [`Self::add`]; NOT_SUPPORTED where nodes own memory.
    pub fn duplicate(&self) -> Answer<Arc<Self>> {
        let copy = Self::create();
        let mut nodes: HashMap<u64, Arc<Node>> = HashMap::new();
        for node in self.nodes() {
            let action = node.action().duplicate()?;
            let added = copy.add(action, &[])?;
            lock(&copy.originals).insert(node.id, added.id);
            nodes.insert(node.id, added);
        }
        let edges = lock(&self.state).edges.clone();
        *lock(&copy.held) = self.held();
        lock(&copy.state)
            .edges
            .extend(edges.iter().map(|edge| Edge { from: nodes[&edge.from].id, to: nodes[&edge.to].id }));
        Ok(copy)
    }

    /// The copy of a node of the graph that this one was cloned from.
    pub fn copy_of(&self, original: &Node) -> Option<Arc<Node>> {
        let id = *lock(&self.originals).get(&original.id)?;
        lock(&self.state).nodes.iter().find(|node| node.id == id).cloned()
    }

    /// Whether it belongs to a node of another graph.
    pub fn is_owned(&self) -> bool {
        self.owned.load(Ordering::Acquire)
    }

    /// Ends the graph with its nodes; executable graphs made from it go on.
    pub fn destroy(self: &Arc<Self>) {
        GRAPHS.remove(handle(self));
        let state = std::mem::take(&mut *lock(&self.state));
        state.nodes.iter().for_each(forget);
        // Outside the lock: this may call the program.
        let held = std::mem::take(&mut *lock(&self.held));
        drop(held);
    }

    /// Keeps references to an object.
    pub fn hold(&self, held: Held) {
        lock(&self.held).push(held);
    }

    /// Gives references to an object back.
    ///
    /// # Errors
    /// INVALID_VALUE for more than it has.
    pub fn let_go(&self, object: &Arc<UserObject>, count: u64) -> Answer {
        let mut held = lock(&self.held);
        let mut left = count;
        for one in held.iter_mut().filter(|one| Arc::ptr_eq(&one.object, object)) {
            let given = left.min(one.count);
            one.count -= given;
            left -= given;
        }
        held.retain(|one| one.count > 0);
        drop(held);
        object.release(count - left)?;
        if left == 0 { Ok(()) } else { Err(CUresult::INVALID_VALUE) }
    }

    /// The objects that it keeps, for somebody else who keeps them too.
    pub fn held(&self) -> Vec<Held> {
        lock(&self.held).clone()
    }
}

fn forget(node: &Arc<Node>) {
    NODES.remove(handle(node));
    if let Action::Child(child) = &*node.action() {
        child.destroy();
    }
}

/// The graph of a handle.
///
/// # Errors
/// INVALID_VALUE when it names nothing.
pub fn graph(handle: CUgraph) -> Answer<Arc<Graph>> {
    GRAPHS.find(handle.0).ok_or(CUresult::INVALID_VALUE)
}

/// The node of a handle.
///
/// # Errors
/// INVALID_VALUE when it names nothing.
pub fn node(handle: CUgraphNode) -> Answer<Arc<Node>> {
    NODES.find(handle.0).ok_or(CUresult::INVALID_VALUE)
}

/// The handle of a node.
pub fn node_handle(node: &Arc<Node>) -> CUgraphNode {
    CUgraphNode(handle(node))
}
