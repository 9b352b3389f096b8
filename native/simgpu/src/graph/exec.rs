//! Executable graphs: a graph's nodes in one order, launched as work of a stream.
//!
//! Nodes run one after another, also those that do not wait for each other: any order that keeps the edges is
//! right, and kernels use all cores anyway. Neighbouring kernels, copies and fills are one piece of work.

use std::sync::{Arc, Mutex};

use cuda_abi::{
    CU_GRAPH_EXEC_UPDATE_ERROR, CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED,
    CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE,
    CUgraphExec, CUgraphExecUpdateResult, CUgraphNodeType, CUresult,
};

use crate::capture;
use crate::context;
use crate::device::lock;
use crate::graph::action::Action;
use crate::graph::memory;
use crate::graph::{Graph, Node};
use crate::guard::Answer;
use crate::launch::Shape;
use crate::stream::{Stream, Ticket, Work};
use graph::Registry;
use graph::{Held, NodeAction as _};

/// Memory that a launch left allocated is freed by the next one.
pub const AUTO_FREE: u64 = 1;

/// What one node does, and whether it does it.
#[derive(Clone)]
struct Step {
    node: u64,
    action: Arc<Action>,
    enabled: bool,
}

/// Kind of a node and places of those it waits for.
type Outline = Vec<(CUgraphNodeType, Vec<usize>)>;

/// A graph that can be launched.
pub struct Exec {
    pub flags: u64,
    outline: Outline,
    /// Launches hold the list that they began with; updates make another.
    steps: Mutex<Arc<Vec<Step>>>,
    /// Objects of the program that launches keep.
    held: Arc<Vec<Held>>,
    /// The newest launch: a graph does not run beside itself.
    last: Mutex<Option<Ticket>>,
}

/// All executable graphs.
pub static EXECS: Registry<Exec> = Registry::new();

/// The steps of a graph; those of graphs inside it are in the place of the node.
fn flatten(graph: &Graph, outline: &mut Outline, steps: &mut Vec<Step>) -> Answer {
    for (node, before) in graph.order()? {
        let action = node.action();
        outline.push((action.kind(), before));
        match &*action {
            Action::Child(child) => flatten(child, outline, steps)?,
            Action::Kernel(call) if !call.function.is_loaded() => return Err(CUresult::INVALID_HANDLE),
            _ => steps.push(Step { node: node.id, action, enabled: true }),
        }
    }
    // The end of a child's nodes.
    outline.push((-1, Vec::new()));
    Ok(())
}

fn collect_held(graph: &Graph, held: &mut Vec<Held>) {
    held.extend(graph.held());
    for node in graph.nodes() {
        if let Action::Child(child) = &*node.action() {
            collect_held(child, held);
        }
    }
}

impl Exec {
    /// Makes a graph executable.
    ///
    /// # Errors
    /// INVALID_VALUE where its nodes wait in a circle, INVALID_HANDLE where a function of its kernels is gone, or the
    /// error that ended the current context.
    pub fn create(graph: &Graph, flags: u64) -> Answer<Arc<Self>> {
        context::unharmed()?;
        let (mut outline, mut steps) = (Vec::new(), Vec::new());
        flatten(graph, &mut outline, &mut steps)?;
        let steps = Mutex::new(Arc::new(steps));
        let mut held = Vec::new();
        collect_held(graph, &mut held);
        Ok(Arc::new(Self { flags, outline, steps, held: Arc::new(held), last: Mutex::default() }))
    }

    fn change(&self, node: &Node, change: impl FnOnce(&mut Step) -> Answer) -> Answer {
        let mut steps = lock(&self.steps);
        let steps = Arc::make_mut(&mut steps);
        change(steps.iter_mut().find(|step| step.node == node.id).ok_or(CUresult::INVALID_VALUE)?)
    }

