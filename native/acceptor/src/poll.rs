//! `epoll`, tokens and timers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

pub(crate) use rustix::event::epoll::EventFlags;

/// Names a source of events, or what a timer is about; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token(u64);

/// What happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) token: Token,
    pub(crate) flags: EventFlags,
}

/// Events taken at once; a batch is handled before the next look at the clock.
const BATCH: usize = 64;

/// The loop's eyes and clock. `T` is what a timer means.
pub(crate) struct Poller<T> {
    epoll: OwnedFd,
    next_token: u64,
    timers: BinaryHeap<Reverse<(Instant, u64, T)>>,
    batch: Vec<epoll::Event>,
}

impl<T: Ord> Poller<T> {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Poller {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            next_token: 0,
            timers: BinaryHeap::new(),
            batch: Vec::with_capacity(BATCH),
        })
    }

    pub(crate) fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// Watches `source` (level-triggered) under a new token.
    pub(crate) fn add(&mut self, source: impl AsFd, flags: EventFlags) -> std::io::Result<Token> {
        let token = self.token();
        epoll::add(&self.epoll, source, epoll::EventData::new_u64(token.0), flags)?;
        Ok(token)
    }

    /// Changes what is watched of `source`.
    pub(crate) fn modify(&self, source: impl AsFd, token: Token, flags: EventFlags) -> std::io::Result<()> {
        Ok(epoll::modify(&self.epoll, source, epoll::EventData::new_u64(token.0), flags)?)
    }

    /// Stops watching. Closing a descriptor is not enough where another process has the same open file (a
    /// socket that was passed to a worker): `epoll` would go on reporting it.
    pub(crate) fn remove(&self, source: impl AsFd) {
        if let Err(error) = epoll::delete(&self.epoll, source) {
            tracing::error!(%error, "cannot stop watching a descriptor");
        }
    }

    pub(crate) fn after(&mut self, delay: Duration, timer: T) {
        self.next_token += 1;
        self.timers.push(Reverse((Instant::now() + delay, self.next_token, timer)));
    }

    /// A timer that is due, if any.
    pub(crate) fn due(&mut self) -> Option<T> {
        let Reverse((moment, _, _)) = self.timers.peek()?;
        if *moment > Instant::now() {
            return None;
        }
        self.timers.pop().map(|Reverse((_, _, timer))| timer)
    }

    /// Waits until something happens or a timer is due.
    pub(crate) fn wait(&mut self) -> std::io::Result<Vec<Ready>> {
        let timeout = self.timers.peek().map(|Reverse((moment, _, _))| {
            let rest = moment.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: rest.subsec_nanos().into(),
            }
        });
        self.batch.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.batch), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self
            .batch
            .iter()
            .map(|event| Ready { token: Token(event.data.u64()), flags: event.flags })
            .collect())
    }
}
