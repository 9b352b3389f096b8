//! Waking the issuing thread, which may be asleep in the client's socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// A descriptor that becomes readable when something may go on.
#[derive(Debug)]
pub struct Wake {
    descriptor: OwnedFd,
    wanted: AtomicBool,
}

impl Wake {
    /// A new one.
    pub fn new() -> std::io::Result<Wake> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        Ok(Wake { descriptor: rustix::event::eventfd(0, flags)?, wanted: AtomicBool::new(false) })
    }

    /// Says whether anybody sleeps for it; without that a wake costs nothing.
    pub fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::SeqCst);
    }

    /// Wakes the issuing thread if it wants to be woken.
    pub fn wake(&self) {
        if self.wanted.load(Ordering::SeqCst) {
            // A full counter is awake enough.
            let _ = rustix::io::write(&self.descriptor, &1u64.to_ne_bytes());
        }
    }

    /// Forgets earlier wakes.
    pub fn clear(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.descriptor, &mut count);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
