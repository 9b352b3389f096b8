//! Graphs: nodes and what they wait for.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use cuda_abi::{CUgraph, CUgraphEdgeData, CUgraphNode, CUgraphNodeType, CUresult};

use crate::registry::{Registry, handle};
use crate::user_object::{Held, UserObject};
use crate::{Answer, lock};

/// What a node does.
pub trait NodeAction: Sized + Send + Sync + 'static {
    /// Its kind in CUDA's numbers.
    fn kind(&self) -> CUgraphNodeType;

    /// The same for a node of another graph.
    ///
    /// # Errors
    /// NOT_SUPPORTED for what cannot be there twice.
    fn duplicate(&self) -> Answer<Self>;

    /// The graph that the node stands for.
    fn child(&self) -> Option<&Arc<Graph<Self>>>;

    /// What programs can name.
    fn names() -> &'static Names<Self>;
}

/// Two nodes; the second waits for the first.
pub type Pair<A> = (Arc<Node<A>>, Arc<Node<A>>);

/// A node in an order in which a graph may run, with the places in it of those that it waits for.
pub type Ordered<A> = (Arc<Node<A>>, Vec<usize>);

/// All graphs and nodes that programs can name.
pub struct Names<A> {
    graphs: Registry<Graph<A>>,
    nodes: Registry<Node<A>>,
}

impl<A> Names<A> {
    /// None yet.
    #[allow(clippy::new_without_default, reason = "made in a static")]
    pub const fn new() -> Self {
        Self { graphs: Registry::new(), nodes: Registry::new() }
    }
}

/// An edge without ports: the second node begins when the first has ended.
pub const PLAIN: CUgraphEdgeData = CUgraphEdgeData { from_port: 0, to_port: 0, r#type: 0, reserved: [0; 5] };

/// A graph.
pub struct Graph<A> {
    state: Mutex<State<A>>,
    /// Belongs to a node of another graph, which destroys it.
    owned: AtomicBool,
    /// Where it was cloned from: the copies of nodes by the id of their originals.
    originals: Mutex<HashMap<u64, u64>>,
    /// Objects of the program that it keeps.
    held: Mutex<Vec<Held>>,
}

struct State<A> {
    /// In the order in which they were added.
    nodes: Vec<Arc<Node<A>>>,
    edges: Vec<Edge>,
}

/// One node waits for another.
#[derive(Clone, Copy)]
struct Edge {
    from: u64,
    to: u64,
}

/// A node of a graph.
pub struct Node<A> {
    /// Its number, unique in this process.
    pub id: u64,
    graph: Weak<Graph<A>>,
    action: Mutex<Arc<A>>,
}

impl<A> Default for State<A> {
    fn default() -> Self {
        Self { nodes: Vec::new(), edges: Vec::new() }
    }
}

impl<A> fmt::Debug for Graph<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Graph").field("nodes", &lock(&self.state).nodes.len()).finish_non_exhaustive()
    }
}

impl<A> fmt::Debug for Node<A> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Node").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<A: NodeAction> Node<A> {
    /// What it does.
    pub fn action(&self) -> Arc<A> {
        Arc::clone(&lock(&self.action))
    }

    /// Lets it do the same kind of thing with other parameters.
    ///
    /// # Errors
    /// INVALID_VALUE for another kind.
    pub fn set_action(&self, action: A) -> Answer {
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
    pub fn graph(&self) -> Answer<Arc<Graph<A>>> {
        self.graph.upgrade().ok_or(CUresult::INVALID_VALUE)
    }
}

impl<A: NodeAction> Graph<A> {
    /// An empty graph that programs can name.
    pub fn create() -> Arc<Self> {
        let graph = Arc::new(Self {
            state: Mutex::default(),
            owned: AtomicBool::new(false),
            originals: Mutex::default(),
            held: Mutex::default(),
        });
        A::names().graphs.insert(&graph);
        graph
    }

