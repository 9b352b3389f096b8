//! Memory pools: what the client knows of them without asking.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cuda_abi as abi;
use cuda_abi::{CUmemAccess_flags, CUmemPool_attribute, CUresult};
use wire::handle::MemoryPool;

use crate::client::Client;
use crate::entry::Answer;

/// What is known about a pool.
#[derive(Debug, Clone)]
pub struct PoolState {
    /// The device that it is on, as this program counts devices.
    pub device: usize,
    /// It is the device's default pool, which nobody destroys.
    pub is_default: bool,
    /// The three reuse policies, in the order of their attributes; all are on at first.
    reuse: [u32; 3],
    /// Bytes that it keeps when a stream is waited for.
    release_threshold: u64,
    /// The worker was asked for memory of it.
    was_asked: bool,
    /// Bytes of it that are pieces of slabs: the worker knows nothing of these.
    pieces: u64,
    /// The most that they were since the marks of reserved and of used memory were reset.
    marks: [u64; 2],
    /// What other devices may do with its memory.
    access: HashMap<usize, CUmemAccess_flags>,
}

#[derive(Debug, Default)]
struct Table {
    alive: HashMap<MemoryPool, PoolState>,
    /// By device.
    default: HashMap<usize, MemoryPool>,
    current: HashMap<usize, MemoryPool>,
}

/// All pools of this process.
#[derive(Debug, Default)]
pub struct Pools {
    table: Mutex<Table>,
}

impl Pools {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a new pool.
    pub fn insert(&self, pool: MemoryPool, device: usize, is_default: bool) {
        let state = PoolState {
            device,
            is_default,
            reuse: [1; 3],
            release_threshold: 0,
            was_asked: false,
            pieces: 0,
            marks: [0; 2],
            access: HashMap::new(),
        };
        self.table().alive.insert(pool, state);
    }

    /// The state of a pool.
    ///
    /// Errors: `INVALID_VALUE` when it does not exist.
    pub fn state(&self, pool: MemoryPool) -> Answer<PoolState> {
        self.table().alive.get(&pool).cloned().ok_or(CUresult::INVALID_VALUE)
    }

    /// The default pool of `device`.
    pub fn default_of(&self, client: &Client, device: usize) -> Answer<MemoryPool> {
        let mut table = self.table();
        if let Some(pool) = table.default.get(&device) {
            return Ok(*pool);
        }
        let pool: MemoryPool = client.new_handle();
        let ordinal = i32::try_from(device).map_err(|_| CUresult::INVALID_DEVICE)?;
        let device_of_session = client.devices.get(ordinal)?.session_ordinal;
        // Sent under the lock: nobody names the pool before the worker knows it.
        client.post_anywhere(&wire::cuda::FarpoolDefaultPool { pool, device: device_of_session })?;
        table.default.insert(device, pool);
        drop(table);
        self.insert(pool, device, true);
        Ok(pool)
    }

    /// The pool that allocations on `device` come from.
    pub fn current_of(&self, client: &Client, device: usize) -> Answer<MemoryPool> {
        let current = self.table().current.get(&device).copied();
        current.map_or_else(|| self.default_of(client, device), Ok)
    }

    /// Lets allocations on `device` come from `pool`.
    pub fn set_current(&self, device: usize, pool: MemoryPool) {
        self.table().current.insert(device, pool);
    }

    /// Forgets a destroyed pool; where it was current, the default pool is again.
    pub fn remove(&self, pool: MemoryPool) {
        let mut table = self.table();
        table.alive.remove(&pool);
        table.current.retain(|_, current| *current != pool);
    }

    /// Whether pieces of slabs on `device` may stand for memory of this pool: no other device reaches them for sure.
    pub fn takes_pieces(&self, pool: MemoryPool, device: usize) -> bool {
        let table = self.table();
        let state = table.alive.get(&pool);
        state.is_some_and(|state| state.is_default && state.device == device && state.access.is_empty())
    }

    /// Notes that the worker is asked for memory of a pool.
    pub fn ask(&self, pool: MemoryPool) {
        if let Some(state) = self.table().alive.get_mut(&pool) {
            state.was_asked = true;
        }
    }

    /// Whether the worker was ever asked for memory of a pool: if not, it has none there.
    pub fn was_asked(&self, pool: MemoryPool) -> Answer<bool> {
        self.state(pool).map(|state| state.was_asked)
    }

