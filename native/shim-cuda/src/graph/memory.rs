//! Memory that belongs to graphs: its address is fixed when the node is made, and it stays allocated as long as a
//! graph with the node exists. Launches only note whether it is in use.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use wire::handle::Context;

use crate::client::Client;
use crate::entry::Answer;
use crate::memory::{Range, RangeKind};
use crate::{credit, servers, state};

/// What an allocation node allocates.
#[derive(Debug)]
pub struct GraphMemory {
    address: u64,
    size: u64,
    device: usize,
    /// What its range is but for the graph.
    kind: RangeKind,
    /// Number of its range: another may have its address when its context is gone.
    buffer_id: u64,
    /// A launch allocated it, and no free was queued since.
    outstanding: AtomicBool,
}

/// Most bytes that were allocated and taken, by device.
static HIGH: Mutex<BTreeMap<usize, [u64; 2]>> = Mutex::new(BTreeMap::new());
static LIVE: Mutex<BTreeMap<u64, Weak<GraphMemory>>> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GraphMemory {
    /// Takes memory for a node.
    ///
    /// Errors: as `cuMemAlloc`.
    pub fn create(client: &Client, context: Context, device: usize, size: u64) -> Answer<Arc<Self>> {
        let address = credit::allocate(client, context, device, size)?;
        let (kind, buffer_id) =
            client.ranges.find(address).map_or((RangeKind::Device, 0), |range| (range.kind, range.buffer_id));
        let is_piece = matches!(kind, RangeKind::Piece(_));
        client.ranges.change_kind(address, RangeKind::Graph { is_piece });
        let made =
            Arc::new(Self { address, size, device, kind, buffer_id, outstanding: AtomicBool::new(false) });
        lock(&LIVE).insert(address, Arc::downgrade(&made));
        usage(device);
        Ok(made)
    }

    /// Where it is.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How many bytes the program asked for.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The device it is on.
    pub fn device(&self) -> usize {
        self.device
    }

    /// Whether a launch allocated it and nobody freed it.
    pub fn is_outstanding(&self) -> bool {
        self.outstanding.load(Ordering::Acquire)
    }

    /// Says that a launch allocates it, or that something frees it; answers what was before.
    pub fn set_outstanding(&self, outstanding: bool) -> bool {
        let before = self.outstanding.swap(outstanding, Ordering::AcqRel);
        usage(self.device);
        before
    }
}

impl Drop for GraphMemory {
    fn drop(&mut self) {
        let mut live = lock(&LIVE);
        if live.get(&self.address).is_some_and(|other| std::ptr::eq(other.as_ptr(), self)) {
            live.remove(&self.address);
        }
        drop(live);
        if state::client_if_any().is_none() {
            return;
        }
        let is_own = |range: Range| range.buffer_id == self.buffer_id;
        let knows = |client: &&Client| client.ranges.find(self.address).is_some_and(is_own);
        let Some(client) = servers::clients().iter().find(knows) else { return };
        if self.is_outstanding() {
            // What the program has still to free becomes ordinary memory.
            client.ranges.change_kind(self.address, self.kind);
        } else if let Some(range) = client.ranges.remove(self.address, |range| is_own(*range)) {
            // An error here is told by the next call that waits.
            let _ = credit::free(client, &Range { kind: self.kind, ..range });
        }
    }
}

/// Bytes of graphs on a device: allocated now and at most, taken now and at most.
pub fn usage(device: usize) -> [u64; 4] {
    let all: Vec<_> = lock(&LIVE).values().filter_map(Weak::upgrade).collect();
    let (mut used, mut taken) = (0, 0);
    for memory in all.iter().filter(|memory| memory.device() == device) {
        taken += memory.size();
        used += if memory.is_outstanding() { memory.size() } else { 0 };
    }
    let mut high = lock(&HIGH);
    let high = high.entry(device).or_default();
    *high = [high[0].max(used), high[1].max(taken)];
    [used, high[0], taken, high[1]]
}

/// Forgets how much was allocated, or taken, at most.
pub fn reset_high(device: usize, allocated: bool) {
    lock(&HIGH).entry(device).or_default()[usize::from(!allocated)] = 0;
}

/// The memory of a graph that begins at `address`.
pub fn find(address: u64) -> Option<Arc<GraphMemory>> {
    lock(&LIVE).get(&address)?.upgrade()
}
