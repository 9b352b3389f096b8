//! What surrounds every exported call: is the library ready, may this thread call, did the body panic.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};

use cuda_abi::CUresult;

use crate::config::{config, log};

/// What a call's body answers.
pub type Answer<T = ()> = Result<T, CUresult>;

const FRESH: u8 = 0;
const READY: u8 = 1;
const FORKED: u8 = 2;
const EXITING: u8 = 3;

static STATE: AtomicU8 = AtomicU8::new(FRESH);

thread_local! {
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

extern "C" fn after_fork_in_child() {
    // In the child of a process that had initialised CUDA nothing works, as with NVIDIA's driver.
    let _ = STATE.compare_exchange(READY, FORKED, Ordering::SeqCst, Ordering::SeqCst);
}

extern "C" fn at_exit() {
    let _ = STATE.compare_exchange(READY, EXITING, Ordering::SeqCst, Ordering::SeqCst);
}

/// Marks the library as initialised. The first call also arranges for fork and exit.
pub fn set_ready() {
    if STATE.compare_exchange(FRESH, READY, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        // SAFETY: the handlers are plain functions of a library that is never unloaded.
        unsafe {
            libc::pthread_atfork(None, None, Some(after_fork_in_child));
            libc::atexit(at_exit);
        }
    }
}

/// Whether the process has begun to end; executors then stop.
pub fn is_exiting() -> bool {
    STATE.load(Ordering::Relaxed) == EXITING
}

fn readiness() -> Answer {
    match STATE.load(Ordering::Acquire) {
        READY => Ok(()),
        EXITING => Err(CUresult::DEINITIALIZED),
        _ => Err(CUresult::NOT_INITIALIZED),
    }
}

/// Runs a call that needs an initialised library.
pub fn call(name: &str, body: impl FnOnce() -> Answer) -> CUresult {
    if let Err(error) = readiness() {
        return error;
    }
    if IN_HOST_FUNCTION.get() && config().unkind.host_functions {
        return CUresult::NOT_PERMITTED;
    }
    let result = call_any_time(body);
    if !result.is_success() && result != CUresult::NOT_READY {
        log(|| format!("{name}: {result}"));
    }
    result
}

/// Runs a call that works before `cuInit` too.
pub fn call_any_time(body: impl FnOnce() -> Answer) -> CUresult {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => CUresult::SUCCESS,
        Ok(Err(error)) => error,
        Err(_) => CUresult::UNKNOWN,
    }
}

/// What `cuInit` answers in a state where it cannot succeed.
pub fn refuse_initialisation() -> Answer {
    match STATE.load(Ordering::Acquire) {
        FORKED => Err(CUresult::NOT_INITIALIZED),
        EXITING => Err(CUresult::DEINITIALIZED),
        _ => Ok(()),
    }
}

/// Runs a program's host function on this thread.
pub fn in_host_function(body: impl FnOnce()) {
    IN_HOST_FUNCTION.set(true);
    body();
    IN_HOST_FUNCTION.set(false);
}

/// Stores through an out pointer of the caller.
///
/// # Safety
/// `out` is null or writable as a `T`.
pub unsafe fn put<T>(out: *mut T, value: T) -> Answer {
    if out.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller promises the rest.
    unsafe { out.write(value) };
    Ok(())
}

/// Stores through an out pointer that may be left out.
///
/// # Safety
/// `out` is null or writable as a `T`.
pub unsafe fn put_optional<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: not null, and the caller promises the rest.
        unsafe { out.write(value) };
    }
}

/// Declares exported calls. The body is an [`Answer`]; it runs guarded, inside one `unsafe` block, because a
/// pointer argument of a CUDA call is by contract null or valid for its type.
macro_rules! exports {
    ($( $(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block )*) => {$(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> cuda_abi::CUresult {
            // SAFETY: callers keep CUDA's contract: a pointer argument is null or valid for its type.
            #[allow(unused_unsafe, unused_braces, reason = "bodies without pointers need neither")]
            $crate::guard::call(stringify!($name), || -> $crate::guard::Answer { unsafe { $body } })
        }
    )*};
}
pub(crate) use exports;
