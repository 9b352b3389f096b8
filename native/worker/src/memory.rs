//! GPU memory of this worker inside the limits of its session.
//!
//! Used = what this worker's calls allocated plus what its contexts cost; both are reserved in the session's
//! ledger, so that all processes of a session together stay inside the limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cuda_abi::CUresult;
use ledger::{Ledger, LedgerError, SlotHandle};

use crate::assignment::GpuAssignment;
use crate::counters::{Counters, GpuReport};
use crate::frees::Freed;
use crate::pools::Pool;

/// Drivers hand memory out in pieces of at least this size.
const GRANULARITY: u64 = 512;

/// Memory that was allocated and is accounted for.
#[derive(Debug, Clone)]
pub struct Allocation {
    device: usize,
    context: u32,
    bytes: u64,
    /// The pool it is from, which keeps the account.
    pool: Option<Arc<Pool>>,
}

impl Allocation {
    /// The device that it is on.
    pub fn device(&self) -> usize {
        self.pool.as_ref().map_or(self.device, |pool| pool.device())
    }
}

/// Memory of one worker.
#[derive(Debug)]
pub struct Memory {
    slot: SlotHandle,
    gpus: Vec<GpuAssignment>,
    allocations: Mutex<HashMap<u64, Allocation>>,
    counters: Arc<Counters>,
}

impl Memory {
    /// Memory accounted in `slot` of `ledger`.
    pub fn new(
        ledger: &Ledger,
        slot: u32,
        gpus: Vec<GpuAssignment>,
        counters: Arc<Counters>,
    ) -> anyhow::Result<Memory> {
        anyhow::ensure!(
            usize::try_from(ledger.devices())? == gpus.len(),
            "the ledger has {} GPUs, the assignment {}",
            ledger.devices(),
            gpus.len()
        );
        Ok(Memory { slot: ledger.slot(slot)?, gpus, allocations: Mutex::default(), counters })
    }

    /// What its worker counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The limit of `device`, if the session has a slice of it.
    pub fn limit(&self, device: usize) -> Option<u64> {
        self.gpus.get(device).and_then(|gpu| gpu.memory_limit_bytes)
    }

    /// Reserves `bytes` on `device`.
    ///
    /// Errors: `OUT_OF_MEMORY` beyond the session's limit.
    pub fn reserve(&self, device: usize, bytes: u64) -> Result<u64, CUresult> {
        let bytes = bytes.checked_next_multiple_of(GRANULARITY).ok_or(CUresult::OUT_OF_MEMORY)?;
        let ordinal = u32::try_from(device).map_err(|_| CUresult::INVALID_DEVICE)?;
        match self.slot.reserve(ordinal, bytes, self.limit(device)) {
            Ok(()) => {
                let own: u64 = self.per_gpu().iter().map(|gpu| gpu.memory_used_bytes).sum();
                self.counters.memory_peak_bytes.fetch_max(own, std::sync::atomic::Ordering::Relaxed);
                Ok(bytes)
            }
            Err(LedgerError::Exceeded { .. }) => Err(CUresult::OUT_OF_MEMORY),
            Err(error) => {
                tracing::error!("the session's ledger cannot be used: {error}");
                Err(CUresult::OUT_OF_MEMORY)
            }
        }
    }

    /// Notes `bytes` on `device` that are taken already.
    pub fn reserve_beyond_limit(&self, device: usize, bytes: u64) {
        let Ok(ordinal) = u32::try_from(device) else { return };
        if let Err(error) = self.slot.reserve(ordinal, bytes, None) {
            tracing::error!("{bytes} bytes could not be noted in the session's ledger: {error}");
        }
    }

    /// Gives `bytes` on `device` back.
    pub fn release(&self, device: usize, bytes: u64) {
        let Ok(ordinal) = u32::try_from(device) else { return };
        if let Err(error) = self.slot.release(ordinal, bytes) {
            tracing::error!("{bytes} bytes could not be given back to the session's ledger: {error}");
        }
    }

    /// Notes that `address` stands for `bytes` that were reserved on `device`, in the client's `context`.
    pub fn allocated(&self, address: u64, device: usize, context: u32, bytes: u64) {
        let allocation = Allocation { device, context, bytes, pool: None };
        self.put_back(address, allocation);
    }

    /// The same for memory from `pool`, which accounts for it.
    pub fn allocated_from(&self, pool: &Arc<Pool>, address: u64, context: u32, bytes: u64) {
        let pool = Some(Arc::clone(pool));
        self.put_back(address, Allocation { device: 0, context, bytes, pool });
    }

    /// Takes an allocation out: its free is on its way, and its address may be given out again.
    pub fn take(&self, address: u64) -> Option<Allocation> {
        self.allocations.lock().unwrap_or_else(PoisonError::into_inner).remove(&address)
    }

    /// Notes an allocation.
    pub fn put_back(&self, address: u64, allocation: Allocation) {
        self.allocations.lock().unwrap_or_else(PoisonError::into_inner).insert(address, allocation);
    }

    /// What the free of the allocation at `address` frees.
    pub fn freeing(&self, address: u64) -> Option<Freed> {
        let allocations = self.allocations.lock().unwrap_or_else(PoisonError::into_inner);
        let allocation = allocations.get(&address)?;
        let bytes = Some(allocation.bytes);
        Some(Freed { context: allocation.context, device: allocation.device(), bytes })
    }

    /// Gives the memory behind `address` back: it was freed.
    pub fn freed(&self, address: u64) {
        if let Some(allocation) = self.take(address) {
            self.settle(allocation);
        }
    }

    /// Gives memory back that was taken out.
    pub fn settle(&self, allocation: Allocation) {
        match &allocation.pool {
            Some(pool) => pool.settle(self, allocation.bytes),
            None => self.release(allocation.device, allocation.bytes),
        }
    }

    /// Gives everything of the client's `context` back: it was destroyed.
    pub fn freed_all(&self, context: u32) {
        let mut gone = Vec::new();
        self.allocations.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, allocation| {
            if allocation.context == context {
                gone.push(allocation.clone());
            }
            allocation.context != context
        });
        gone.into_iter().for_each(|allocation| self.settle(allocation));
    }

    /// Bytes that the whole session uses on `device`.
    pub fn used_by_session(&self, device: usize) -> u64 {
        u32::try_from(device).ok().and_then(|ordinal| self.slot.used(ordinal).ok()).unwrap_or(0)
    }

    /// What this worker uses, per GPU.
    pub fn per_gpu(&self) -> Vec<GpuReport> {
        let own = |device: usize| {
            u32::try_from(device).ok().and_then(|ordinal| self.slot.own(ordinal).ok()).unwrap_or(0)
        };
        let gpus = self.gpus.iter().enumerate();
        gpus.map(|(device, gpu)| GpuReport { uuid: gpu.uuid.clone(), memory_used_bytes: own(device) })
            .collect()
    }
}