    /// Counts `bytes` of a piece.
    pub fn used(&self, pool: MemoryPool, bytes: u64) {
        if let Some(state) = self.table().alive.get_mut(&pool) {
            state.pieces += bytes;
            state.marks = state.marks.map(|mark| mark.max(state.pieces));
        }
    }

    /// Counts `bytes` of a piece that was freed.
    pub fn unused(&self, pool: MemoryPool, bytes: u64) {
        if let Some(state) = self.table().alive.get_mut(&pool) {
            state.pieces = state.pieces.saturating_sub(bytes);
        }
    }

    /// What pieces add to an attribute that the worker answers. For the marks this is what both could have been at most.
    pub fn of_pieces(&self, pool: MemoryPool, attribute: CUmemPool_attribute) -> Answer<u64> {
        let state = self.state(pool)?;
        Ok(match attribute {
            abi::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT | abi::CU_MEMPOOL_ATTR_USED_MEM_CURRENT => state.pieces,
            abi::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH => state.marks[0],
            abi::CU_MEMPOOL_ATTR_USED_MEM_HIGH => state.marks[1],
            _ => 0,
        })
    }

    /// An attribute that the program sets.
    pub fn attribute(&self, pool: MemoryPool, attribute: CUmemPool_attribute) -> Answer<Option<u64>> {
        let state = self.state(pool)?;
        Ok(match attribute {
            abi::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD => Some(state.release_threshold),
            _ => reuse_index(attribute).map(|index| u64::from(state.reuse[index])),
        })
    }

    /// Notes that the program set an attribute.
    pub fn set_attribute(&self, pool: MemoryPool, attribute: CUmemPool_attribute, value: u64) {
        let mut table = self.table();
        let Some(state) = table.alive.get_mut(&pool) else { return };
        if let Some(index) = reuse_index(attribute) {
            state.reuse[index] = u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0);
        } else if attribute == abi::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD {
            state.release_threshold = value;
        } else if attribute == abi::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH {
            state.marks[0] = state.pieces;
        } else if attribute == abi::CU_MEMPOOL_ATTR_USED_MEM_HIGH {
            state.marks[1] = state.pieces;
        }
    }

    /// Notes what another device may do with a pool's memory.
    pub fn set_access(&self, pool: MemoryPool, device: usize, flags: CUmemAccess_flags) {
        if let Some(state) = self.table().alive.get_mut(&pool) {
            state.access.insert(device, flags);
        }
    }
}

impl PoolState {
    /// What `device` may do with the pool's memory.
    pub fn access(&self, device: usize) -> CUmemAccess_flags {
        const READ_WRITE: CUmemAccess_flags = 3;
        if device == self.device { READ_WRITE } else { self.access.get(&device).copied().unwrap_or(0) }
    }
}

/// Which of the reuse policies an attribute is.
fn reuse_index(attribute: CUmemPool_attribute) -> Option<usize> {
    let first = abi::CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES;
    let last = abi::CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES;
    (first..=last).contains(&attribute).then(|| usize::try_from(attribute - first).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::handle::Handle;

    #[test]
    fn pieces_count_as_used_and_reserved_memory_of_a_default_pool() {
        let pools = Pools::default();
        let (default, own) = (MemoryPool::from_index(1), MemoryPool::from_index(2));
        pools.insert(default, 0, true);
        pools.insert(own, 0, false);
        assert_eq!((pools.was_asked(default), pools.was_asked(own)), (Ok(false), Ok(false)));
        pools.ask(own);
        assert_eq!((pools.was_asked(default), pools.was_asked(own)), (Ok(false), Ok(true)));
        assert!(pools.takes_pieces(default, 0) && !pools.takes_pieces(default, 1));
        assert!(!pools.takes_pieces(own, 0), "a program's own pool has a size and a life of its own");
        pools.used(default, 1024);
        pools.used(default, 512);
        pools.unused(default, 1024);
        let of = |attribute| pools.of_pieces(default, attribute);
        assert_eq!(of(abi::CU_MEMPOOL_ATTR_USED_MEM_CURRENT), Ok(512));
        assert_eq!(of(abi::CU_MEMPOOL_ATTR_USED_MEM_HIGH), Ok(1536));
        pools.set_attribute(default, abi::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0);
        assert_eq!(of(abi::CU_MEMPOOL_ATTR_USED_MEM_HIGH), Ok(512));
        assert_eq!(of(abi::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH), Ok(1536), "the other mark was not reset");
        pools.set_access(default, 1, 3);
        assert!(!pools.takes_pieces(default, 0), "another device wants to reach it");
    }
}
