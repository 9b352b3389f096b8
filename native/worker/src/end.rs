//! How a worker ends: with its client, or when the acceptor says so, whatever the GPU is doing.
//!
//! The issuing thread may be waiting for a kernel that never ends, so another thread watches the client's socket
//! and the TERM signal. The process leaves by `_exit`: the driver's destructors would wait for that kernel.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use crate::control::Control;
use crate::counters::Counters;
use crate::memory::Memory;

/// How long records that a client sent before it closed may still be executed: its last words are among them.
const LAST_WORDS: Duration = Duration::from_millis(200);

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
    control.report(&counters.report(memory.per_gpu()));
    // SAFETY: ends the process without running anything more of it.
    unsafe { libc::_exit(code) }
}

/// Watches for the end of the client (a copy of its socket) and for TERM.
pub fn watch(
    client: OwnedFd,
    term: OwnedFd,
    control: Arc<Control>,
    counters: Arc<Counters>,
    memory: Arc<Memory>,
) -> io::Result<()> {
    std::thread::Builder::new().name("end".into()).spawn(move || {
        loop {
            let mut descriptors = [
                PollFd::from_borrowed_fd(client.as_fd(), PollFlags::RDHUP),
                PollFd::from_borrowed_fd(term.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(control.descriptor(), PollFlags::RDHUP),
            ];
            match poll(&mut descriptors, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!("the client cannot be watched: {error}");
                    return;
                }
            }
            // Without an acceptor nobody could end this worker with its session, and its GPU would be given to another:
            // it must not live on.
            if !descriptors[1].revents().is_empty() || !descriptors[2].revents().is_empty() {
                leave(&control, &counters, &memory, 0);
            }
            if !descriptors[0].revents().is_empty() {
                std::thread::sleep(LAST_WORDS);
                leave(&control, &counters, &memory, 0);
            }
        }
    })?;
    Ok(())
}
