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

/// Drivers hand memory out in pieces of at least this size.
const GRANULARITY: u64 = 512;

#[derive(Debug, Clone, Copy)]
struct Allocation {
    device: usize,
    context: u32,
    bytes: u64,
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

    /// Gives `bytes` on `device` back.
    pub fn release(&self, device: usize, bytes: u64) {
        let Ok(ordinal) = u32::try_from(device) else { return };
        if let Err(error) = self.slot.release(ordinal, bytes) {
            tracing::error!("{bytes} bytes could not be given back to the session's ledger: {error}");
        }
    }

    /// Notes that `address` stands for `bytes` that were reserved on `device`, in the client's `context`.
    pub fn allocated(&self, address: u64, device: usize, context: u32, bytes: u64) {
        let allocation = Allocation { device, context, bytes };
        self.allocations.lock().unwrap_or_else(PoisonError::into_inner).insert(address, allocation);
    }

    /// Whether `address` stands for an allocation.
    pub fn owns(&self, address: u64) -> bool {
        self.allocations.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&address)
    }

    /// Gives the memory behind `address` back: it was freed.
    pub fn freed(&self, address: u64) {
        let known = self.allocations.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        if let Some(allocation) = known {
            self.release(allocation.device, allocation.bytes);
        }
    }

    /// Gives everything of the client's `context` back: it was destroyed.
    pub fn freed_all(&self, context: u32) {
        let mut gone = Vec::new();
        self.allocations.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, allocation| {
            if allocation.context == context {
                gone.push(*allocation);
            }
            allocation.context != context
        });
        for allocation in gone {
            self.release(allocation.device, allocation.bytes);
        }
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
