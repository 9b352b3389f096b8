//! Where this process stands: before `cuInit`, connected, in a forked child, or already exiting.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use cuda_abi::CUresult;

use crate::client::Client;
use crate::{connect, coverage, report};

const RUNNING: u8 = 0;
const FORKED: u8 = 1;
const EXITING: u8 = 2;

static PHASE: AtomicU8 = AtomicU8::new(RUNNING);
static CLIENT: OnceLock<Client> = OnceLock::new();
static INITIALISING: Mutex<()> = Mutex::new(());

/// The client of this process, once `cuInit` succeeded.
///
/// Errors: `NOT_INITIALIZED` before `cuInit` and in the forked child of a process that had called it,
/// `DEINITIALIZED` once the process is exiting.
pub fn client() -> Result<&'static Client, CUresult> {
    match PHASE.load(Ordering::Relaxed) {
        RUNNING => CLIENT.get().ok_or(CUresult::NOT_INITIALIZED),
        FORKED => Err(CUresult::NOT_INITIALIZED),
        _ => Err(CUresult::DEINITIALIZED),
    }
}

/// The client if there is one; for calls that also work without.
pub fn client_if_any() -> Option<&'static Client> {
    client().ok()
}

/// `cuInit`: connects to a worker. A failure is not remembered, the next call tries again.
pub fn initialise() -> Result<(), CUresult> {
    match PHASE.load(Ordering::Relaxed) {
        RUNNING => {}
        FORKED => return Err(CUresult::NOT_INITIALIZED),
        _ => return Err(CUresult::DEINITIALIZED),
    }
    if CLIENT.get().is_some() {
        return Ok(());
    }
    let _one_at_a_time = INITIALISING.lock().unwrap_or_else(PoisonError::into_inner);
    if CLIENT.get().is_some() {
        return Ok(());
    }
    coverage::start();
    // Our copy of the standard library has a hook of its own: the program's is not touched, and a panic of ours
    // is reported by our rules instead of on the program's stderr.
    std::panic::set_hook(Box::new(|panic| report::once(&panic.to_string())));
    let client = connect::connect()?;
    if CLIENT.set(client).is_ok() {
        // SAFETY: both handlers are plain functions that live as long as the library, which is never
        // unloaded (`-z nodelete`).
        unsafe {
            libc::pthread_atfork(None, None, Some(in_forked_child));
            libc::atexit(at_exit);
        }
    }
    Ok(())
}

/// In the child of a fork: only async-signal-safe calls. The socket belongs to the parent.
///
/// A child that forks again comes here again: the descriptor is closed already, and its number may mean a file of
/// the program's by now.
extern "C" fn in_forked_child() {
    if PHASE.swap(FORKED, Ordering::Relaxed) == FORKED {
        return;
    }
    if let Some(client) = CLIENT.get() {
        // SAFETY: the descriptor belongs to the client, which nothing in this process uses any more: every
        // call answers NOT_INITIALIZED from here on, and the client's threads do not exist in the child.
        unsafe { libc::close(client.descriptor()) };
    }
}

extern "C" fn at_exit() {
    if PHASE.compare_exchange(RUNNING, EXITING, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        && let Some(client) = CLIENT.get()
    {
        let _ = std::panic::catch_unwind(|| {
            coverage::finish();
            client.say_goodbye();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    use transport::Socket;
    use wire::handshake::Welcome;

    #[test]
    fn a_grandchild_does_not_close_what_took_the_connections_number() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let connection =
            crate::connection::Connection::start(Socket::from_descriptor(ours.into())).expect("a connection");
        assert!(CLIENT.set(Client::new(connection, "s".into(), Welcome::default())).is_ok());
        let number = CLIENT.get().expect("set just now").descriptor();
        // SAFETY: the child makes async-signal-safe calls only, and leaves by `_exit`.
        let status = unsafe {
            match libc::fork() {
                0 => {
                    in_forked_child();
                    let was_closed = libc::fcntl(number, libc::F_GETFD) == -1;
                    let taken = libc::dup2(2, number) == number;
                    in_forked_child();
                    let stays = libc::fcntl(number, libc::F_GETFD) != -1;
                    libc::_exit(i32::from(!(was_closed && taken && stays)))
                }
                child => {
                    let mut status = -1;
                    assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                    status
                }
            }
        };
        assert_eq!(status, 0);
    }
}