    /// Adds a node behind others.
    ///
    /// # Errors
    /// INVALID_VALUE for nodes of other graphs and for one that is named twice.
    pub fn add(self: &Arc<Self>, action: A, after: &[Arc<Node<A>>]) -> Answer<Arc<Node<A>>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut state = lock(&self.state);
        let mut seen = HashSet::new();
        if !after.iter().all(|node| self.holds(node) && seen.insert(node.id)) {
            return Err(CUresult::INVALID_VALUE);
        }
        if let Some(child) = action.child() {
            child.owned.store(true, Ordering::Release);
        }
        let node = Arc::new(Node {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            graph: Arc::downgrade(self),
            action: Mutex::new(Arc::new(action)),
        });
        A::names().nodes.insert(&node);
        state.edges.extend(after.iter().map(|from| Edge { from: from.id, to: node.id }));
        state.nodes.push(Arc::clone(&node));
        Ok(node)
    }

    fn holds(self: &Arc<Self>, node: &Node<A>) -> bool {
        std::ptr::eq(node.graph.as_ptr(), Arc::as_ptr(self))
    }

    /// Adds edges.
    ///
    /// # Errors
    /// INVALID_VALUE for nodes of other graphs, for a node behind itself and for edges that exist.
    pub fn connect(self: &Arc<Self>, edges: &[Pair<A>]) -> Answer {
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
    pub fn disconnect(&self, edges: &[Pair<A>]) -> Answer {
        let mut state = lock(&self.state);
        for (from, to) in edges {
            let found = state.edges.iter().position(|edge| edge.from == from.id && edge.to == to.id);
            state.edges.remove(found.ok_or(CUresult::INVALID_VALUE)?);
        }
        Ok(())
    }

    /// Takes a node away with its edges.
    pub fn remove(&self, node: &Arc<Node<A>>) {
        let mut state = lock(&self.state);
        state.nodes.retain(|other| other.id != node.id);
        state.edges.retain(|edge| edge.from != node.id && edge.to != node.id);
        drop(state);
        forget(node);
    }

    /// All nodes, in the order in which they were added.
    pub fn nodes(&self) -> Vec<Arc<Node<A>>> {
        lock(&self.state).nodes.clone()
    }

    /// Nodes that wait for none.
    pub fn roots(&self) -> Vec<Arc<Node<A>>> {
        let state = lock(&self.state);
        let waiting: HashSet<_> = state.edges.iter().map(|edge| edge.to).collect();
        state.nodes.iter().filter(|node| !waiting.contains(&node.id)).cloned().collect()
    }

    /// All edges as pairs of nodes.
    pub fn edges(&self) -> Vec<Pair<A>> {
        let state = lock(&self.state);
        let by_id: HashMap<_, _> = state.nodes.iter().map(|node| (node.id, node)).collect();
        state.edges.iter().map(|edge| (Arc::clone(by_id[&edge.from]), Arc::clone(by_id[&edge.to]))).collect()
    }

    /// Nodes that a node waits for.
    pub fn before(&self, node: &Node<A>) -> Vec<Arc<Node<A>>> {
        self.edges().into_iter().filter(|(_, to)| to.id == node.id).map(|(from, _)| from).collect()
    }

    /// Nodes that wait for a node.
    pub fn behind(&self, node: &Node<A>) -> Vec<Arc<Node<A>>> {
        self.edges().into_iter().filter(|(from, _)| from.id == node.id).map(|(_, to)| to).collect()
    }

    /// Whether every node of `nodes` is one of `ends` or before one of them.
    pub fn reaches(&self, nodes: &[Arc<Node<A>>], ends: &[Arc<Node<A>>]) -> bool {
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
    pub fn order(&self) -> Answer<Vec<Ordered<A>>> {
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
        let mut nodes: HashMap<u64, Arc<Node<A>>> = HashMap::new();
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
    pub fn copy_of(&self, original: &Node<A>) -> Option<Arc<Node<A>>> {
        let id = *lock(&self.originals).get(&original.id)?;
        lock(&self.state).nodes.iter().find(|node| node.id == id).cloned()
    }

    /// Whether it belongs to a node of another graph.
    pub fn is_owned(&self) -> bool {
        self.owned.load(Ordering::Acquire)
    }

    /// Ends the graph with its nodes; executable graphs made from it go on.
    pub fn destroy(self: &Arc<Self>) {
        A::names().graphs.remove(handle(self));
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

fn forget<A: NodeAction>(node: &Arc<Node<A>>) {
    A::names().nodes.remove(handle(node));
    if let Some(child) = node.action().child() {
        child.destroy();
    }
}

/// The handle of a node.
pub fn node_handle<A>(node: &Arc<Node<A>>) -> CUgraphNode {
    CUgraphNode(handle(node))
}

impl<A: NodeAction> Names<A> {
    /// The graph of a handle.
    ///
    /// # Errors
    /// INVALID_VALUE when it names nothing.
    pub fn graph(&self, handle: CUgraph) -> Answer<Arc<Graph<A>>> {
        self.graphs.find(handle.0).ok_or(CUresult::INVALID_VALUE)
    }

    /// The node of a handle.
    ///
    /// # Errors
    /// INVALID_VALUE when it names nothing.
    pub fn node(&self, handle: CUgraphNode) -> Answer<Arc<Node<A>>> {
        self.nodes.find(handle.0).ok_or(CUresult::INVALID_VALUE)
    }
}
