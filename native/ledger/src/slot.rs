//! One worker's slot.

use std::sync::Arc;

use crate::error::LedgerError;
use crate::lock::Access;
use crate::{Inner, Ledger};

/// What a worker does with its slot. Clones share the slot; all methods may be called from any thread.
#[derive(Debug, Clone)]
pub struct SlotHandle {
    inner: Arc<Inner>,
    slot: u32,
}

impl SlotHandle {
    pub(crate) fn new(inner: Arc<Inner>, slot: u32) -> SlotHandle {
        SlotHandle { inner, slot }
    }

    /// The slot's number.
    pub fn number(&self) -> u32 {
        self.slot
    }

    /// The ledger that the slot belongs to.
    pub fn ledger(&self) -> Ledger {
        Ledger { inner: Arc::clone(&self.inner) }
    }

    /// Adds `bytes` to the slot when the sum over all slots then stays within `limit` (`None`: always);
    /// else answers [`LedgerError::Exceeded`].
    pub fn reserve(&self, device: u32, bytes: u64, limit: Option<u64>) -> Result<(), LedgerError> {
        let ledger = self.inner.lock(Access::Write)?;
        let used = ledger.sum(device)?;
        let limit = limit.unwrap_or(u64::MAX);
        // A sum beyond 64 bits exceeds every limit. The slot is part of the sum: if that holds, it holds.
        if used.checked_add(bytes).is_none_or(|sum| sum > limit) {
            return Err(LedgerError::Exceeded { device, requested: bytes, used, limit });
        }
        let own = ledger.read(device, self.slot)?;
        let own = own
            .checked_add(bytes)
            .ok_or(LedgerError::Corrupt { reason: "a slot holds more than the sum over the slots" })?;
        ledger.write(device, self.slot, own)
    }

    /// Takes `bytes` off the slot.
    pub fn release(&self, device: u32, bytes: u64) -> Result<(), LedgerError> {
        let ledger = self.inner.lock(Access::Write)?;
        let own = ledger.read(device, self.slot)?;
        let rest = own.checked_sub(bytes).ok_or(LedgerError::NotReserved {
            device,
            slot: self.slot,
            requested: bytes,
            own,
        })?;
        ledger.write(device, self.slot, rest)
    }

    /// Bytes reserved on `device`, summed over all slots.
    pub fn used(&self, device: u32) -> Result<u64, LedgerError> {
        self.inner.lock(Access::Read)?.sum(device)
    }

    /// Bytes that this slot holds on `device`.
    pub fn own(&self, device: u32) -> Result<u64, LedgerError> {
        self.inner.lock(Access::Read)?.read(device, self.slot)
    }
}
