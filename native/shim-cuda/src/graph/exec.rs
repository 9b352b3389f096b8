//! Executable graphs: made by one round trip, launched by one record and the bytes that the graph reads of this
//! process. Changes of parameters are checked here; the worker is told the ones that concern it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::graph::{Held, NodeAction as _, Registry};
use cuda_abi::{
    CU_GRAPH_EXEC_UPDATE_ERROR, CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED,
    CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE,
    CUgraphExec, CUgraphExecUpdateResult, CUresult,
};
use wire::handle::{Event, GraphExec, Handle as _, Stream};
use wire::{Request as _, cuda};

use crate::callback::{self, Action as Callback};
use crate::capture;
use crate::client::Client;
use crate::connection::{Data, Destination};
use crate::entry::Answer;
use crate::event::Recorded;
use crate::graph::action::Action;
use crate::graph::memory;
use crate::graph::plan::{Outline, Plan, PlannedNode, Run, Step, Use, flatten};
use crate::graph::{Graph, Node};
use crate::servers;

/// Memory that a launch left allocated is freed by the next one.
const AUTO_FREE: u64 = 1;

/// What the worker's driver is told of the flags: node priorities. The others are answered for here.
const DRIVER_FLAGS: u64 = 8;

/// Bytes of a launch's sources up to which they are sent along; more is sent when the graph asks for it, because
/// launches may queue by the hundred.
const SENT_ALONG: u64 = 4 << 20;

/// Bytes that one record brings.
const PIECE: usize = 4 << 20;

/// A graph that can be launched.
#[derive(Debug)]
pub struct Exec {
    /// Which of the session's servers it is on.
    pub server: usize,
    /// Flags that it was made with.
    pub flags: u64,
    outline: Outline,
    /// Objects of the program that launches keep.
    held: Vec<Held>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// As the worker knows it.
    exec: GraphExec,
    steps: Vec<Step>,
    plan: Plan,
}

/// All executable graphs.
pub static EXECS: Registry<Exec> = Registry::new();

