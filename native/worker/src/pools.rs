//! Memory pools, inside the session's limit.
//!
//! What counts against the limit is what a pool *holds* of the GPU, not what the program uses of it: a pool keeps
//! freed memory until a stream is waited for, or longer where the program set a release threshold. The driver says
//! how much that is. Before an allocation its bytes are reserved in full; afterwards the pool's account is set to
//! what the pool really holds then.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuda_abi::{CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, CUdeviceptr, CUmemoryPool, CUresult, CUstream};
use driver::Driver;
use wire::handle::{Handle, MemoryPool};

use crate::memory::Memory;

/// A pool of the driver's.
#[derive(Debug)]
pub struct Pool {
    driver: Arc<Driver>,
    raw: CUmemoryPool,
    device: usize,
    is_default: bool,
    account: Mutex<Account>,
}

#[derive(Debug, Default)]
struct Account {
    /// The pool was destroyed; it lives on in its allocations.
    is_destroyed: bool,
    /// Bytes reserved in the session's ledger.
    charged: u64,
    /// Bytes of allocations whose free was not reached.
    allocated: u64,
}

/// The pools of a client, by its handles.
#[derive(Debug, Default)]
pub struct Pools {
    alive: HashMap<u64, Arc<Pool>>,
}

impl Pools {
    /// Notes a new pool on a device, or its default one.
    pub fn insert(
        &mut self,
        handle: MemoryPool,
        driver: &Arc<Driver>,
        raw: CUmemoryPool,
        (device, is_default): (usize, bool),
    ) {
        let pool = Pool { driver: Arc::clone(driver), raw, device, is_default, account: Mutex::default() };
        self.alive.insert(handle.raw(), Arc::new(pool));
    }

    /// Whether the driver's pool `raw` has a handle.
    pub fn knows(&self, raw: CUmemoryPool) -> bool {
        self.alive.values().any(|pool| pool.raw == raw)
    }

    /// The pool behind a handle.
    pub fn find(&self, handle: MemoryPool) -> Option<&Arc<Pool>> {
        self.alive.get(&handle.raw())
    }

    /// Forgets a destroyed pool; what is allocated from it stays accounted for.
    pub fn destroyed(&mut self, handle: MemoryPool, memory: &Memory) {
        if let Some(pool) = self.alive.remove(&handle.raw()) {
            let mut account = pool.account();
            account.is_destroyed = true;
            let allocated = account.allocated;
            pool.charge(&mut account, memory, allocated);
        }
    }

    /// Lets the pools of `device` give back what they only keep.
    pub fn trim(&self, device: usize, memory: &Memory) {
        for pool in self.alive.values().filter(|pool| pool.device == device) {
            pool.trim(0, memory);
        }
    }
}

impl Pool {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver's pool.
    pub fn raw(&self) -> CUmemoryPool {
        self.raw
    }

    /// The device that it is on.
    pub fn device(&self) -> usize {
        self.device
    }

    /// Whether it is its device's default pool, which nobody can destroy.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// Allocates in the order of `stream`: the address, and the bytes to give to [`Pool::settle`] once it is freed.
    ///
    /// Errors: `OUT_OF_MEMORY` beyond the session's limit, or what the driver answers.
    pub fn allocate(&self, memory: &Memory, size: usize, stream: CUstream) -> Result<(u64, u64), CUresult> {
        let mut account = self.account();
        let bytes = memory.reserve(self.device, size as u64)?;
        account.charged += bytes;
        let mut address: CUdeviceptr = 0;
        // SAFETY: `address` is a valid place; pool and stream are alive.
        let code = unsafe { self.driver.cuMemAllocFromPoolAsync(&raw mut address, size, self.raw, stream) };
        if code.is_success() {
            account.allocated += bytes;
        }
        self.refresh(&mut account, memory);
        code.into_result().map(|()| (address, bytes))
    }

    /// A free of `bytes` was reached.
    pub fn settle(&self, memory: &Memory, bytes: u64) {
        let mut account = self.account();
        account.allocated = account.allocated.saturating_sub(bytes);
        self.refresh(&mut account, memory);
    }

    /// Gives back what is not used, down to `keep` bytes.
    pub fn trim(&self, keep: usize, memory: &Memory) -> CUresult {
        let mut account = self.account();
        // SAFETY: the pool is alive.
        let code = unsafe { self.driver.cuMemPoolTrimTo(self.raw, keep) };
        self.refresh(&mut account, memory);
        code
    }

    /// Sets the account to what the pool holds.
    fn refresh(&self, account: &mut Account, memory: &Memory) {
        let mut held = 0u64;
        let known = !account.is_destroyed && {
            let place = (&raw mut held).cast::<c_void>();
            // SAFETY: the pool is alive; this attribute is a u64.
            let code = unsafe {
                self.driver.cuMemPoolGetAttribute(self.raw, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, place)
            };
            code.is_success()
        };
        let held = if known { held } else { account.allocated };
        self.charge(account, memory, held);
    }

    fn charge(&self, account: &mut Account, memory: &Memory, bytes: u64) {
        if bytes < account.charged {
            memory.release(self.device, account.charged - bytes);
        } else {
            memory.reserve_beyond_limit(self.device, bytes - account.charged);
        }
        account.charged = bytes;
    }
}
