//! Where this process stands: before `cuInit`, connected, in a forked child, or already exiting.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cuda_abi::CUresult;
use cuda_abi::phase::{Phase, PhaseWord};

use crate::client::Client;
use crate::found::Found;
use crate::servers::{self, Named, Turn};
use crate::{connect, coverage, report, statistics};

static PHASE: PhaseWord = PhaseWord::new();
static FOUND: OnceLock<&'static Found> = OnceLock::new();

/// Held by the thread that asks a client service for a GPU; others that need one meanwhile wait for the same.
static TAKING: Mutex<()> = Mutex::new(());

/// The descriptors of each server's connection and bulk lane, and of the broker, for children.
static DESCRIPTORS: [NotedDescriptor; 1 + 2 * servers::MOST] =
    [const { NotedDescriptor::new() }; 1 + 2 * servers::MOST];

/// A descriptor that a child must not keep.
struct NotedDescriptor {
    /// -1 for none.
    number: AtomicI32,
    /// Where it leads to: a program may have closed it and given its number to a file of its own.
    inode: AtomicU64,
}

impl NotedDescriptor {
    const fn new() -> NotedDescriptor {
        NotedDescriptor { number: AtomicI32::new(-1), inode: AtomicU64::new(0) }
    }

    fn close(&self) {
        let number = self.number.swap(-1, Ordering::Relaxed);
        if number >= 0 && inode(number) == Some(self.inode.load(Ordering::Relaxed)) {
            // SAFETY: the descriptor is the connection's, which nothing in this process uses: every call answers
            // NOT_INITIALIZED, and the client's threads do not exist in a child.
            unsafe { libc::close(number) };
        }
    }
}

/// What a descriptor leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// The first one of a server.
    Control(usize),
    /// The bulk lane of a server.
    Bulk(usize),
    /// The question to a broker.
    Broker,
}

/// How long a thread waits before it looks again whether another one's `cuInit` is done.
const OTHER_START: Duration = Duration::from_millis(1);

/// The client that the call `name` is for, whose arguments name `named`, once `cuInit` succeeded. With a client service the
/// first who asks takes the GPU, and may wait for it; a failure is not remembered.
///
/// Errors: `NOT_INITIALIZED` before `cuInit` and in the forked child of a process that had called it,
/// `DEINITIALIZED` once the process is exiting.
#[inline]
pub fn turn(name: &'static str, named: impl FnOnce() -> Named) -> Result<Turn, CUresult> {
    Turn::of(clients()?, name, named)
}

/// The client of the thread's current context; the first one without a context. Errors: as for [`turn`].
pub fn client() -> Result<&'static Client, CUresult> {
    turn("", servers::none).map(|turn| turn.client)
}

#[inline]
fn clients() -> Result<&'static [Client], CUresult> {
    let clients = servers::clients();
    if PHASE.is_running() && !clients.is_empty() { Ok(clients) } else { taken() }
}

#[cold]
fn taken() -> Result<&'static [Client], CUresult> {
    let found = found()?;
    let _one_at_a_time = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if servers::clients().is_empty() {
        servers::set(vec![connect::take(found).inspect_err(|_| forget_descriptors())?]);
    }
    Ok(servers::clients())
}

/// What this process knows of its GPUs, once `cuInit` succeeded. It takes nothing.
pub fn found() -> Result<&'static Found, CUresult> {
    if PHASE.is_running() {
        return FOUND.get().copied().ok_or(CUresult::NOT_INITIALIZED);
    }
    match PHASE.get() {
        Phase::Exiting => Err(CUresult::DEINITIALIZED),
        Phase::Forked => {
            close_parents_connection();
            Err(CUresult::NOT_INITIALIZED)
        }
        Phase::Idle | Phase::Starting | Phase::Running => Err(CUresult::NOT_INITIALIZED),
    }
}

/// The client of the thread's current context if there is one; for calls that also work without.
pub fn client_if_any() -> Option<&'static Client> {
    found().ok().filter(|_| !servers::clients().is_empty()).and_then(|_| client().ok())
}

/// `cuInit`: connects to a worker, or asks a client service what there is. A failure is not remembered, the next call tries again.
pub fn initialise() -> Result<(), CUresult> {
    watch_children();
    loop {
        match PHASE.get() {
            Phase::Running => return Ok(()),
            Phase::Exiting => return Err(CUresult::DEINITIALIZED),
            Phase::Forked => {
                close_parents_connection();
                return Err(CUresult::NOT_INITIALIZED);
            }
            // No lock: a child that is made meanwhile would find it held by a thread that it does not have.
            Phase::Starting => std::thread::sleep(OTHER_START),
            Phase::Idle => {
                if PHASE.start() {
                    let started = start();
                    PHASE.end_start(started.is_ok());
                    return started;
                }
            }
        }
    }
}

