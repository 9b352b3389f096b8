//! How a worker ends: with its client, when the acceptor says so, or when there is no acceptor for too long, whatever the
//! GPU is doing.
//!
//! The issuing thread may be waiting for a kernel that never ends, so another thread watches the client's lane
//! and the TERM signal. The process leaves by `_exit`: the driver's destructors would wait for that kernel.

use std::io;
use std::os::fd::{AsFd as _, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use transport::Lane;

use crate::control::Control;
use crate::counters::Counters;
use crate::memory::Memory;

/// How long records that a client sent before it closed may still be executed: its last words are among them.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How long they may still be read when it is known that the client is dead: the word of that may come before them.
const LAST_WORDS_OF_DEAD: Duration = Duration::from_millis(30);

/// Nothing to read for so many looks in a row: the issuing thread has executed what it read.
const QUIET_LOOKS: u32 = 3;

/// Between two looks.
const LOOK_AT_LAST_WORDS: Duration = Duration::from_millis(1);

/// How often the lane is looked at that has no connection, and whether the client asks for a sign of life.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Blocks TERM for this thread and all that it starts from here on; it is read from the descriptor instead.
/// Called before any other thread exists.
pub fn catch_term() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by `sigemptyset` before it is used, and lives through the calls; the new
    // descriptor belongs to nobody else.
    unsafe {
        let mut signals = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut signals);
        libc::sigaddset(&raw mut signals, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut());
        let descriptor = libc::signalfd(-1, &raw const signals, libc::SFD_CLOEXEC);
        if descriptor < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(descriptor)) }
    }
}

/// The last report, then the end of the process. Its death gives all GPU memory back.
pub fn leave(control: &Control, counters: &Counters, memory: &Memory, code: i32) -> ! {
    control.report_last(&counters.report(memory.per_gpu()), code);
    // SAFETY: ends the process without running anything more of it.
    unsafe { libc::_exit(code) }
}

/// Watches for the end of the client's lane and for TERM.
pub fn watch(
    lane: Arc<Lane>,
    term: OwnedFd,
    control: Arc<Control>,
    counters: Arc<Counters>,
    memory: Arc<Memory>,
) -> io::Result<()> {
    std::thread::Builder::new().name("end".into()).spawn(move || {
        loop {
            let waited = match lane.wait_for_end(term.as_fd(), LOOK_EVERY) {
                Ok(waited) => waited,
                Err(error) => {
                    tracing::error!("the client cannot be watched: {error}");
                    return;
                }
            };
            if waited.is_readable {
                hear_last_words(&lane);
                leave(&control, &counters, &memory, 0);
            }
            if let Some(closed) = waited.closed {
                // Whoever knows that the client is dead says so.
                if wait_readable(&term, LAST_WORDS) {
                    hear_last_words(&lane);
                    leave(&control, &counters, &memory, 0);
                }
                if !lane.is_resumable() {
                    leave(&control, &counters, &memory, 0);
                }
                lane.give_up(&closed);
            }
            // The issuing thread may be with the driver for long, and must not be taken for dead.
            lane.listen();
            if lane.is_over() {
                leave(&control, &counters, &memory, 0);
            }
        }
    })?;
    Ok(())
}

/// Lets the issuing thread read what a dead client has sent, unless it is held up elsewhere; at the client's goodbye it
/// ends the process itself.
fn hear_last_words(lane: &Lane) {
    let deadline = Instant::now() + LAST_WORDS_OF_DEAD;
    let mut quiet = 0;
    while quiet < QUIET_LOOKS && Instant::now() < deadline {
        quiet = if lane.has_unread() { 0 } else { quiet + 1 };
        std::thread::sleep(LOOK_AT_LAST_WORDS);
    }
}

/// Waits until `descriptor` can be read, `time` at most; answers whether it can.
fn wait_readable(descriptor: &OwnedFd, time: Duration) -> bool {
    let mut descriptors = [PollFd::new(descriptor, PollFlags::IN)];
    let waited = Timespec::try_from(time).map(|time| poll(&mut descriptors, Some(&time)));
    matches!(waited, Ok(Ok(count)) if count > 0)
}
