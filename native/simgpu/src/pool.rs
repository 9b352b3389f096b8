//! Memory pools of stream-ordered allocation: bookkeeping only, the memory comes from the device's window.

use std::sync::atomic::{AtomicU64, Ordering};

use graph::Registry;

/// A pool. Its numbers answer `cuMemPoolGetAttribute`.
pub struct Pool {
    pub device: i32,
    /// Most bytes that it may hold; 0 for no bound.
    pub max_bytes: u64,
    pub release_threshold: AtomicU64,
    /// The three reuse policies, remembered and otherwise without effect.
    pub reuse: [AtomicU64; 3],
    pub used: AtomicU64,
    pub used_high: AtomicU64,
}

/// All pools.
pub static POOLS: Registry<Pool> = Registry::new();

impl Pool {
    /// An empty pool.
    pub fn new(device: i32, max_bytes: u64) -> Self {
        Self {
            device,
            max_bytes,
            release_threshold: AtomicU64::new(0),
            reuse: [const { AtomicU64::new(1) }; 3],
            used: AtomicU64::new(0),
            used_high: AtomicU64::new(0),
        }
    }

    /// Counts bytes in; false when they would be too many.
    pub fn take(&self, bytes: u64) -> bool {
        let used = self.used.fetch_add(bytes, Ordering::SeqCst) + bytes;
        if self.max_bytes != 0 && used > self.max_bytes {
            self.released(bytes);
            return false;
        }
        self.used_high.fetch_max(used, Ordering::SeqCst);
        true
    }

    /// Counts bytes out.
    pub fn released(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
    }
}