fn start() -> Result<(), CUresult> {
    coverage::start();
    statistics::start();
    // Our copy of the standard library has a hook of its own: the program's is not touched, and a panic of ours
    // is reported by our rules instead of on the program's stderr.
    std::panic::set_hook(Box::new(|panic| report::once(&panic.to_string())));
    let started = std::panic::catch_unwind(connect::start).unwrap_or(Err(CUresult::UNKNOWN));
    let (found, clients) = started.inspect_err(|_| forget_descriptors())?;
    if !clients.is_empty() {
        servers::set(clients);
    }
    if FOUND.set(found).is_ok() {
        // SAFETY: the handler is a plain function that lives as long as the library, which is never unloaded
        // (`-z nodelete`).
        unsafe { libc::atexit(at_exit) };
    }
    Ok(())
}

fn noted(line: Line) -> &'static NotedDescriptor {
    match line {
        Line::Broker => &DESCRIPTORS[0],
        Line::Control(server) => &DESCRIPTORS[1 + 2 * server],
        Line::Bulk(server) => &DESCRIPTORS[2 + 2 * server],
    }
}

/// There is no connection after all: what was noted may mean files of the program's from now on.
fn forget_descriptors() {
    DESCRIPTORS.iter().for_each(|noted| noted.number.store(-1, Ordering::Relaxed));
}

/// Notes the descriptor that a connection is being made on: a child must not keep it.
pub fn note_descriptor(descriptor: &OwnedFd, line: Line) {
    let noted = noted(line);
    noted.inode.store(inode(descriptor.as_raw_fd()).unwrap_or(0), Ordering::Relaxed);
    noted.number.store(descriptor.as_raw_fd(), Ordering::Relaxed);
}

/// Arranges for children, once: before anything exists that a child must not have.
fn watch_children() {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if !WATCHED.swap(true, Ordering::Relaxed) {
        // SAFETY: the handler is a plain function that lives as long as the library.
        unsafe { libc::pthread_atfork(None, None, Some(in_forked_child)) };
    }
}

/// In the child of a fork: only async-signal-safe calls.
extern "C" fn in_forked_child() {
    PHASE.forked();
    if PHASE.get() == Phase::Forked {
        coverage::stop();
        close_parents_connection();
    }
}

/// The sockets belong to the parent, whose end must be seen at the other end. Closed once: their numbers may mean
/// files of the program's afterwards.
fn close_parents_connection() {
    DESCRIPTORS.iter().for_each(NotedDescriptor::close);
}

fn inode(descriptor: RawFd) -> Option<u64> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the place is valid, and read only when it was filled.
    unsafe { (libc::fstat(descriptor, status.as_mut_ptr()) == 0).then(|| status.assume_init().st_ino) }
}

/// The process is about to be ended from in here: what it runs at its exit hears of it from every call, and waits for none
/// of the locks that this thread holds.
pub fn leave() {
    PHASE.exit_from_start();
    at_exit();
}

extern "C" fn at_exit() {
    if !PHASE.exit() {
        return;
    }
    let _ = std::panic::catch_unwind(coverage::finish);
    let clients = servers::clients();
    if !clients.is_empty() {
        let _ = std::panic::catch_unwind(|| {
            statistics::finish(clients);
            clients.iter().for_each(Client::say_goodbye);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    /// Asks in a forked child, which leaves by `_exit`.
    fn in_child(question: impl Fn() -> bool) -> bool {
        // SAFETY: the child makes async-signal-safe calls only.
        unsafe {
            match libc::fork() {
                0 => libc::_exit(i32::from(question())),
                child => {
                    let mut status = -1;
                    assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                    libc::WEXITSTATUS(status) == 1
                }
            }
        }
    }

    fn is_open(number: RawFd) -> bool {
        // SAFETY: asks about a number.
        unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
    }

    #[test]
    fn a_child_closes_the_connection_once_and_nothing_that_took_its_number() {
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        let ours = OwnedFd::from(ours);
        let number = ours.as_raw_fd();
        assert!(PHASE.start());
        note_descriptor(&ours, Line::Bulk(0));
        PHASE.end_start(true);
        assert!(in_child(|| {
            in_forked_child();
            let was_closed = !is_open(number);
            // SAFETY: 2 is open, and nobody needs what `number` means here.
            let taken = unsafe { libc::dup2(2, number) } == number;
            in_forked_child();
            was_closed && taken && is_open(number)
        }));
        assert!(in_child(|| {
            // A parent whose program gave the number to a file of its own.
            // SAFETY: as above.
            let taken = unsafe { libc::dup2(2, number) } == number;
            in_forked_child();
            taken && is_open(number)
        }));
    }
}
