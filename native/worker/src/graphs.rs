//! Executable graphs.
//!
//! The client builds graphs itself; an instantiation sends the nodes, and the driver's graph is made from them here.
//! Nothing of this worker's own is ever captured or recorded into one: where a graph meets the client it has a
//! *slot*, a host node of ours. A slot does for each launch what came with it, in order: it fills the memory that
//! copies to the device read, has the client run a host function, or sends what copies from the device brought.
//! Launches of one executable graph never run beside each other, so a slot's memory belongs to one at a time.

use std::collections::{HashMap, VecDeque};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cuda_abi::{CUgraph, CUgraphExec, CUgraphNode, CUresult};
use driver::Driver;

use crate::callbacks::Callbacks;
use crate::outbox::{Outbox, ReplyTo};

/// `CU_MEMHOSTALLOC_PORTABLE`
const PORTABLE: u32 = 1;

/// Bytes of pinned memory that the slots of all graphs may take.
const SLOTS_LIMIT: u64 = 4 << 30;

/// Bytes that may be on their way to launches that have not come.
const PENDING_LIMIT: usize = 4 << 30;

/// One thing that a slot does in a launch.
#[derive(Debug)]
pub enum Part {
    /// Bytes for its memory.
    Bytes(u64, Vec<u8>),
    /// Bytes for its memory that the client sends when the graph is there, by the token of the request.
    Pull(u64, u64),
    /// A function of the client's.
    Call(u64),
    /// Bytes of its memory for the client.
    Send(u64, u64, Arc<Owed>),
}

/// An answer that the client must get, whatever becomes of the launch.
#[derive(Debug)]
pub struct Owed(Mutex<Option<ReplyTo>>);

impl Owed {
    /// Answers, unless that has happened.
    pub fn answer(&self, outbox: &Outbox, code: CUresult, data: &[u8]) {
        // Held over the adding: whoever finds it answered may rely on the answer being in the outbox.
        let mut to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(to) = to.take() {
            outbox.reply(to, code.0, data);
        }
    }
}

/// Where a graph meets the client.
#[derive(Debug)]
pub struct Slot {
    driver: Arc<Driver>,
    callbacks: Arc<Callbacks>,
    memory: *mut u8,
    size: usize,
    pinned: Pinned,
    launches: Mutex<VecDeque<Vec<Part>>>,
}

/// Bytes of pinned memory that slots have, all together.
#[derive(Debug, Clone, Default)]
pub struct Pinned(Arc<AtomicU64>);

impl Pinned {
    /// Takes `size` bytes more; `None` beyond the limit.
    fn take(&self, size: u64) -> Option<()> {
        let more = |taken: u64| taken.checked_add(size).filter(|taken| *taken <= SLOTS_LIMIT);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(drop)
    }

    fn give(&self, size: u64) {
        self.0.fetch_sub(size, Ordering::Relaxed);
    }
}

// SAFETY: the memory is plain bytes; the order of the graph's nodes decides who uses them.
unsafe impl Send for Slot {}
// SAFETY: as above; everything else is behind locks.
unsafe impl Sync for Slot {}

impl Slot {
    /// Address of its memory.
    pub fn memory(&self) -> *mut c_void {
        self.memory.cast()
    }

    /// Whether `length` bytes at `offset` are in its memory.
    pub fn holds(&self, offset: u64, length: u64) -> bool {
        offset.checked_add(length).is_some_and(|end| end <= self.size as u64)
    }

    /// What host nodes are given for [`slot_function`].
    pub fn as_user_data(self: &Arc<Self>) -> *mut c_void {
        Arc::as_ptr(self).cast_mut().cast()
    }

    /// Adds what the slot does in the launch that is about to be made.
    pub fn push(&self, parts: Vec<Part>) {
        self.launches.lock().unwrap_or_else(PoisonError::into_inner).push_back(parts);
    }

    /// Takes back what was added last: the launch was refused.
    pub fn take_back(&self) {
        self.launches.lock().unwrap_or_else(PoisonError::into_inner).pop_back();
    }

