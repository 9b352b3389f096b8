//! What lies at which address: device allocations, globals, and pinned host memory of this process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cuda_abi::CUresult;
use wire::handle::{Context, MemoryPool};

use crate::entry::Answer;
use crate::reserve;

/// What a range of addresses is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeKind {
    /// Memory that a program allocated on a device and may free.
    Device,
    /// The same from a pool, in the order of a stream.
    Pooled(MemoryPool),
    /// The same as a piece of a slab, for a program that asked its device or a pool.
    Piece(Option<MemoryPool>),
    /// Memory of a graph's node, which frees it: by itself, or as a piece of a slab.
    Graph {
        /// It is a piece of a slab.
        is_piece: bool,
    },
    /// A variable of a loaded module.
    Global,
    /// Host memory from `cuMemHostAlloc` and its kin; the value is its flags.
    HostAllocated(u32),
    /// Host memory that the program owns and registered; the value is its flags.
    HostRegistered(u32),
}

impl RangeKind {
    /// Whether the bytes are on a device.
    pub fn is_device(self) -> bool {
        matches!(self, RangeKind::Global | RangeKind::Graph { .. }) || self.is_freeable()
    }

    /// Whether its addresses were reserved for itself alone, and not with a slab.
    fn is_reserved(self) -> bool {
        matches!(self, RangeKind::Device | RangeKind::Pooled(_) | RangeKind::Graph { is_piece: false })
    }

    /// Whether the program frees it.
    pub fn is_freeable(self) -> bool {
        matches!(self, RangeKind::Device | RangeKind::Piece(_) | RangeKind::Pooled(_))
    }
}

/// A range of addresses.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// What it is.
    pub kind: RangeKind,
    /// The context it belongs to.
    pub context: Context,
    /// The device it belongs to, as this program counts devices.
    pub device: usize,
    /// Number of the allocation, unique in this process.
    pub buffer_id: u64,
}

/// What is left to do for the ranges of a destroyed context.
#[derive(Debug, Default)]
pub struct Forgotten {
    /// Pieces that stood for memory of pools.
    pub of_pools: Vec<(MemoryPool, u64)>,
    /// Pages of this process.
    pub pinned: Vec<Range>,
}

#[derive(Debug, Default)]
struct Table {
    by_start: BTreeMap<u64, Range>,
}

/// The last number of an allocation: programs compare them, of whichever server they are.
static LAST_BUFFER_ID: AtomicU64 = AtomicU64::new(0);

/// All ranges of this process.
#[derive(Debug, Default)]
pub struct Ranges {
    table: RwLock<Table>,
}

impl Ranges {
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a new range.
    pub fn insert(&self, start: u64, length: u64, kind: RangeKind, context: Context, device: usize) {
        let mut table = self.write();
        let buffer_id = LAST_BUFFER_ID.fetch_add(1, Ordering::Relaxed) + 1;
        table.by_start.insert(start, Range { start, length, kind, context, device, buffer_id });
    }

    /// The range that holds `address`.
    pub fn find(&self, address: u64) -> Option<Range> {
        let table = self.read();
        let (_, range) = table.by_start.range(..=address).next_back()?;
        (address - range.start < range.length.max(1)).then_some(*range)
    }

    /// The device range that holds all of `length` bytes at `address`.
    ///
    /// Errors: `INVALID_VALUE` when there is none.
    pub fn device_range(&self, address: u64, length: u64) -> Answer<Range> {
        let range = self.find(address).filter(|range| range.kind.is_device());
        range.filter(|range| length <= range.length - (address - range.start)).ok_or(CUresult::INVALID_VALUE)
    }

    /// Whether all of `length` bytes at `address` are pinned host memory.
    pub fn is_pinned(&self, address: u64, length: u64) -> bool {
        self.find(address)
            .is_some_and(|range| !range.kind.is_device() && length <= range.length - (address - range.start))
    }

