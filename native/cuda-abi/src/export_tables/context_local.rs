//! Context-local storage: values that NVIDIA's runtime keeps per context.
//!
//! It is read before nearly every runtime call, so a look-up is one shared lock and one hash of two pointers.
//! Destructors run when a context goes away; the library says so with [`context_gone`].

use std::collections::HashMap;
use std::ffi::c_void;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{LazyLock, PoisonError, RwLock};

/// Called with context, key and value when the context goes away.
pub type Destructor = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void);

#[derive(Clone, Copy)]
struct Entry {
    value: usize,
    destructor: Option<Destructor>,
}

/// Keys are addresses: multiply and fold, nothing more is needed.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }
    fn write_usize(&mut self, value: usize) {
        let mixed = (self.0 ^ value as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

type Storage = HashMap<(usize, usize), Entry, BuildHasherDefault<AddressHasher>>;

static STORAGE: LazyLock<RwLock<Storage>> = LazyLock::new(RwLock::default);

/// Keeps `value` under `key` for `context`, replacing what was there.
pub fn put(context: *mut c_void, key: *mut c_void, value: *mut c_void, destructor: Option<Destructor>) {
    let entry = Entry { value: value.expose_provenance(), destructor };
    STORAGE.write().unwrap_or_else(PoisonError::into_inner).insert((context.addr(), key.addr()), entry);
}

/// The value under `key` for `context`.
#[must_use]
pub fn get(context: *mut c_void, key: *mut c_void) -> Option<*mut c_void> {
    let storage = STORAGE.read().unwrap_or_else(PoisonError::into_inner);
    storage.get(&(context.addr(), key.addr())).map(|entry| std::ptr::with_exposed_provenance_mut(entry.value))
}

/// Forgets the value under `key` for `context` without running its destructor; says whether there was one.
pub fn delete(context: *mut c_void, key: *mut c_void) -> bool {
    STORAGE.write().unwrap_or_else(PoisonError::into_inner).remove(&(context.addr(), key.addr())).is_some()
}

/// Runs the destructors of everything kept for `context` and forgets it. For contexts that are destroyed and
/// primary contexts that are reset.
///
/// # Safety
/// The library whose code registered a destructor must still be loaded, as `put`'s callers promise.
pub unsafe fn context_gone(context: *mut c_void) {
    let mut gone = Vec::new();
    // The lock is not held while destructors run: they may call back.
    STORAGE.write().unwrap_or_else(PoisonError::into_inner).retain(|(owner, key), entry| {
        let stays = *owner != context.addr();
        if !stays {
            gone.push((*key, *entry));
        }
        stays
    });
    for (key, entry) in gone {
        if let Some(destructor) = entry.destructor {
            // SAFETY: the caller promises that the destructor's code is there; it gets what it was registered with.
            unsafe {
                destructor(
                    context,
                    std::ptr::with_exposed_provenance_mut(key),
                    std::ptr::with_exposed_provenance_mut(entry.value),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn address(number: usize) -> *mut c_void {
        std::ptr::without_provenance_mut(number)
    }

    #[test]
    fn values_are_kept_per_context_and_key() {
        put(address(0x10), address(1), address(0xa), None);
        put(address(0x10), address(2), address(0xb), None);
        assert_eq!(get(address(0x10), address(1)), Some(address(0xa)));
        assert_eq!(get(address(0x10), address(2)), Some(address(0xb)));
        assert_eq!(get(address(0x20), address(1)), None);
        assert!(delete(address(0x10), address(1)));
        assert!(!delete(address(0x10), address(1)));
        assert_eq!(get(address(0x10), address(1)), None);
    }

    #[test]
    fn destructors_run_once_for_the_context_that_goes() {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        unsafe extern "C" fn count(_: *mut c_void, key: *mut c_void, value: *mut c_void) {
            RUNS.fetch_add(key.addr() + value.addr(), Ordering::SeqCst);
        }
        put(address(0x30), address(1), address(100), Some(count));
        put(address(0x31), address(1), address(1000), Some(count));
        // SAFETY: the destructor is code of this test.
        unsafe { context_gone(address(0x30)) };
        // SAFETY: as above.
        unsafe { context_gone(address(0x30)) };
        assert_eq!(RUNS.load(Ordering::SeqCst), 101);
        assert_eq!(get(address(0x30), address(1)), None);
    }
}
