//! What the worker is told of a graph: its nodes in an order in which they may run, and *slots* where it meets this
//! process. A slot is a host node of the worker's; each launch says what it does there: take bytes of this process,
//! have one of its functions run, or send bytes to it.
//!
//! Sources in this process are read when a graph is launched, all by one slot at its beginning. Only a source that
//! the graph itself may write before its copy is read when the graph gets to the copy, by a slot of its own.

use std::sync::Arc;

use cuda_abi::CUgraphNodeType;
use cuda_abi::CUresult;
use wire::cuda::{GraphEdge, GraphEvent, GraphSlot, LaunchAttribute};
use wire::handle::{Context, Handle as _};

use crate::client::index_of;
use crate::entry::Answer;
use crate::graph::Graph;
use crate::graph::action::{Action, HostCall};
use crate::rectangle::{Copy3d, Place};

/// Numbers of a node's kind on the wire.
pub mod kind {
    /// Nothing.
    pub const EMPTY: u32 = 0;
    /// A launch.
    pub const KERNEL: u32 = 1;
    /// A copy on devices.
    pub const COPY: u32 = 2;
    /// A copy from a slot's memory.
    pub const UPLOAD: u32 = 3;
    /// A copy to a slot's memory.
    pub const DOWNLOAD: u32 = 4;
    /// A memset.
    pub const FILL: u32 = 5;
    /// A slot.
    pub const SLOT: u32 = 6;
    /// Waits for an event.
    pub const WAIT: u32 = 7;
    /// Records an event.
    pub const RECORD: u32 = 8;
}

/// Written ranges that are told apart; with more of them everything counts as written.
const MOST_RANGES: usize = 64;

/// One node of a graph whose graphs inside it lie in the places of their nodes.
#[derive(Debug, Clone)]
pub struct Step {
    /// The node's number; 0 for the ends of a graph inside.
    pub node: u64,
    /// What it does.
    pub action: Arc<Action>,
    /// Whether it does it.
    pub is_enabled: bool,
    /// Places of the steps that it waits for.
    after: Vec<usize>,
}

/// Kind of each node and places of those it waits for: what an update must not change.
pub type Outline = Vec<(CUgraphNodeType, Vec<usize>)>;

/// Bytes of this process that a slot takes or gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The step that they belong to.
    pub step: usize,
    /// Where they are.
    pub address: *mut u8,
    /// How many.
    pub length: usize,
    /// Where they are in the slot's memory.
    pub offset: u64,
}

// SAFETY: the program vouches for the memory of its copies until they are done; nothing here follows the pointer.
unsafe impl Send for Run {}
// SAFETY: as above.
unsafe impl Sync for Run {}

/// What a launch does at a slot.
#[derive(Debug)]
pub enum Use {
    /// Takes bytes of this process: when it is launched, or when it gets there.
    Gather { runs: Vec<Run>, early: bool },
    /// Runs a function of the program.
    Call(HostCall),
    /// Copies inside this process.
    Move(Copy3d),
    /// Gives bytes to this process.
    Scatter(Vec<Run>),
}

/// A node as the worker gets it.
#[derive(Debug)]
pub struct PlannedNode {
    /// Its kind.
    pub kind: u32,
    /// Places of the nodes that it waits for.
    pub after: Vec<GraphEdge>,
    action: Option<Arc<Action>>,
    slot: u64,
    offset: u64,
}

/// Parameters of a node as the worker gets them.
#[derive(Debug, PartialEq)]
pub struct Parameters<'a> {
    /// Index of the context.
    pub context: u32,
    /// Function, slot or event.
    pub target: u64,
    /// Numbers whose meaning depends on the kind.
    pub numbers: [u64; 16],
    /// Attributes of a launch.
    pub attributes: &'a [LaunchAttribute],
    /// Packed parameters of a kernel.
    pub data: &'a [u8],
}

/// Everything that the worker is told.
#[derive(Debug, Default)]
pub struct Plan {
    /// Sizes of the slots' memory.
    pub slots: Vec<GraphSlot>,
    /// What launches do at them.
    pub uses: Vec<Use>,
    /// The nodes.
    pub nodes: Vec<PlannedNode>,
    /// For each step the place of the node whose parameters can be set.
    pub places: Vec<usize>,
    /// Events that launches touch.
    pub events: Vec<GraphEvent>,
}

