//! Memory that belongs to graphs: its address is fixed when the node is made, and it stays taken as long as a
//! graph with the node exists.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::context::Context;
use crate::device::lock;
use crate::guard::Answer;
use crate::memory::{self, Allocation, Kind};

/// What an allocation node allocates.
pub struct GraphMemory {
    allocation: Arc<Allocation>,
    /// A launch allocated it, and no free was queued since.
    outstanding: AtomicBool,
}

/// Most bytes that were allocated and taken, by device.
static HIGH: Mutex<BTreeMap<i32, [u64; 2]>> = Mutex::new(BTreeMap::new());
static LIVE: Mutex<BTreeMap<u64, Weak<GraphMemory>>> = Mutex::new(BTreeMap::new());

impl GraphMemory {
    /// Takes memory for a node.
    ///
    /// # Errors
    /// As [`memory::allocate`].
    pub fn create(context: &Arc<Context>, size: u64) -> Answer<Arc<Self>> {
        let allocation = memory::allocate(context, size, Kind::Device, 0, None)?;
        let made = Arc::new(Self { allocation, outstanding: AtomicBool::new(false) });
        lock(&LIVE).insert(made.address(), Arc::downgrade(&made));
        usage(made.device());
        Ok(made)
    }

    /// Where it is.
    pub fn address(&self) -> u64 {
        self.allocation.start
    }

    /// How many bytes the program asked for.
    pub fn size(&self) -> u64 {
        self.allocation.size
    }

    /// The device it is on.
    pub fn device(&self) -> i32 {
        self.allocation.device
    }

    /// Whether a launch allocated it and nobody freed it.
    pub fn is_outstanding(&self) -> bool {
        self.outstanding.load(Ordering::Acquire)
    }

    /// Says that a launch allocates it, or that something frees it; answers what was before.
    pub fn set_outstanding(&self, outstanding: bool) -> bool {
        let before = self.outstanding.swap(outstanding, Ordering::AcqRel);
        usage(self.device());
        before
    }

    /// Makes it look fresh.
    pub fn renew(&self) {
        memory::make_fresh(&self.allocation);
    }
}

impl Drop for GraphMemory {
    fn drop(&mut self) {
        lock(&LIVE).remove(&self.address());
        // What the program has still to free becomes ordinary memory.
        if !self.is_outstanding() {
            memory::free_exactly(&self.allocation);
        }
    }
}

/// Bytes of graphs on a device: allocated now and at most, taken now and at most.
pub fn usage(device: i32) -> [u64; 4] {
    let all: Vec<_> = lock(&LIVE).values().filter_map(Weak::upgrade).collect();
    let (mut used, mut taken) = (0, 0);
    for memory in all.iter().filter(|memory| memory.device() == device) {
        let size = memory::reserved_size(memory.size());
        taken += size;
        used += if memory.is_outstanding() { size } else { 0 };
    }
    let mut high = lock(&HIGH);
    let high = high.entry(device).or_default();
    *high = [high[0].max(used), high[1].max(taken)];
    [used, high[0], taken, high[1]]
}

/// Forgets how much was allocated, or taken, at most.
pub fn reset_high(device: i32, allocated: bool) {
    lock(&HIGH).entry(device).or_default()[usize::from(!allocated)] = 0;
}

/// The memory of a graph that begins at `address`.
pub fn find(address: u64) -> Option<Arc<GraphMemory>> {
    lock(&LIVE).get(&address)?.upgrade()
}
