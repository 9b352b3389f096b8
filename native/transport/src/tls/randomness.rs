//! Random numbers of a process that ends.
//!
//! A destructor of AWS-LC clears the generators of all threads; from then on they wait for ever. A thread that asks for its
//! first random number even later would wait for itself, and AWS-LC ends the process by a signal instead: a program that had
//! done its work ended with 134 when it left while a thread of ours was connecting. So whoever will need random numbers has
//! the generator of its thread made here before, and none is made any more once the process has begun to end.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Held while a generator is made. Whether the end of the process will be heard of.
static MAKING: Mutex<bool> = Mutex::new(false);

/// Of `LOOK` each: in the child of a fork nobody may be left who gives the lock back.
const MOST_LOOKS: u32 = 100;
const LOOK: Duration = Duration::from_millis(1);

/// Makes this thread's generator.
///
/// Errors: the process is ending, or the system gives no random numbers.
pub(super) fn prepare() -> io::Result<()> {
    let ending = || io::Error::other("the process is ending");
    let mut is_heard = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if !*is_heard {
        // SAFETY: the handler is a plain function, which lives as long as this library; that is never unloaded.
        #[expect(unsafe_code, reason = "the standard library tells nobody of the end")]
        let registered = unsafe { libc::atexit(end) };
        // Refused when the end is past the point at which it could be heard of.
        if registered != 0 {
            return Err(ending());
        }
        *is_heard = true;
    }
    if IS_ENDING.load(Ordering::SeqCst) {
        return Err(ending());
    }
    aws_lc_rs::rand::fill(&mut [0]).map_err(|_| io::Error::other("there are no random numbers"))
}

/// Runs before the destructors of libraries.
extern "C" fn end() {
    IS_ENDING.store(true, Ordering::SeqCst);
    for _ in 0..MOST_LOOKS {
        if MAKING.try_lock().is_ok() {
            return;
        }
        std::thread::sleep(LOOK);
    }
}
