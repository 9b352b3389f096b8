//! Objects of the program that live as long as graphs that use them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cuda_abi::{CUresult, CUuserObject};

use crate::registry::{Registry, handle};
use crate::{Answer, lock};

/// What ends an object.
type Destroy = Box<dyn FnOnce() + Send>;

/// An object and what ends it.
pub struct UserObject {
    destroy: Mutex<Option<Destroy>>,
    references: AtomicU64,
}

static OBJECTS: Registry<UserObject> = Registry::new();

impl fmt::Debug for UserObject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("UserObject").field("references", &self.references).finish_non_exhaustive()
    }
}

impl UserObject {
    /// An object with `count` references of the program; `destroy` is called once, by whoever gives up the last.
    pub fn create(destroy: Destroy, count: u32) -> CUuserObject {
        let object =
            Arc::new(Self { destroy: Mutex::new(Some(destroy)), references: AtomicU64::new(count.into()) });
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
            let destroy = lock(&self.destroy).take();
            if let Some(destroy) = destroy {
                destroy();
            }
        }
        Ok(())
    }
}

/// References of a graph.
#[derive(Debug)]
pub struct Held {
    /// The object.
    pub object: Arc<UserObject>,
    /// How many.
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
