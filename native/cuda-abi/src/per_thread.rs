//! Values that each thread has for itself, kept until the very end of the process.
//!
//! Unlike Rust's `thread_local!`, whose values are gone before the first handler of `exit` runs, these are still there
//! when a program's own handlers and destructors call CUDA. They are dropped when their thread ends before the process.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::OnceLock;

/// A value per thread, made at its first use.
#[derive(Debug)]
pub struct PerThread<T: 'static> {
    key: OnceLock<Option<libc::pthread_key_t>>,
    value: PhantomData<fn() -> T>,
}

impl<T: Default + 'static> PerThread<T> {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { key: OnceLock::new(), value: PhantomData }
    }

    /// Uses the calling thread's value. (Where the process has no room for it, a fresh one each time.)
    pub fn with<R>(&self, body: impl FnOnce(&T) -> R) -> R {
        let Some(key) = *self.key.get_or_init(make_key::<T>) else { return body(&T::default()) };
        // SAFETY: the key is never deleted.
        let known = unsafe { libc::pthread_getspecific(key) }.cast::<T>();
        // SAFETY: a value behind the key is a box that was let go below; only its own thread uses it, and drops it
        // when it has no more use for it.
        if let Some(value) = unsafe { known.cast_const().as_ref() } {
            return body(value);
        }
        let value = Box::into_raw(Box::<T>::default());
        // SAFETY: the key is never deleted; `drop_value` takes the box back.
        if unsafe { libc::pthread_setspecific(key, value.cast()) } != 0 {
            // SAFETY: nobody else was given the box.
            return body(&*unsafe { Box::from_raw(value) });
        }
        // SAFETY: as above.
        body(unsafe { &*value })
    }
}

impl<T: Default + 'static> Default for PerThread<T> {
    fn default() -> Self {
        Self::new()
    }
}

fn make_key<T>() -> Option<libc::pthread_key_t> {
    let mut key = 0;
    // SAFETY: the place is valid; the destructor belongs to a library that is never unloaded.
    let made = unsafe { libc::pthread_key_create(&raw mut key, Some(drop_value::<T>)) };
    (made == 0).then_some(key)
}

/// # Safety
/// `value` is a box that [`PerThread::with`] let go.
unsafe extern "C" fn drop_value<T>(value: *mut c_void) {
    // A panic must not leave a thread's end.
    let _ = std::panic::catch_unwind(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(value.cast::<T>()) });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU32, Ordering};

    static DROPPED: AtomicU32 = AtomicU32::new(0);

    #[derive(Default)]
    struct Counted(Cell<u32>);

    impl Drop for Counted {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn each_thread_has_its_own_value_until_it_ends() {
        static VALUES: PerThread<Counted> = PerThread::new();
        let count = || VALUES.with(|value| value.0.replace(value.0.get() + 1));
        assert_eq!((count(), count()), (0, 1));
        std::thread::spawn(move || assert_eq!((count(), count()), (0, 1))).join().expect("a thread");
        assert_eq!(DROPPED.load(Ordering::SeqCst), 1);
        assert_eq!(VALUES.with(|value| value.0.get()), 2);
    }
}
