//! Waits for descriptors in one thread: a pidfd becomes readable when its process has ended, a socket when there is
//! something to read or room to write.
//!
//! Each watch tells once. The thread starts with the first watch and then sleeps in the kernel for as long as nothing
//! happens; it holds duplicates, so what JavaScript closes meanwhile is not missed and never mistaken for another.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::event::epoll;
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use crate::error::{Explain, Result};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Something to read, the end of a connection, or of a pidfd's process.
    Readable,
    /// Room to write, or the end of a connection.
    Writable,
}

/// What is done then, in the watching thread: it must not block.
type Then = Box<dyn FnOnce() + Send>;

struct Watched {
    descriptor: OwnedFd,
    then: Then,
}

struct Watcher {
    epoll: OwnedFd,
    /// By the number under which JavaScript and the kernel know them; none is used twice.
    watched: Mutex<(u64, HashMap<u64, Watched>)>,
}

/// Events taken from the kernel at once.
const BATCH: usize = 64;

/// Calls `then` once when `descriptor` is ready, unless `stop` was called with the number that this returns.
pub(crate) fn start(descriptor: BorrowedFd<'_>, interest: Interest, then: Then) -> Result<u64> {
    let watcher = watcher()?;
    let duplicate = fcntl_dupfd_cloexec(descriptor, 3).explain(|| "a descriptor cannot be duplicated")?;
    let flags = epoll::EventFlags::ONESHOT
        | match interest {
            Interest::Readable => epoll::EventFlags::IN,
            Interest::Writable => epoll::EventFlags::OUT,
        };
    let mut watched = watcher.lock();
    watched.0 += 1;
    let number = watched.0;
    // Under the lock: the thread may hear of it at once, and must find it.
    epoll::add(&watcher.epoll, &duplicate, epoll::EventData::new_u64(number), flags)
        .explain(|| "a descriptor cannot be waited for")?;
    watched.1.insert(number, Watched { descriptor: duplicate, then });
    Ok(number)
}

/// Forgets a watch; one that has told already is none.
pub(crate) fn stop(number: u64) {
    let watcher = *WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(watcher) = watcher {
        drop(watcher.take(number));
    }
}

/// The one of this process, however many environments of Node have loaded the add-on; it stays.
static WATCHER: Mutex<Option<&'static Watcher>> = Mutex::new(None);

fn watcher() -> Result<&'static Watcher> {
    let mut started = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(watcher) = *started {
        return Ok(watcher);
    }
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).explain(|| "no epoll descriptor")?;
    let watcher = Arc::new(Watcher { epoll, watched: Mutex::new((0, HashMap::new())) });
    let runs = Arc::clone(&watcher);
    thread::Builder::new()
        .name("farpool-os".into())
        // It calls no program's code.
        .stack_size(128 * 1024)
        .spawn(move || runs.run())
        .explain(|| "no thread to wait in")?;
    let watcher: &'static Arc<Watcher> = Box::leak(Box::new(watcher));
    *started = Some(watcher);
    Ok(watcher)
}

impl Watcher {
    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, HashMap<u64, Watched>)> {
        // Nothing is ever half done under the lock.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, number: u64) -> Option<Then> {
        let Watched { descriptor, then } = self.lock().1.remove(&number)?;
        // Closing is not enough: the open file lives on in the descriptor that was duplicated.
        let _ = epoll::delete(&self.epoll, &descriptor);
        Some(then)
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(BATCH);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                // An epoll descriptor that somebody closed: there is nothing left to wait for.
                Err(_) => return,
            }
            for event in &events {
                if let Some(then) = self.take(event.data.u64()) {
                    then();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};
    use std::sync::mpsc;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn each_process_that_ends_is_told_once() {
        let (told, hears) = mpsc::channel();
        let mut children: Vec<_> =
            (0..20).map(|_| Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap()).collect();
        for child in &children {
            let pid = i32::try_from(child.id()).unwrap();
            let pidfd = crate::process::pidfd_of(pid).unwrap();
            let told = told.clone();
            start(pidfd.as_fd(), Interest::Readable, Box::new(move || told.send(pid).unwrap())).unwrap();
        }

        for child in children.iter_mut().rev() {
            child.kill().unwrap();
            let pid = hears.recv_timeout(LONG).unwrap();
            assert_eq!(pid, i32::try_from(child.id()).unwrap());
            child.wait().unwrap();
        }
        assert!(hears.try_recv().is_err());
    }

    #[test]
    fn a_watch_that_was_stopped_tells_nothing() {
        let (told, hears) = mpsc::channel();
        let (one, mut other) = UnixStream::pair().unwrap();
        let watch = |name: &'static str| {
            let told = told.clone();
            start(one.as_fd(), Interest::Readable, Box::new(move || told.send(name).unwrap())).unwrap()
        };
        let stopped = watch("stopped");
        watch("watched");

        stop(stopped);
        stop(stopped);
        other.write_all(b"x").unwrap();

        assert_eq!(hears.recv_timeout(LONG).unwrap(), "watched");
        assert!(hears.recv_timeout(Duration::from_millis(50)).is_err());
    }

    #[test]
    fn what_cannot_be_waited_for_is_refused() {
        let folder = std::fs::File::open("/").unwrap();

        let error = start(folder.as_fd(), Interest::Readable, Box::new(|| ())).unwrap_err();

        assert_eq!(error.errno, Errno::PERM);
    }
}
