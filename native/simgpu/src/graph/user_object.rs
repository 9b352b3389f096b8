//! Objects of the program that live as long as graphs that use them.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cuda_abi::{CUresult, CUuserObject};

use crate::guard::{Answer, in_host_function};
use crate::registry::{Registry, handle};

/// An object and the function that ends it.
pub struct UserObject {
    destroy: unsafe extern "C" fn(*mut c_void),
    data: *mut c_void,
    references: AtomicU64,
}

// SAFETY: the program hands the pointer over for its own function, which CUDA calls on another thread by contract.
unsafe impl Send for UserObject {}
// SAFETY: as above; nothing here follows the pointer.
unsafe impl Sync for UserObject {}

static OBJECTS: Registry<UserObject> = Registry::new();

impl UserObject {
    /// An object with `count` references of the program.
    pub fn create(destroy: unsafe extern "C" fn(*mut c_void), data: *mut c_void, count: u32) -> CUuserObject {
        let object = Arc::new(Self { destroy, data, references: AtomicU64::new(count.into()) });
        CUuserObject(OBJECTS.insert(&object))
    }

    /// Adds references.
    pub fn retain(&self, count: u64) {
        self.references.fetch_add(count, Ordering::AcqRel);
    }

    /// Takes references away; the last one ends the object.
    ///
    /// # Errors
    /// INVALID_VALUE for more than there are.
    pub fn release(self: &Arc<Self>, count: u64) -> Answer {
        if count == 0 {
            return Ok(());
        }
        let less = |references: u64| references.checked_sub(count);
        let before = self.references.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        if before.map_err(|_| CUresult::INVALID_VALUE)? == count {
            OBJECTS.remove(handle(self));
            // SAFETY: the program gave function and pointer for this call, which is the only one.
            in_host_function(|| unsafe { (self.destroy)(self.data) });
        }
        Ok(())
    }
}

/// References of a graph.
pub struct Held {
    pub object: Arc<UserObject>,
    pub count: u64,
}

impl Clone for Held {
    fn clone(&self) -> Self {
        self.object.retain(self.count);
        Self { object: Arc::clone(&self.object), count: self.count }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.object.release(self.count);
    }
}

/// The object of a handle.
///
/// # Errors
/// INVALID_VALUE when it names nothing.
pub fn user_object(handle: CUuserObject) -> Answer<Arc<UserObject>> {
    OBJECTS.find(handle.0).ok_or(CUresult::INVALID_VALUE)
}
