//! Threads of our own inside somebody else's process.

use std::io;
use std::mem::MaybeUninit;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

/// Bytes of a stack.
const STACK: usize = 256 << 10;

/// Starts a thread with a name and with every signal blocked, so that the program's handlers never run on it.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    without_signals(|| builder(name).spawn(body)).map(drop)
}

/// Does all at once, each but the first in a thread of its own with this name; answers in their order.
pub fn all<T: Send>(name: &str, works: Vec<impl FnOnce() -> T + Send>) -> Vec<T> {
    // Where there can be no thread, its work is done by this one.
    let works: Vec<_> = works.into_iter().map(|work| Mutex::new(Some(work))).collect();
    let perform = |place: usize| {
        let work = works[place].lock().unwrap_or_else(PoisonError::into_inner).take();
        work.map(|work| work())
    };
    std::thread::scope(|scope| {
        let start = |place| without_signals(|| builder(name).spawn_scoped(scope, move || perform(place)));
        let others: Vec<_> = (1..works.len()).map(|place| (place, start(place))).collect();
        let first = if works.is_empty() { None } else { perform(0) };
        let others = others.into_iter().filter_map(|(place, started)| match started {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => perform(place),
        });
        first.into_iter().chain(others).collect()
    })
}

fn builder(name: &str) -> Builder {
    Builder::new().name(name.to_owned()).stack_size(STACK)
}

/// What `start` starts has every signal blocked.
fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initialises the set it is given, and both sets live through the calls.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let started = start();
    // SAFETY: `before` was initialised by the call above.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
    }
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_done_at_once_and_answered_in_order() {
        // None of them is over before all have begun.
        let together = std::sync::Barrier::new(4);
        let works: Vec<_> = (0..4)
            .map(|number| {
                let together = &together;
                move || {
                    together.wait();
                    number
                }
            })
            .collect();
        assert_eq!(all("test", works), [0, 1, 2, 3]);
        assert_eq!(all("test", Vec::<fn() -> u8>::new()), []);
    }
}