/// Host memory that may be written before a step.
#[derive(Debug, Clone, Default)]
struct Written {
    anything: bool,
    ranges: Vec<(usize, usize)>,
}

impl Written {
    fn add(&mut self, other: &Written) {
        self.anything |= other.anything;
        for range in &other.ranges {
            if !self.ranges.contains(range) {
                self.ranges.push(*range);
            }
        }
        if self.ranges.len() > MOST_RANGES {
            self.anything = true;
            self.ranges.clear();
        }
    }

    fn touches(&self, runs: &[Run]) -> bool {
        let overlaps = |run: &Run| {
            let (start, end) = (run.address.addr(), run.address.addr() + run.length);
            self.ranges.iter().any(|(from, to)| *from < end && start < *to)
        };
        self.anything || runs.iter().any(overlaps)
    }
}

/// The steps of a graph.
///
/// Errors: `INVALID_VALUE` where its nodes wait in a circle.
pub fn flatten(graph: &Graph) -> Answer<(Outline, Vec<Step>)> {
    let (mut outline, mut steps) = (Vec::new(), Vec::new());
    unfold(graph, &[], &mut outline, &mut steps)?;
    Ok((outline, steps))
}

/// Adds a graph behind the steps `before`; answers the steps that nothing in it waits for.
fn unfold(
    graph: &Graph,
    before: &[usize],
    outline: &mut Outline,
    steps: &mut Vec<Step>,
) -> Answer<Vec<usize>> {
    use ::graph::NodeAction as _;
    let mut exits: Vec<usize> = Vec::new();
    let mut is_last: Vec<bool> = Vec::new();
    for (node, after) in graph.order()? {
        let action = node.action();
        after.iter().for_each(|place| is_last[*place] = false);
        let wait = if after.is_empty() {
            before.to_vec()
        } else {
            after.iter().map(|place| exits[*place]).collect()
        };
        outline.push((action.kind(), after));
        let exit = match &*action {
            Action::Child(child) => {
                let enter = join(steps, wait);
                let leaves = unfold(child, &[enter], outline, steps)?;
                join(steps, if leaves.is_empty() { vec![enter] } else { leaves })
            }
            _ => {
                steps.push(Step { node: node.id, action, is_enabled: true, after: wait });
                steps.len() - 1
            }
        };
        exits.push(exit);
        is_last.push(true);
    }
    // The end of a graph's nodes.
    outline.push((-1, Vec::new()));
    Ok(exits.into_iter().zip(is_last).filter_map(|(exit, last)| last.then_some(exit)).collect())
}

/// A step that only waits for others.
fn join(steps: &mut Vec<Step>, after: Vec<usize>) -> usize {
    steps.push(Step { node: 0, action: Arc::new(Action::Empty), is_enabled: true, after });
    steps.len() - 1
}

impl Plan {
    /// The plan of these steps.
    pub fn of(steps: &[Step]) -> Answer<Plan> {
        let mut plan = Plan::default();
        let late = late_uploads(steps);
        let mut early = Vec::new();
        let mut early_bytes = 0;
        for (at, step) in steps.iter().enumerate() {
            if let Some(copy) = upload(&step.action).filter(|_| !late[at]) {
                early.extend(runs(copy, copy.source.place, at, early_bytes));
                early_bytes += bytes_of(copy)?;
            }
        }
        if !early.is_empty() {
            plan.slot(early_bytes, Use::Gather { runs: early, early: true });
            plan.add(kind::SLOT, Vec::new(), None, 0, 0);
        }
        // Where each step ends.
        let mut exits: Vec<usize> = Vec::with_capacity(steps.len());
        let mut early_offset = 0;
        for (at, step) in steps.iter().enumerate() {
            let after: Vec<usize> = step.after.iter().map(|place| exits[*place]).collect();
            let (place, exit) = plan.step(at, step, after, late[at], &mut early_offset)?;
            plan.places.push(place);
            exits.push(exit);
        }
        Ok(plan)
    }

