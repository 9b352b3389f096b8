//! Memory that the client has freed and that is not free yet, as the GPU may be using it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a look at the driver's numbers waits for a free that happens right now: longer than any that does not itself
/// wait for the GPU.
const MOMENT: Duration = Duration::from_millis(5);

/// One free.
#[derive(Debug, Clone, Copy)]
pub struct Freed {
    /// The client's context that it was in.
    pub context: u32,
    /// The device that it is on.
    pub device: usize,
    /// Bytes; `None` for those of code, which nobody knows.
    pub bytes: Option<u64>,
}

/// What is about to be free on a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// Bytes that are known.
    pub bytes: u64,
    /// Whether there is code among it.
    pub has_code: bool,
}

#[derive(Debug, Default)]
struct Table {
    /// How many, by context.
    contexts: HashMap<u32, usize>,
    /// Bytes and pieces of code, by device.
    devices: HashMap<usize, (u64, usize)>,
}

/// All frees under way.
#[derive(Debug, Default)]
pub struct Frees {
    table: Mutex<Table>,
    /// Held while the driver frees something, until it does not count as pending any more.
    happening: Mutex<()>,
    /// Somebody waits for `happening`.
    is_wanted: AtomicBool,
}

impl Frees {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the driver free part of `freed`, which does not count any more then; one after the other.
    pub fn happens<T>(&self, freed: &mut Freed, bytes: u64, free: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        while self.is_wanted.load(Ordering::Acquire) && started.elapsed() < MOMENT {
            std::thread::yield_now();
        }
        let _one_at_a_time = self.happening.lock().unwrap_or_else(PoisonError::into_inner);
        let done = free();
        if let Some(left) = &mut freed.bytes {
            *left -= bytes;
            if let Some(device) = self.table().devices.get_mut(&freed.device) {
                device.0 -= bytes;
            }
        }
        done
    }

    /// Looks at what is free and what is pending while nothing turns from one into the other. A free that takes long waits
    /// for the GPU, and has not happened.
    pub fn at_rest<T>(&self, look: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        self.is_wanted.store(true, Ordering::Release);
        let mut guard = self.happening.try_lock();
        while guard.is_err() && started.elapsed() < MOMENT {
            std::thread::yield_now();
            guard = self.happening.try_lock();
        }
        let seen = look();
        drop(guard);
        self.is_wanted.store(false, Ordering::Release);
        seen
    }

    /// Notes one that begins.
    pub fn begin(&self, freed: &Freed) {
        let mut table = self.table();
        *table.contexts.entry(freed.context).or_default() += 1;
        let device = table.devices.entry(freed.device).or_default();
        match freed.bytes {
            Some(bytes) => device.0 += bytes,
            None => device.1 += 1,
        }
    }

    /// Notes the end of one that has begun.
    pub fn end(&self, freed: &Freed) {
        let mut table = self.table();
        if let Some(count) = table.contexts.get_mut(&freed.context) {
            *count -= 1;
            if *count == 0 {
                table.contexts.remove(&freed.context);
            }
        }
        if let Some(device) = table.devices.get_mut(&freed.device) {
            match freed.bytes {
                Some(bytes) => device.0 -= bytes,
                None => device.1 -= 1,
            }
        }
    }

    /// Whether there are any of a context.
    pub fn any_in(&self, context: u32) -> bool {
        self.table().contexts.contains_key(&context)
    }

    /// What they are on a device.
    pub fn on(&self, device: usize) -> Pending {
        let found = self.table().devices.get(&device).copied().unwrap_or_default();
        Pending { bytes: found.0, has_code: found.1 > 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frees_count_for_their_context_and_their_device_until_they_end() {
        let frees = Frees::default();
        let memory = Freed { context: 1, device: 0, bytes: Some(512) };
        let code = Freed { context: 2, device: 0, bytes: None };
        frees.begin(&memory);
        frees.begin(&code);
        assert!(frees.any_in(1) && frees.any_in(2) && !frees.any_in(3));
        assert_eq!(frees.on(0), Pending { bytes: 512, has_code: true });
        assert_eq!(frees.on(1), Pending::default());
        frees.end(&code);
        assert_eq!((frees.any_in(2), frees.on(0)), (false, Pending { bytes: 512, has_code: false }));
        let mut memory = memory;
        assert_eq!(frees.happens(&mut memory, 512, || 7), 7);
        assert_eq!(frees.at_rest(|| frees.on(0)), Pending::default());
        frees.end(&memory);
        assert_eq!((frees.any_in(1), frees.on(0)), (false, Pending::default()));
    }
}