    /// Gives a node other parameters for launches to come.
    ///
    /// # Errors
    /// INVALID_VALUE for a node that is not in it or of another kind, and for a function of another context.
    pub fn set_action(&self, node: &Node, action: Action) -> Answer {
        self.change(node, |step| {
            if step.action.kind() != action.kind() {
                return Err(CUresult::INVALID_VALUE);
            }
            if step.action.moves_to(&action) {
                return Err(CUresult::INVALID_VALUE);
            }
            step.action = Arc::new(match (&*step.action, action) {
                // Attributes of the node stay.
                (Action::Kernel(old), Action::Kernel(new)) => {
                    let shape = Shape { cooperative: old.shape.cooperative, ..new.shape };
                    Action::Kernel(new.with_shape(shape))
                }
                (_, action) => action,
            });
            Ok(())
        })
    }

    /// Gives the graph of a node other parameters.
    ///
    /// # Errors
    /// INVALID_VALUE where the two graphs differ in more.
    pub fn set_child(&self, node: &Node, graph: &Graph) -> Answer {
        let action = node.action();
        let Action::Child(child) = &*action else { return Err(CUresult::INVALID_VALUE) };
        let (mut old_outline, mut old) = (Vec::new(), Vec::new());
        flatten(child, &mut old_outline, &mut old)?;
        let (mut outline, mut new) = (Vec::new(), Vec::new());
        flatten(graph, &mut outline, &mut new)?;
        if old_outline != outline {
            return Err(CUresult::INVALID_VALUE);
        }
        let mut steps = lock(&self.steps);
        let steps = Arc::make_mut(&mut steps);
        for (old, new) in old.iter().zip(new) {
            let step = steps.iter_mut().find(|step| step.node == old.node).ok_or(CUresult::INVALID_VALUE)?;
            step.action = new.action;
        }
        Ok(())
    }

    /// Whether a node does what it does.
    ///
    /// # Errors
    /// INVALID_VALUE for a node that is not in it.
    pub fn is_enabled(&self, node: &Node) -> Answer<bool> {
        let steps = lock(&self.steps);
        let step = steps.iter().find(|step| step.node == node.id).ok_or(CUresult::INVALID_VALUE)?;
        Ok(step.enabled)
    }

    /// Switches a node on or off.
    ///
    /// # Errors
    /// INVALID_VALUE for a node that is not in it, or that is no kernel, copy or fill.
    pub fn set_enabled(&self, node: &Node, enabled: bool) -> Answer {
        self.change(node, |step| match *step.action {
            Action::Kernel(_) | Action::Copy(_) | Action::Fill(_) => {
                step.enabled = enabled;
                Ok(())
            }
            _ => Err(CUresult::INVALID_VALUE),
        })
    }

    /// Takes the parameters of all nodes of a graph of the same shape.
    ///
    /// # Errors
    /// Why it cannot, in CUDA's numbers.
    pub fn update(&self, graph: &Graph) -> Result<(), CUgraphExecUpdateResult> {
        let (mut outline, mut new) = (Vec::new(), Vec::new());
        flatten(graph, &mut outline, &mut new).map_err(|_| CU_GRAPH_EXEC_UPDATE_ERROR)?;
        if outline != self.outline {
            let places =
                |outline: &Outline| outline.iter().map(|(_, before)| before.clone()).collect::<Vec<_>>();
            let same = places(&outline) == places(&self.outline);
            return Err(if same {
                CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED
            } else {
                CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED
            });
        }
        let mut steps = lock(&self.steps);
        if steps.iter().zip(&new).any(|(old, new)| old.action.moves_to(&new.action)) {
            return Err(CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE);
        }
        for (step, new) in Arc::make_mut(&mut steps).iter_mut().zip(new) {
            step.action = new.action;
        }
        Ok(())
    }

    /// A graph that does the same: what a launch is that a stream captures.
    fn as_graph(&self) -> Answer<Arc<Graph>> {
        let graph = Graph::create();
        let mut before = Vec::new();
        for step in lock(&self.steps).iter().filter(|step| step.enabled) {
            before = vec![graph.add(step.action.duplicate()?, &before)?];
        }
        Ok(graph)
    }

