//! Stepping aside, as our `libcuda.so.1` does (ADR 20): in a process that uses the machine's own GPU every symbol of this
//! library leads to that of the driver's.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nvml::nvmlReturn_t;
use place::local::{self, Library};

use crate::generated::slots::{NAMES, SLOTS};
use crate::report;

/// This process's step.
pub static STEP: Step = Step { decided: OnceLock::new(), has_looked: AtomicBool::new(false) };

/// A process takes it once, or never.
#[derive(Debug)]
pub struct Step {
    /// The driver's library, or that this one stays. It is set, not waited for: a child that is made meanwhile would wait for
    /// a thread that it does not have.
    decided: OnceLock<Option<Library>>,
    /// Whether the first call has looked. A start looks each time until it is decided.
    has_looked: AtomicBool,
}

impl nvml::Aside for Step {
    fn look(&self, name: &CStr) {
        let may_look = self.decided.get().is_none()
            && (name.to_bytes().starts_with(b"nvmlInit") || !self.has_looked.load(Ordering::Relaxed));
        if may_look {
            if local::is_first() {
                self.take();
            }
            // Only now: the answers that other threads get meanwhile are to be of the same library.
            self.has_looked.store(true, Ordering::Relaxed);
        }
    }

    fn give_way(&self) -> bool {
        local::is_last() && self.take()
    }

    fn stay(&self) -> bool {
        self.decided.get_or_init(|| None).is_none()
    }

    fn find(&self, name: &CStr) -> Option<NonNull<c_void>> {
        Some(target(self.decided.get()?.as_ref()?, name))
    }
}

impl Step {
    /// Loads the next `libnvidia-ml.so.1` and leads all symbols to it; whether that is so now.
    fn take(&self) -> bool {
        if self.decided.get().is_none() {
            match Library::load("libnvidia-ml.so.1") {
                // Another thread may have been faster, and what it decided counts.
                Ok(Some(library)) => drop(self.decided.set(Some(library))),
                Ok(None) => {}
                Err(sentence) => report::once(&sentence),
            }
        }
        let Some(Some(library)) = self.decided.get() else { return false };
        for (name, slot) in NAMES.iter().zip(&SLOTS) {
            // What a program gets before it has initialised anything: it may ask for the text of any code.
            if library.find(name).is_some() || *name != c"nvmlErrorString" {
                slot.store(target(library, name).as_ptr(), Ordering::Release);
            }
        }
        true
    }
}

/// The driver's function, or one that says that an older driver has none.
fn target(library: &Library, name: &CStr) -> NonNull<c_void> {
    let missing: extern "C" fn() -> nvmlReturn_t = missing;
    // SAFETY: functions have addresses.
    library.find(name).unwrap_or_else(|| unsafe { NonNull::new_unchecked(missing as *mut c_void) })
}

extern "C" fn missing() -> nvmlReturn_t {
    nvmlReturn_t::FUNCTION_NOT_FOUND
}