    /// Adds a step: the place of its own node, and of the one that others wait for.
    fn step(
        &mut self,
        at: usize,
        step: &Step,
        mut after: Vec<usize>,
        is_late: bool,
        early_offset: &mut u64,
    ) -> Answer<(usize, usize)> {
        let one = |place: usize| (place, place);
        let action = || Some(Arc::clone(&step.action));
        Ok(match &*step.action {
            Action::Kernel(_) => one(self.add(kind::KERNEL, after, action(), 0, 0)),
            Action::Fill(_) => one(self.add(kind::FILL, after, action(), 0, 0)),
            Action::Wait(event) | Action::Record(event) => {
                self.events.push(GraphEvent { event: event.raw() });
                let is_wait = matches!(*step.action, Action::Wait(_));
                one(self.add(if is_wait { kind::WAIT } else { kind::RECORD }, after, action(), 0, 0))
            }
            Action::Host(call) => {
                let slot = self.slot(0, Use::Call(*call));
                one(self.add(kind::SLOT, after, None, slot, 0))
            }
            Action::Copy(copy, _) if !copy.is_empty() => match (copy.source.place, copy.destination.place) {
                (Place::Device(_), Place::Device(_)) => one(self.add(kind::COPY, after, action(), 0, 0)),
                (Place::Host(_), Place::Host(_)) => {
                    let slot = self.slot(0, Use::Move(*copy));
                    one(self.add(kind::SLOT, after, None, slot, 0))
                }
                (Place::Host(source), Place::Device(_)) => {
                    let (slot, offset) = if is_late {
                        let runs = runs(copy, Place::Host(source), at, 0);
                        let slot = self.slot(bytes_of(copy)?, Use::Gather { runs, early: false });
                        after = vec![self.add(kind::SLOT, after, None, slot, 0)];
                        (slot, 0)
                    } else {
                        // The slot at the beginning.
                        if !after.contains(&0) {
                            after.push(0);
                        }
                        let offset = *early_offset;
                        *early_offset += bytes_of(copy)?;
                        (0, offset)
                    };
                    one(self.add(kind::UPLOAD, after, action(), slot, offset))
                }
                (Place::Device(_), Place::Host(target)) => {
                    let runs = runs(copy, Place::Host(target), at, 0);
                    let slot = self.slot(bytes_of(copy)?, Use::Scatter(runs));
                    let own = self.add(kind::DOWNLOAD, after, action(), slot, 0);
                    (own, self.add(kind::SLOT, vec![own], None, slot, 0))
                }
            },
            Action::Copy(..) | Action::Empty | Action::Child(_) | Action::Allocate(_) | Action::Free(_) => {
                one(self.add(kind::EMPTY, after, None, 0, 0))
            }
        })
    }

    fn slot(&mut self, size: u64, what: Use) -> u64 {
        self.slots.push(GraphSlot { size });
        self.uses.push(what);
        self.slots.len() as u64 - 1
    }

    fn add(
        &mut self,
        kind: u32,
        after: Vec<usize>,
        action: Option<Arc<Action>>,
        slot: u64,
        offset: u64,
    ) -> usize {
        let edge = |place: usize| GraphEdge { from: u32::try_from(place).unwrap_or(u32::MAX) };
        let after = after.into_iter().map(edge).collect();
        self.nodes.push(PlannedNode { kind, after, action, slot, offset });
        self.nodes.len() - 1
    }

    /// Whether nodes and slots are the same but for parameters.
    pub fn has_shape_of(&self, other: &Plan) -> bool {
        let same = |(own, other): (&PlannedNode, &PlannedNode)| {
            (own.kind, own.slot, own.offset) == (other.kind, other.slot, other.offset)
                && own.after == other.after
        };
        let kinds = |plan: &Plan| plan.uses.iter().map(std::mem::discriminant).collect::<Vec<_>>();
        self.slots == other.slots
            && self.nodes.len() == other.nodes.len()
            && self.nodes.iter().zip(&other.nodes).all(same)
            && kinds(self) == kinds(other)
    }
}

