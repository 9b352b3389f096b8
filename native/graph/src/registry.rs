//! Handles: an object's address is its handle while the object is registered. A handle that names nothing is
//! found out, not followed.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// All live objects of one kind.
pub struct Registry<T>(LazyLock<RwLock<HashMap<usize, Arc<T>>>>);

impl<T> Registry<T> {
    /// An empty registry.
    #[allow(clippy::new_without_default, reason = "made in statics")]
    pub const fn new() -> Self {
        Self(LazyLock::new(RwLock::default))
    }

    /// Registers an object and returns its handle.
    pub fn insert(&self, object: &Arc<T>) -> usize {
        let handle = handle(object);
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::clone(object));
        handle
    }

    /// Registers an object under a handle of its owner's choice.
    pub fn insert_as(&self, handle: usize, object: &Arc<T>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::clone(object));
    }

    /// The object with this handle.
    pub fn find(&self, handle: usize) -> Option<Arc<T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&handle).cloned()
    }

    /// Takes an object out; others may still hold it.
    pub fn remove(&self, handle: usize) -> Option<Arc<T>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&handle)
    }

    /// Takes out all objects that meet a condition.
    pub fn remove_where(&self, condition: impl Fn(&T) -> bool) {
        let mut gone = Vec::new();
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|_, object| {
            let goes = condition(object);
            if goes {
                gone.push(Arc::clone(object));
            }
            !goes
        });
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// The handle of an object.
pub fn handle<T>(object: &Arc<T>) -> usize {
    Arc::as_ptr(object).expose_provenance()
}