    fn run(&self) {
        let parts = self.launches.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        for part in parts.into_iter().flatten() {
            match part {
                Part::Bytes(offset, data) => self.fill(offset, &data),
                Part::Pull(offset, token) => self.fill(offset, &self.callbacks.perform(token)),
                Part::Call(token) => drop(self.callbacks.perform(token)),
                Part::Send(offset, size, owed) => {
                    self.callbacks.answer(owed, self.bytes(offset, size).to_vec());
                }
            }
        }
    }

    fn fill(&self, offset: u64, data: &[u8]) {
        let Some(start) = usize::try_from(offset).ok().filter(|start| *start <= self.size) else { return };
        let count = data.len().min(self.size - start);
        // SAFETY: inside the slot's memory, which nobody else uses while the graph is at this node.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.memory.add(start), count) };
    }

    fn bytes(&self, offset: u64, size: u64) -> &[u8] {
        if !self.holds(offset, size) {
            return &[];
        }
        let (start, count) = (usize::try_from(offset).unwrap_or(0), usize::try_from(size).unwrap_or(0));
        // SAFETY: inside the slot's memory; the copies into it are before this node.
        unsafe { std::slice::from_raw_parts(self.memory.add(start), count) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.memory.is_null() {
            // SAFETY: the memory is this slot's, and no launch is left that uses it.
            let _ = unsafe { self.driver.cuMemFreeHost(self.memory.cast()) };
        }
        self.pinned.give(self.size as u64);
    }
}

/// What the driver calls when a graph gets to a slot.
///
/// # Safety
/// `slot` is from [`Slot::as_user_data`] of a slot that lives until the last launch has ended.
pub unsafe extern "C" fn slot_function(slot: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { &*slot.cast::<Slot>() }.run();
}

/// A graph that is being sent.
#[derive(Debug)]
pub struct Builder {
    /// The driver's graph.
    pub graph: CUgraph,
    /// Its nodes, as the client numbers them.
    pub nodes: Vec<CUgraphNode>,
    /// Its slots.
    pub slots: Vec<Arc<Slot>>,
    /// Why it cannot be made.
    pub failed: Option<CUresult>,
}

/// An executable graph.
#[derive(Debug)]
pub struct Exec {
    /// The driver's.
    pub raw: CUgraphExec,
    /// The graph that it was made from, whose nodes name its nodes.
    pub graph: CUgraph,
    /// Its nodes, as the client numbers them.
    pub nodes: Vec<CUgraphNode>,
    /// Its slots.
    pub slots: Vec<Arc<Slot>>,
    /// The client's context that it was made in.
    pub context: u32,
}

/// What a launch brought along.
#[derive(Debug, Default)]
pub struct Packet {
    /// By slot.
    pub parts: HashMap<u32, Vec<Part>>,
    /// Answers that the client waits for.
    pub owed: Vec<Arc<Owed>>,
    bytes: usize,
}

/// All graphs of a client.
#[derive(Debug, Default)]
pub struct Graphs {
    building: HashMap<u64, Builder>,
    execs: HashMap<u64, Exec>,
    pending: HashMap<u64, Packet>,
    pending_bytes: usize,
    /// What the slots of all graphs have.
    pub pinned: Pinned,
}

impl Graphs {
    /// A graph begins to be sent.
    pub fn begin(&mut self, number: u64, builder: Builder) {
        self.building.insert(number, builder);
    }

    /// The graph that is being sent under `number`.
    pub fn take_builder(&mut self, number: u64) -> Option<Builder> {
        self.building.remove(&number)
    }

    /// Notes an executable graph.
    pub fn insert(&mut self, handle: u64, exec: Exec) {
        self.execs.insert(handle, exec);
    }

    /// The executable graph behind a handle.
    pub fn exec(&self, handle: u64) -> Option<&Exec> {
        self.execs.get(&handle)
    }

    /// Takes an executable graph out.
    pub fn remove(&mut self, handle: u64) -> Option<Exec> {
        self.execs.remove(&handle)
    }

    /// Takes out what belongs to a context that ends.
    pub fn of_context(&mut self, context: u32) -> Vec<Exec> {
        let handles: Vec<u64> = self
            .execs
            .iter()
            .filter(|(_, exec)| exec.context == context)
            .map(|(handle, _)| *handle)
            .collect();
        handles.into_iter().filter_map(|handle| self.execs.remove(&handle)).collect()
    }