    /// Forgets the range that starts at `start` if `accept` says so.
    pub fn remove(&self, start: u64, accept: impl FnOnce(&Range) -> bool) -> Option<Range> {
        let mut table = self.write();
        if !table.by_start.get(&start).is_some_and(accept) {
            return None;
        }
        table.by_start.remove(&start)
    }

    /// Notes that the range that starts at `start` is of another kind from now on.
    pub fn change_kind(&self, start: u64, kind: RangeKind) {
        if let Some(range) = self.write().by_start.get_mut(&start) {
            range.kind = kind;
        }
    }

    /// Forgets what belongs to a context that is being destroyed.
    pub fn forget_context(&self, context: Context) -> Forgotten {
        let mut forgotten = Forgotten::default();
        self.write().by_start.retain(|_, range| {
            if range.context != context {
                return true;
            }
            if range.kind.is_reserved() {
                reserve::give(range.start, range.length);
            }
            match range.kind {
                RangeKind::Piece(Some(pool)) => forgotten.of_pools.push((pool, range.length)),
                RangeKind::HostAllocated(_) => forgotten.pinned.push(*range),
                _ => {}
            }
            false
        });
        forgotten
    }

    /// Forgets the variables in `starts`: their module was unloaded.
    pub fn forget_globals(&self, starts: &[u64]) {
        let mut table = self.write();
        for start in starts {
            if table.by_start.get(start).is_some_and(|range| range.kind == RangeKind::Global) {
                table.by_start.remove(start);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::handle::Handle;

    fn no_context() -> Context {
        Context::from_raw(0)
    }

    #[test]
    fn a_range_is_found_from_any_of_its_addresses_and_no_other() {
        let ranges = Ranges::default();
        ranges.insert(0x1000, 0x100, RangeKind::Device, no_context(), 0);
        assert_eq!(ranges.find(0x10ff).map(|range| range.start), Some(0x1000));
        assert!(ranges.find(0x1100).is_none());
        assert!(ranges.find(0xfff).is_none());
        assert!(ranges.device_range(0x1080, 0x80).is_ok());
        assert_eq!(ranges.device_range(0x1080, 0x81).err(), Some(CUresult::INVALID_VALUE));
    }

    #[test]
    fn a_context_that_goes_gives_the_addresses_of_its_graphs_back() {
        let (own, piece) = (0x6100_0000_0000, 0x6200_0000_0000);
        let ranges = Ranges::default();
        for (start, is_piece) in [(own, false), (piece, true)] {
            assert!(reserve::take(start, 1 << 20));
            ranges.insert(start, 1 << 20, RangeKind::Graph { is_piece }, no_context(), 0);
        }
        ranges.forget_context(no_context());
        assert!(reserve::take(own, 1 << 20), "free again");
        assert!(!reserve::take(piece, 1 << 20), "the slab's, which gives it back");
        reserve::give(own, 1 << 20);
        reserve::give(piece, 1 << 20);
    }

    #[test]
    fn a_context_that_goes_leaves_its_pinned_memory_to_be_given_back() {
        let ranges = Ranges::default();
        ranges.insert(0x1000, 0x100, RangeKind::HostAllocated(0), no_context(), 0);
        ranges.insert(0x2000, 0x100, RangeKind::HostRegistered(0), no_context(), 0);
        ranges.insert(0x3000, 0x100, RangeKind::HostAllocated(0), Context::from_index(1), 0);
        let starts: Vec<u64> =
            ranges.forget_context(no_context()).pinned.iter().map(|range| range.start).collect();
        assert_eq!(starts, [0x1000], "registered memory is the program's");
        assert!(ranges.find(0x2000).is_none());
        assert!(ranges.find(0x3000).is_some(), "another context's");
    }

    #[test]
    fn host_memory_is_no_device_range() {
        let ranges = Ranges::default();
        ranges.insert(0x1000, 0x100, RangeKind::HostAllocated(0), no_context(), 0);
        assert!(ranges.device_range(0x1000, 1).is_err());
        assert!(ranges.remove(0x1000, |range| range.kind.is_device()).is_none());
    }
}
