//! What surrounds every exported call: is the library ready, may this thread call, did the body panic.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cuda_abi::CUresult;
use cuda_abi::phase::{Phase, PhaseWord};

use crate::config::{config, log};

/// What a call's body answers.
pub type Answer<T = ()> = Result<T, CUresult>;

static PHASE: PhaseWord = PhaseWord::new();

thread_local! {
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
}

extern "C" fn after_fork_in_child() {
    // In the child of a process that had initialised CUDA nothing works, as with NVIDIA's driver.
    PHASE.forked();
}

extern "C" fn at_exit() {
    PHASE.exit();
}

/// Runs the first `cuInit`; every later one finds it done. It also arranges for fork and exit.
///
/// # Errors
/// Those of `body`, or that of a process in which it cannot succeed.
pub fn initialise(body: impl FnOnce() -> Answer) -> Answer {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if !WATCHED.swap(true, Ordering::Relaxed) {
        // SAFETY: the handler is a plain function of a library that is never unloaded.
        unsafe { libc::pthread_atfork(None, None, Some(after_fork_in_child)) };
    }
    loop {
        match PHASE.get() {
            Phase::Running => return Ok(()),
            Phase::Forked => return Err(CUresult::NOT_INITIALIZED),
            Phase::Exiting => return Err(CUresult::DEINITIALIZED),
            // No lock: a child that is made meanwhile would find it held by a thread that it does not have.
            Phase::Starting => std::thread::sleep(Duration::from_millis(1)),
            Phase::Idle => {
                if PHASE.start() {
                    let done = catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(CUresult::UNKNOWN));
                    if done.is_ok() {
                        // SAFETY: as above.
                        unsafe { libc::atexit(at_exit) };
                    }
                    PHASE.end_start(done.is_ok());
                    return done;
                }
            }
        }
    }
}

/// Whether the process has begun to end; executors then stop.
pub fn is_exiting() -> bool {
    PHASE.get() == Phase::Exiting
}

fn readiness() -> Answer {
    match PHASE.get() {
        Phase::Running => Ok(()),
        Phase::Exiting => Err(CUresult::DEINITIALIZED),
        Phase::Idle | Phase::Starting | Phase::Forked => Err(CUresult::NOT_INITIALIZED),
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