impl PlannedNode {
    /// Its parameters.
    pub fn parameters(&self) -> Parameters<'_> {
        let mut it =
            Parameters { context: 0, target: self.slot, numbers: [0; 16], attributes: &[], data: &[] };
        let index = |context: &Context| index_of(*context);
        match self.action.as_deref() {
            Some(Action::Kernel(call)) => {
                it.context = index(&call.context);
                it.target = call.function;
                let sides = call.geometry.grid.iter().chain(&call.geometry.block);
                for (place, side) in it.numbers.iter_mut().zip(sides.chain([&call.geometry.shared_bytes])) {
                    *place = u64::from(*side);
                }
                it.attributes = &call.attributes;
                it.data = call.packed();
            }
            Some(Action::Fill(fill)) => {
                it.context = index(&fill.context);
                let numbers = [
                    fill.address,
                    fill.pitch,
                    u64::from(fill.value),
                    u64::from(fill.element),
                    fill.width,
                    fill.height,
                ];
                it.numbers[..6].copy_from_slice(&numbers);
            }
            Some(Action::Copy(copy, context)) => {
                it.context = index(context);
                it.numbers = self.copy_numbers(copy);
            }
            Some(Action::Wait(event) | Action::Record(event)) => it.target = event.raw(),
            _ => {}
        }
        it
    }

    /// Whether its parameters can be set in the place of `old` ones without making the graph anew: copies and fills
    /// only in one dimension, launches only with the same attributes.
    pub fn can_follow(&self, old: &PlannedNode) -> bool {
        self.is_flat() && old.is_flat() && self.parameters().attributes == old.parameters().attributes
    }

    fn is_flat(&self) -> bool {
        match self.action.as_deref() {
            Some(Action::Copy(copy, _)) => copy.height == 1 && copy.depth == 1,
            Some(Action::Fill(fill)) => fill.height == 1,
            _ => true,
        }
    }

    /// Whether the worker can refuse other parameters that passed the checks here.
    pub fn may_be_refused(&self) -> bool {
        matches!(self.action.as_deref(), Some(Action::Copy(..) | Action::Fill(_)))
    }

    /// Address, pitch, height, x, y, z of both sides, and the box. In a slot the box lies without padding.
    fn copy_numbers(&self, copy: &Copy3d) -> [u64; 16] {
        let side = |side: &crate::rectangle::Side| match side.place {
            Place::Device(address) => {
                [address, side.pitch as u64, side.height as u64, side.x as u64, side.y as u64, side.z as u64]
            }
            Place::Host(_) => [self.offset, copy.width as u64, copy.height as u64, 0, 0, 0],
        };
        let mut numbers = [0; 16];
        numbers[..6].copy_from_slice(&side(&copy.source));
        numbers[6..12].copy_from_slice(&side(&copy.destination));
        numbers[12..15].copy_from_slice(&[copy.width as u64, copy.height as u64, copy.depth as u64]);
        numbers
    }
}

/// The copy of an upload.
fn upload(action: &Action) -> Option<&Copy3d> {
    match action {
        Action::Copy(copy, _) if !copy.is_empty() => {
            let is_upload =
                matches!((copy.source.place, copy.destination.place), (Place::Host(_), Place::Device(_)));
            is_upload.then_some(copy)
        }
        _ => None,
    }
}

/// Which steps read host memory that steps before them may write.
fn late_uploads(steps: &[Step]) -> Vec<bool> {
    let mut late = vec![false; steps.len()];
    // Most graphs have no such step: then nothing is followed.
    if !steps.iter().any(|step| upload(&step.action).is_some()) {
        return late;
    }
    let mut written: Vec<Written> = Vec::with_capacity(steps.len());
    for (at, step) in steps.iter().enumerate() {
        let mut before = Written::default();
        step.after.iter().for_each(|place| before.add(&written[*place]));
        match &*step.action {
            Action::Host(_) => before.anything = true,
            Action::Copy(copy, _) if !copy.is_empty() => {
                if let Some(copy) = upload(&step.action) {
                    late[at] = before.touches(&runs(copy, copy.source.place, at, 0));
                } else if let Place::Host(_) = copy.destination.place {
                    let runs = runs(copy, copy.destination.place, at, 0);
                    let range = |run: &Run| (run.address.addr(), run.address.addr() + run.length);
                    let ranges = runs.iter().map(range).collect();
                    before.add(&Written { anything: false, ranges });
                }
            }
            _ => {}
        }
        written.push(before);
    }
    late
}

fn bytes_of(copy: &Copy3d) -> Answer<u64> {
    let bytes = copy.width.checked_mul(copy.height).and_then(|area| area.checked_mul(copy.depth));
    bytes.map(|bytes| bytes as u64).ok_or(CUresult::INVALID_VALUE)
}

/// The rows of the side of a copy that lies in this process.
fn runs(copy: &Copy3d, place: Place, step: usize, offset: u64) -> Vec<Run> {
    let mut all: Vec<Run> = Vec::new();
    let mut offset = offset;
    for address in copy.host_rows(place) {
        match all.last_mut() {
            Some(last) if last.address.wrapping_add(last.length) == address => last.length += copy.width,
            _ => all.push(Run { step, address, length: copy.width, offset }),
        }
        offset += copy.width as u64;
    }
    all
}