impl Exec {
    /// Makes a graph executable, on the server that its nodes name, else on that of `client`.
    ///
    /// Errors: `INVALID_VALUE` where its nodes wait in a circle, `NOT_SUPPORTED` where they name several servers, or what the
    /// driver answers.
    pub fn create(client: &'static Client, graph: &Graph, flags: u64) -> Answer<Arc<Self>> {
        let (outline, steps) = flatten(graph)?;
        let server = servers::one_of(steps.iter().filter_map(|step| step.action.server()))?;
        let client = servers::other(client, server.unwrap_or(client.server));
        let plan = Plan::of(&steps)?;
        let exec = servers::at(client, || send(client, &plan, flags))?;
        let mut held = Vec::new();
        collect_held(graph, &mut held);
        let state = Mutex::new(State { exec, steps, plan });
        Ok(Arc::new(Self { server: client.server, flags, outline, held, state }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a node other parameters for launches to come.
    ///
    /// Errors: `INVALID_VALUE` for a node that is not in it or of another kind, and for a function of another context.
    pub fn set_action(&self, client: &Client, node: &Node, action: Action) -> Answer {
        let mut state = self.state();
        let mut steps = state.steps.clone();
        let step = find(&mut steps, node.id)?;
        if step.action.kind() != action.kind() {
            return Err(CUresult::INVALID_VALUE);
        }
        if step.action.moves_to(&action) {
            return Err(CUresult::INVALID_VALUE);
        }
        step.action = Arc::new(match (&*step.action, action) {
            // Attributes of the node stay.
            (Action::Kernel(old), Action::Kernel(new)) => {
                Action::Kernel(new.with_attributes(old.attributes.clone()))
            }
            (_, action) => action,
        });
        self.apply(client, &mut state, steps)
    }

    /// Gives the graph of a node other parameters.
    ///
    /// Errors: `INVALID_VALUE` where the two graphs differ in more.
    pub fn set_child(&self, client: &Client, node: &Node, graph: &Graph) -> Answer {
        let action = node.action();
        let child = action.child().ok_or(CUresult::INVALID_VALUE)?;
        let (old_outline, old) = flatten(child)?;
        let (outline, new) = flatten(graph)?;
        if old_outline != outline {
            return Err(CUresult::INVALID_VALUE);
        }
        let mut state = self.state();
        let mut steps = state.steps.clone();
        for (old, new) in old.iter().zip(new).filter(|(old, _)| old.node != 0) {
            find(&mut steps, old.node)?.action = new.action;
        }
        self.apply(client, &mut state, steps)
    }

    /// Takes the parameters of all nodes of a graph of the same shape.
    ///
    /// Errors: why it cannot, in CUDA's numbers.
    pub fn update(&self, client: &Client, graph: &Graph) -> Result<(), CUgraphExecUpdateResult> {
        let (outline, new) = flatten(graph).map_err(|_| CU_GRAPH_EXEC_UPDATE_ERROR)?;
        if outline != self.outline {
            let places =
                |outline: &Outline| outline.iter().map(|(_, before)| before.clone()).collect::<Vec<_>>();
            return Err(if places(&outline) == places(&self.outline) {
                CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED
            } else {
                CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED
            });
        }
        let mut state = self.state();
        let mut steps = state.steps.clone();
        for (step, new) in steps.iter_mut().zip(new) {
            if step.action.moves_to(&new.action) {
                return Err(CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE);
            }
            step.action = new.action;
        }
        self.apply(client, &mut state, steps).map_err(|_| CU_GRAPH_EXEC_UPDATE_ERROR)
    }

    /// Whether a node does what it does.
    ///
    /// Errors: `INVALID_VALUE` for a node that is not in it.
    pub fn is_enabled(&self, node: &Node) -> Answer<bool> {
        let state = self.state();
        let step = state.steps.iter().find(|step| step.node == node.id).ok_or(CUresult::INVALID_VALUE)?;
        Ok(step.is_enabled)
    }

    /// Switches a node on or off.
    ///
    /// Errors: `INVALID_VALUE` for a node that is not in it, or that is no kernel, copy or fill.
    pub fn set_enabled(&self, client: &Client, node: &Node, is_enabled: bool) -> Answer {
        let mut state = self.state();
        let at = state.steps.iter().position(|step| step.node == node.id).ok_or(CUresult::INVALID_VALUE)?;
        if !matches!(&*state.steps[at].action, Action::Kernel(_) | Action::Copy(..) | Action::Fill(_)) {
            return Err(CUresult::INVALID_VALUE);
        }
        state.steps[at].is_enabled = is_enabled;
        tell_enabled(client, &state, at)
    }

    /// Takes other steps of the same outline: only what differs is told, where it can be, else the graph is made anew.
    fn apply(&self, client: &Client, state: &mut State, steps: Vec<Step>) -> Answer {
        if servers::one_of(steps.iter().filter_map(|step| step.action.server()))?
            .is_some_and(|on| on != self.server)
        {
            return Err(CUresult::INVALID_VALUE);
        }
        let plan = Plan::of(&steps)?;
        let pairs = || state.plan.nodes.iter().zip(&plan.nodes).enumerate();
        let changed: Vec<(usize, &PlannedNode)> = pairs()
            .filter(|(_, (old, new))| old.parameters() != new.parameters())
            .map(|(at, (_, new))| (at, new))
            .collect();
        let is_settable = plan.has_shape_of(&state.plan)
            && changed.iter().all(|(at, new)| new.can_follow(&state.plan.nodes[*at]));
        let told = is_settable
            && changed.into_iter().all(|(at, node)| tell_parameters(client, state.exec, at, node).is_ok());
        if !told {
            let exec = send(client, &plan, self.flags)?;
            client.post(&cuda::CuGraphExecDestroy { exec: state.exec })?;
            state.exec = exec;
        }
        state.steps = steps;
        state.plan = plan;
        if !told {
            for at in 0..state.steps.len() {
                if !state.steps[at].is_enabled {
                    tell_enabled(client, state, at)?;
                }
            }
        }
        Ok(())
    }

    /// A graph that does the same: what a launch is that a stream captures.
    fn as_graph(&self) -> Answer<Arc<Graph>> {
        let graph = Graph::create();
        let mut before = Vec::new();
        for step in self.state().steps.iter().filter(|step| step.is_enabled && step.node != 0) {
            before = vec![graph.add(step.action.duplicate()?, &before)?];
        }
        Ok(graph)
    }

    /// Launches it in a stream.
    ///
    /// Errors: `INVALID_VALUE` where memory of an earlier launch was not freed; errors of captures.
    pub fn launch(&self, client: &'static Client, stream: Stream) -> Answer {
        if capture::record(client, stream, || Ok(Action::Child(self.as_graph()?)))? {
            return Ok(());
        }
        // Held to the end: launches of one graph go out one by one.
        let state = self.state();
        self.account(&state.steps)?;
        let launch = client.new_number();
        // Asked before this launch's own functions are among what is under way.
        let is_quiet = !client.connection().has_callbacks();
        for (slot, what) in (0u32..).zip(&state.plan.uses) {
            let is_on = |run: &&Run| state.steps[run.step].is_enabled;
            match what {
                Use::Gather { runs, early } => {
                    let runs: Vec<Run> = runs.iter().filter(is_on).copied().collect();
                    let bytes: u64 = runs.iter().map(|run| run.length as u64).sum();
                    let may_change = !*early
                        || !is_quiet
                        || bytes > SENT_ALONG
                        || runs
                            .iter()
                            .any(|run| client.connection().has_downloads(run.address.addr(), run.length));
                    if may_change {
                        pull(client, stream, (launch, slot), &runs)?;
                    } else {
                        push(client, launch, slot, &runs)?;
                    }
                }
                Use::Call(call) => {
                    let action = Callback::Host(call.function, call.data);
                    callback::ask(client, stream, action, |token| {
                        client.post(&cuda::FarpoolGraphCall { launch, slot, token })
                    })?;
                }
                Use::Move(copy) => callback::ask(client, stream, Callback::Move(*copy), |token| {
                    client.post(&cuda::FarpoolGraphCall { launch, slot, token })
                })?,
                Use::Scatter(runs) => {
                    for (address, offset, length) in runs.iter().filter(is_on).flat_map(pieces) {
                        let size = length as u64;
                        // SAFETY: the program says that its memory stays writable until the graph has run.
                        unsafe {
                            let place = Destination::new(address, length);
                            let request = cuda::FarpoolGraphOutput { launch, slot, offset, size };
                            client.download(&request, place)?;
                        }
                    }
                }
            }
        }
        client.post(&cuda::CuGraphLaunch {
            exec: state.exec,
            launch,
            stream,
            events: state.plan.events.clone(),
        })?;
        for event in &state.plan.events {
            // Somewhere within the graph: only the worker knows when it gets there.
            client.events.record(Event::from_raw(event.event), Recorded::OnContext);
        }
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

    /// Uploads it, so that its first launch takes no longer than others.
    pub fn upload(&self, client: &Client, stream: Stream) -> Answer {
        client.post(&cuda::CuGraphUpload { exec: self.state().exec, stream })
    }

    /// Ends it; launches that are queued still run.
    pub fn destroy(&self, client: &Client) -> Answer {
        if !self.held.is_empty() {
            // Launches keep the objects of the program.
            client.call(&cuda::CuCtxSynchronize)?;
        }
        client.post(&cuda::CuGraphExecDestroy { exec: self.state().exec })
    }
}

fn find(steps: &mut [Step], node: u64) -> Answer<&mut Step> {
    steps.iter_mut().find(|step| step.node == node).ok_or(CUresult::INVALID_VALUE)
}

fn collect_held(graph: &Graph, held: &mut Vec<Held>) {
    held.extend(graph.held());
    for node in graph.nodes() {
        if let Action::Child(child) = &*node.action() {
            collect_held(child, held);
        }
    }
}

/// Has the worker make a graph.
fn send(client: &Client, plan: &Plan, flags: u64) -> Answer<GraphExec> {
    let graph = client.new_number();
    client.post(&cuda::FarpoolGraphBegin { graph, slots: plan.slots.clone() })?;
    for node in &plan.nodes {
        let it = node.parameters();
        client.post(&cuda::FarpoolGraphNode {
            graph,
            context: it.context,
            kind: node.kind,
            target: it.target,
            numbers: it.numbers,
            after: node.after.clone(),
            attributes: it.attributes.to_vec(),
            data: it.data,
        })?;
    }
    let exec: GraphExec = client.new_handle();
    client.call(&cuda::CuGraphInstantiateWithFlags { exec, graph, flags: flags & DRIVER_FLAGS })?;
    Ok(exec)
}

/// Tells the worker other parameters of a node; waits where it may refuse them.
fn tell_parameters(client: &Client, exec: GraphExec, at: usize, node: &PlannedNode) -> Answer {
    let it = node.parameters();
    let request = cuda::FarpoolGraphNodeSet {
        exec,
        node: u32::try_from(at).map_err(|_| CUresult::INVALID_VALUE)?,
        context: it.context,
        kind: node.kind,
        target: it.target,
        numbers: it.numbers,
        attributes: it.attributes.to_vec(),
        data: it.data,
    };
    if node.may_be_refused() { client.call(&request) } else { client.post(&request) }
}

fn tell_enabled(client: &Client, state: &State, at: usize) -> Answer {
    client.post(&cuda::CuGraphNodeSetEnabled {
        exec: state.exec,
        node: u32::try_from(state.plan.places[at]).map_err(|_| CUresult::INVALID_VALUE)?,
        enabled: u32::from(state.steps[at].is_enabled),
    })
}

/// Address, offset in the slot and length of the pieces of a run.
fn pieces(run: &Run) -> impl Iterator<Item = (*mut u8, u64, usize)> + use<> {
    let run = *run;
    (0..run.length)
        .step_by(PIECE)
        .map(move |at| (run.address.wrapping_add(at), run.offset + at as u64, PIECE.min(run.length - at)))
}

/// Sends the present bytes of a launch's sources.
fn push(client: &Client, launch: u64, slot: u32, runs: &[Run]) -> Answer {
    for (address, offset, length) in runs.iter().flat_map(pieces) {
        // SAFETY: the program says that its memory can be read whenever the graph runs.
        let data = unsafe { std::slice::from_raw_parts(address, length) };
        client.post_with_data(
            <cuda::FarpoolGraphInput<'_>>::CALL,
            None,
            |writer| {
                writer.put_u64(launch);
                writer.put_u32(slot);
                writer.put_u64(offset);
            },
            Data::Passing(data),
        )?;
    }
    Ok(())
}

/// Has the graph ask for the bytes of its sources when it gets to them; small runs are asked for together.
fn pull(client: &'static Client, stream: Stream, (launch, slot): (u64, u32), runs: &[Run]) -> Answer {
    let mut together: Vec<(*const u8, usize)> = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    let ask = |start: u64, together: &mut Vec<(*const u8, usize)>| {
        if together.is_empty() {
            return Ok(());
        }
        callback::ask(client, stream, Callback::Gather(std::mem::take(together)), |token| {
            client.post(&cuda::FarpoolGraphPull { launch, slot, offset: start, token })
        })
    };
    for (address, offset, length) in runs.iter().flat_map(pieces) {
        if bytes + length > PIECE || offset != start + bytes as u64 {
            ask(start, &mut together)?;
            (start, bytes) = (offset, 0);
        }
        together.push((address, length));
        bytes += length;
    }
    ask(start, &mut together)
}

/// The executable graph of a handle.
///
/// Errors: `INVALID_VALUE` when it names nothing.
pub fn exec(handle: CUgraphExec) -> Answer<Arc<Exec>> {
    EXECS.find(handle.0).ok_or(CUresult::INVALID_VALUE)
}