    /// Launches it in a stream.
    ///
    /// # Errors
    /// INVALID_VALUE where memory of an earlier launch was not freed; errors of captures.
    pub fn launch(self: &Arc<Self>, stream: &Arc<Stream>) -> Answer {
        if capture::record(stream, || Ok(Action::Child(self.as_graph()?)))? {
            return Ok(());
        }
        let steps = Arc::clone(&lock(&self.steps));
        self.account(&steps)?;
        let mut last = lock(&self.last);
        let mut batch = Batch::default();
        let mut begin = 0;
        for (at, step) in steps.iter().enumerate() {
            let work = match &*step.action {
                _ if !step.enabled => continue,
                Action::Host(call) => {
                    let call = *call;
                    Work::Host(Box::new(move || call.call()))
                }
                Action::Wait(event) => {
                    // An event that this launch records is before its waiter in the stream anyway.
                    let ticket = event.ticket().filter(|ticket| !ticket.is_done());
                    batch.run(&steps, begin..at);
                    batch.works.push((ticket, Work::Marker));
                    begin = at + 1;
                    continue;
                }
                Action::Record(event) => {
                    let generation = event.next_generation();
                    batch.run(&steps, begin..at);
                    batch.records.push((batch.works.len(), Arc::clone(event), generation));
                    batch.works.push((None, Work::Stamp(Arc::clone(event), generation)));
                    begin = at + 1;
                    continue;
                }
                _ => continue,
            };
            batch.run(&steps, begin..at);
            batch.works.push((None, work));
            begin = at + 1;
        }
        batch.run(&steps, begin..steps.len());
        if !self.held.is_empty() {
            let held = Arc::clone(&self.held);
            batch.works.push((None, Work::Callback(Box::new(move |_| drop(held)))));
        }
        if batch.works.is_empty() {
            batch.works.push((None, Work::Marker));
        }
        let first = stream.submit_batch(last.take(), batch.works);
        for (index, event, generation) in batch.records {
            event
                .recorded_at(generation, Ticket { stream: Arc::clone(stream), number: first + index as u64 });
        }
        *last = Some(stream.last());
        Ok(())
    }

    /// Notes what a launch allocates and frees.
    fn account(&self, steps: &[Step]) -> Answer {
        if self.flags & AUTO_FREE == 0 {
            let left =
                |step: &Step| matches!(&*step.action, Action::Allocate(memory) if memory.is_outstanding());
            if steps.iter().any(left) {
                return Err(CUresult::INVALID_VALUE);
            }
        }
        for step in steps {
            match &*step.action {
                Action::Allocate(memory) => {
                    memory.set_outstanding(true);
                }
                Action::Free(address) => {
                    memory::find(*address).inspect(|memory| {
                        memory.set_outstanding(false);
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Work that a launch queues at once.
#[derive(Default)]
struct Batch {
    works: Vec<(Option<Ticket>, Work)>,
    records: Vec<(usize, Arc<crate::event::Event>, u64)>,
}

impl Batch {
    fn run(&mut self, steps: &Arc<Vec<Step>>, range: std::ops::Range<usize>) {
        let acts = |step: &Step| step.enabled && !matches!(*step.action, Action::Empty | Action::Free(_));
        if !steps[range.clone()].iter().any(acts) {
            return;
        }
        let steps = Arc::clone(steps);
        self.works.push((
            None,
            Work::Run(Box::new(move |context| {
                steps[range]
                    .iter()
                    .filter(|step| step.enabled)
                    .try_for_each(|step| step.action.perform(context))
            })),
        ));
    }
}

/// The executable graph of a handle.
///
/// # Errors
/// INVALID_VALUE when it names nothing, or the error that ended the current context.
pub fn exec(handle: CUgraphExec) -> Answer<Arc<Exec>> {
    context::unharmed()?;
    EXECS.find(handle.0).ok_or(CUresult::INVALID_VALUE)
}