    /// Adds to what comes with a launch.
    ///
    /// Errors: `OUT_OF_MEMORY` when too much waits for launches that do not come.
    pub fn bring(&mut self, launch: u64, slot: u32, part: Part) -> Result<(), CUresult> {
        let bytes = match &part {
            Part::Bytes(_, data) => data.len(),
            // It becomes an answer of this size.
            Part::Send(_, size, _) => usize::try_from(*size).unwrap_or(usize::MAX),
            Part::Pull(..) | Part::Call(_) => 0,
        };
        if self.pending_bytes.saturating_add(bytes) > PENDING_LIMIT {
            return Err(CUresult::OUT_OF_MEMORY);
        }
        self.pending_bytes += bytes;
        let packet = self.pending.entry(launch).or_default();
        packet.bytes += bytes;
        if let Part::Send(_, _, owed) = &part {
            packet.owed.push(Arc::clone(owed));
        }
        packet.parts.entry(slot).or_default().push(part);
        Ok(())
    }

    /// What came with a launch.
    pub fn take_packet(&mut self, launch: u64) -> Packet {
        let packet = self.pending.remove(&launch).unwrap_or_default();
        self.pending_bytes -= packet.bytes;
        packet
    }
}

/// An answer that is owed to the client.
pub fn owed(to: ReplyTo) -> Arc<Owed> {
    Arc::new(Owed(Mutex::new(Some(to))))
}

/// Makes slots of these sizes in the current context.
///
/// Errors: `OUT_OF_MEMORY`, or what the driver answers.
pub fn slots(
    driver: &Arc<Driver>,
    callbacks: &Arc<Callbacks>,
    pinned: &Pinned,
    sizes: impl Iterator<Item = u64>,
) -> Result<Vec<Arc<Slot>>, CUresult> {
    let mut all = Vec::new();
    for size in sizes {
        let bytes = usize::try_from(size).map_err(|_| CUresult::OUT_OF_MEMORY)?;
        pinned.take(size).ok_or(CUresult::OUT_OF_MEMORY)?;
        // From here on it is the slot that gives back what was taken.
        let mut slot = Slot {
            driver: Arc::clone(driver),
            callbacks: Arc::clone(callbacks),
            memory: std::ptr::null_mut(),
            size: bytes,
            pinned: pinned.clone(),
            launches: Mutex::default(),
        };
        let mut memory = std::ptr::null_mut();
        if bytes > 0 {
            // SAFETY: `memory` is a valid place.
            unsafe { driver.cuMemHostAlloc(&raw mut memory, bytes, PORTABLE) }.into_result()?;
            slot.memory = memory.cast();
        }
        all.push(Arc::new(slot));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found on the way: each graph had the limit for itself, and a client may have any number of graphs.
    #[test]
    fn the_slots_of_all_graphs_have_one_limit() {
        let pinned = Pinned::default();
        let other = pinned.clone();
        assert_eq!(pinned.take(SLOTS_LIMIT - 1), Some(()));
        assert_eq!((other.take(2), other.take(u64::MAX)), (None, None));
        assert_eq!(other.take(1), Some(()));
        pinned.give(SLOTS_LIMIT - 1);
        assert_eq!(other.take(2), Some(()));
    }

    /// Found on the way: answers that launches will give were not counted, and could be of any size.
    #[test]
    fn answers_that_launches_will_give_count_as_what_comes_with_them() {
        let mut graphs = Graphs::default();
        let send = |size| {
            let to = ReplyTo { call: wire::CallId(20), sequence: 1, context: 0, is_detached: false };
            Part::Send(0, size, owed(to))
        };
        assert_eq!(graphs.bring(1, 0, send(u64::MAX)), Err(CUresult::OUT_OF_MEMORY));
        assert_eq!(graphs.bring(1, 0, send(PENDING_LIMIT as u64)), Ok(()));
        assert_eq!(graphs.bring(2, 0, send(1)), Err(CUresult::OUT_OF_MEMORY));
        assert_eq!(graphs.take_packet(1).owed.len(), 1);
        assert_eq!(graphs.bring(2, 0, send(1)), Ok(()));
    }
}
