//! Why a ledger could not be opened or changed.

use std::io;

/// What can go wrong with a ledger. [`LedgerError::Exceeded`] is the everyday one: it is out of memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The reservation does not fit the session's limit. Nothing was changed.
    #[error("{requested} bytes on device {device} do not fit: {used} of {limit} bytes are reserved")]
    Exceeded {
        /// The device, in the session's order.
        device: u32,
        /// Bytes asked for.
        requested: u64,
        /// Bytes reserved by all slots.
        used: u64,
        /// The limit given.
        limit: u64,
    },
    /// More is released than the slot holds. Nothing was changed.
    #[error("{requested} bytes on device {device} cannot be released, slot {slot} holds {own}")]
    NotReserved {
        /// The device.
        device: u32,
        /// The slot.
        slot: u32,
        /// Bytes to be released.
        requested: u64,
        /// Bytes the slot holds.
        own: u64,
    },
    /// The file is not a ledger, or somebody damaged it.
    #[error("the ledger is corrupt: {reason}")]
    Corrupt {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A device that the session does not have.
    #[error("device {device} does not exist, the ledger has {devices}")]
    UnknownDevice {
        /// The device given.
        device: u32,
        /// Devices there are.
        devices: u32,
    },
    /// A slot that the ledger does not have.
    #[error("slot {slot} does not exist, the ledger has {slots}")]
    UnknownSlot {
        /// The slot given.
        slot: u32,
        /// Slots there are.
        slots: u32,
    },
    /// A ledger of this shape cannot be made.
    #[error("a ledger of {devices} devices and {slots} slots is not possible (1 to 64, 1 to 4096)")]
    Shape {
        /// Devices asked for.
        devices: u32,
        /// Slots asked for.
        slots: u32,
    },
    /// No open file description of our own could be made; without one the lock would not exclude anybody.
    #[error(
        "the ledger cannot be opened through {path}: {source}; its lock needs an open file description of \
         its own, so /proc must be mounted and reachable"
    )]
    Reopen {
        /// The path that was tried.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl LedgerError {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> LedgerError {
        move |errno| LedgerError::Io { what, source: errno.into() }
    }

    pub(crate) fn io_std(what: &'static str) -> impl FnOnce(io::Error) -> LedgerError {
        move |source| LedgerError::Io { what, source }
    }
}
