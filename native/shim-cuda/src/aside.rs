//! Stepping aside: in a process that uses the machine's own GPU every symbol of this library leads to the driver's.
//!
//! The loader finds this library first. Whether it is meant is known when the process first calls it, before anything
//! is made that only one of the two knows.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use place::local::{self, Library};

use crate::generated::slots::{NAMES, SLOTS};
use crate::{report, state};

/// The driver that this process uses instead.
static DRIVER: OnceLock<Library> = OnceLock::new();

/// Whether it was looked for a driver in vain: look-ups of functions come by the hundred.
static HAS_LOOKED: AtomicBool = AtomicBool::new(false);

/// The local driver's function, in a process that is to use it. `cuInit` looks anew each time that it is called.
pub fn local(name: &CStr) -> Option<*mut c_void> {
    if DRIVER.get().is_none() {
        let may_look = name == c"cuInit" || !HAS_LOOKED.load(Ordering::Relaxed);
        if !may_look || state::found().is_ok() || !local::is_first() || !step_aside() {
            // Only now: what another thread gets meanwhile may not be of this library if that steps aside.
            HAS_LOOKED.store(true, Ordering::Relaxed);
            return None;
        }
    }
    find(name)
}

/// After no service would have this process: whether the local driver takes its place.
pub fn instead_of_services() -> bool {
    local::is_last() && step_aside()
}

/// The local driver's function, when this process has stepped aside.
pub fn find(name: &CStr) -> Option<*mut c_void> {
    DRIVER.get()?.find(name).map(NonNull::as_ptr)
}

/// Loads the next `libcuda.so.1` and leads all symbols to it.
fn step_aside() -> bool {
    if DRIVER.get().is_some() {
        return true;
    }
    let driver = match Library::load("libcuda.so.1") {
        Ok(Some(driver)) => driver,
        Ok(None) => return false,
        Err(sentence) => {
            report::once(&sentence);
            return false;
        }
    };
    // Before anybody can see that there is a driver: who does, and begins with it, must not come back here. Two threads
    // that do this at once do the same.
    for (name, slot) in NAMES.iter().zip(&SLOTS) {
        // A symbol that an older driver does not have answers as before `cuInit`.
        if let Some(address) = driver.find(name) {
            slot.store(address.as_ptr(), Ordering::Release);
        }
    }
    let _ = DRIVER.set(driver);
    true
}
