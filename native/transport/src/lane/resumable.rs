//! A lane that outlives its connections: bytes are kept until the other end has read them, and sent again on the next
//! connection from where it stands.
//!
//! Locks, in the order in which they are taken: `receiving`, `sending`, `state`. While one end waits for a new connection
//! it may hold `sending`; others only try that lock. [`State::version`] tells whoever has cached a connection to look again.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::link::Link;
use super::opening::Refusal;
use super::receiving::Receiving;
use super::sending::Sending;
use super::silence::{Advice, Silence};
use super::{Attempt, Dial};

/// `CUDA_ERROR_SYSTEM_NOT_READY`: a refusal that may not be the last word.
const NOT_READY: i32 = 802;

/// Pause after the first attempt to connect that failed; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long one attempt may take, and a part of the time of grace that it takes at most: a line may swallow one.
const ATTEMPT: Duration = Duration::from_secs(5);
const ATTEMPT_PART: u32 = 4;
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(500);

/// How long a thread that waits sleeps at most before it looks again.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Which end this is.
pub(super) enum Role {
    /// Makes new connections.
    Client(Dial),
    /// Waits for them; the function is called when one comes or goes.
    Worker(Box<dyn Fn() + Send + Sync>),
}

/// The lane; see the module's text.
pub struct Resumable {
    pub(super) role: Role,
    pub(super) grace: Duration,
    state: Mutex<State>,
    changed: Condvar,
    /// Changes whenever `state` does.
    version: AtomicU64,
    pub(super) sending: Mutex<Sending>,
    pub(super) receiving: Mutex<Receiving>,
    /// How far the other end has read.
    pub(super) acknowledged: AtomicU64,
    /// How far this end has read and is to say so; 0 for nothing to say.
    pub(super) acknowledgement_due: AtomicU64,
    pub(super) ping_due: AtomicBool,
    pub(super) pong_due: AtomicBool,
    /// Something is to be written that the connection did not take.
    pub(super) has_backlog: AtomicBool,
    /// Something came since the last look.
    pub(super) has_heard: AtomicBool,
    /// Bytes are there that nobody has read.
    pub(super) has_ready: AtomicBool,
    /// Milliseconds that a send and a receive may take; 0 for no limit.
    pub(super) send_limit: AtomicU64,
    pub(super) receive_limit: AtomicU64,
}

struct State {
    link: Option<Arc<Link>>,
    /// How many connections there were.
    generation: u64,
    /// How far the other end had read when the present connection began.
    peer_received: u64,
    ended: Option<End>,
    /// Since when there is no connection, and why.
    broken: Option<(Instant, String)>,
    is_dialing: bool,
    silence: Silence,
}

#[derive(Debug, Clone)]
enum End {
    Closed,
    Refused(Refusal),
    Lost(String),
}

impl End {
    fn error(&self) -> io::Error {
        match self {
            End::Closed => io::ErrorKind::BrokenPipe.into(),
            End::Refused(refusal) => io::Error::new(io::ErrorKind::ConnectionRefused, refusal.clone()),
            End::Lost(reason) => io::Error::new(io::ErrorKind::ConnectionAborted, reason.clone()),
        }
    }
}

/// A connection as one direction has cached it.
#[derive(Debug, Default)]
pub(super) struct Cached {
    version: u64,
    generation: u64,
    link: Option<Arc<Link>>,
}

impl Cached {
    pub(super) fn link(&self) -> Option<&Arc<Link>> {
        self.link.as_ref()
    }
}

/// What [`Resumable::refresh`] found.
pub(super) enum Present {
    /// The same connection as before.
    Same(Arc<Link>),
    /// Another one; the other end had read so far when it began.
    Other(Arc<Link>, u64),
    /// None.
    Broken,
}

impl std::fmt::Debug for Resumable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Resumable").field("grace", &self.grace).finish_non_exhaustive()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The state behind these locks is valid between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Resumable {
    pub(super) fn new(role: Role, grace: Duration, link: Link) -> Resumable {
        Resumable {
            role,
            grace,
            state: Mutex::new(State {
                link: Some(Arc::new(link)),
                generation: 1,
                peer_received: 0,
                ended: None,
                broken: None,
                is_dialing: false,
                silence: Silence::new(Instant::now(), grace),
            }),
            changed: Condvar::new(),
            version: AtomicU64::new(1),
            sending: Mutex::default(),
            receiving: Mutex::default(),
            acknowledged: AtomicU64::new(0),
            acknowledgement_due: AtomicU64::new(0),
            ping_due: AtomicBool::new(false),
            pong_due: AtomicBool::new(false),
            has_backlog: AtomicBool::new(false),
            has_heard: AtomicBool::new(false),
            has_ready: AtomicBool::new(false),
            send_limit: AtomicU64::new(0),
            receive_limit: AtomicU64::new(0),
        }
    }

    /// The present connection; an error when the lane has ended.
    pub(super) fn refresh(&self, cached: &mut Cached) -> io::Result<Present> {
        if cached.version == self.version.load(Ordering::Acquire)
            && let Some(link) = &cached.link
        {
            return Ok(Present::Same(Arc::clone(link)));
        }
        let state = lock(&self.state);
        if let Some(end) = &state.ended {
            return Err(end.error());
        }
        cached.version = self.version.load(Ordering::Acquire);
        cached.link = state.link.clone();
        let Some(link) = &state.link else { return Ok(Present::Broken) };
        if cached.generation == state.generation {
            return Ok(Present::Same(Arc::clone(link)));
        }
        cached.generation = state.generation;
        Ok(Present::Other(Arc::clone(link), state.peer_received))
    }

    /// Whether `cached` may be out of date.
    pub(super) fn has_changed(&self, cached: &Cached) -> bool {
        cached.version != self.version.load(Ordering::Acquire)
    }

    /// The present connection, if there is one.
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        lock(&self.state).link.clone()
    }

    fn change(&self, mut state: MutexGuard<'_, State>, change: impl FnOnce(&mut State)) {
        change(&mut state);
        self.version.fetch_add(1, Ordering::AcqRel);
        drop(state);
        self.changed.notify_all();
        if let Role::Worker(tell) = &self.role {
            tell();
        }
    }

    /// The connection `link` does not work any more. Another one that took its place is left alone.
    pub(super) fn broken(&self, link: &Arc<Link>, error: &io::Error) {
        self.broken_for(link, error, Duration::ZERO);
    }

    /// It has not worked for a while.
    fn broken_for(&self, link: &Arc<Link>, error: &io::Error, time: Duration) {
        let state = lock(&self.state);
        if state.link.as_ref().is_some_and(|present| Arc::ptr_eq(present, link)) {
            link.socket().shutdown();
            let reason = match error.kind() {
                io::ErrorKind::UnexpectedEof => "the other end closed it".to_owned(),
                _ => error.to_string(),
            };
            self.change(state, |state| {
                state.link = None;
                let now = Instant::now();
                state.broken = Some((now.checked_sub(time).unwrap_or(now), reason));
            });
        }
    }

    /// The other end says what no honest one would: nothing can be resumed.
    pub(super) fn fail(&self, reason: String) -> io::Error {
        let end = End::Lost(reason);
        let error = end.error();
        self.end(end);
        error
    }

    fn end(&self, end: End) {
        let state = lock(&self.state);
        if let Some(link) = &state.link {
            link.socket().shutdown();
        }
        self.change(state, |state| {
            state.link = None;
            state.ended.get_or_insert(end);
        });
    }

    /// The other end closed in order.
    pub(super) fn closed(&self) {
        self.end(End::Closed);
    }

    /// Ends the lane and tells the other end, as far as it takes the word at once.
    pub fn shutdown(&self) {
        if lock(&self.state).ended.is_none()
            && let Ok(mut sending) = self.sending.try_lock()
        {
            self.send_close(&mut sending);
        }
        self.end(End::Closed);
    }

    /// Why the lane has ended, if it has; a worker's has also ended when nobody came back in time.
    pub fn is_over(&self) -> bool {
        let state = lock(&self.state);
        let is_late = |(since, _): &(Instant, String)| {
            matches!(self.role, Role::Worker(_)) && since.elapsed() >= self.grace
        };
        state.ended.is_some() || state.broken.as_ref().is_some_and(is_late)
    }

    /// Waits for a connection, `time` at most; the client's end makes one. An error when the lane has ended.
    pub(super) fn wait_for_link(&self, time: Duration) -> io::Result<()> {
        let mut state = lock(&self.state);
        if let Some(end) = &state.ended {
            return Err(end.error());
        }
        if state.link.is_some() {
            return Ok(());
        }
        let since = state.broken.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        match &self.role {
            Role::Worker(_) => {
                let left = self.grace.saturating_sub(since.elapsed());
                if left.is_zero() {
                    drop(state);
                    return Err(self.fail("the client did not come back in time".into()));
                }
                drop(self.changed.wait_timeout(state, left.min(time)));
                Ok(())
            }
            Role::Client(_) if state.is_dialing => {
                drop(self.changed.wait_timeout(state, time));
                Ok(())
            }
            Role::Client(dial) => {
                state.is_dialing = true;
                drop(state);
                self.dial(dial, since);
                Ok(())
            }
        }
    }

    /// Connects again and again until it works, or the time of grace is over.
    fn dial(&self, dial: &Dial, since: Instant) {
        let mut pause = FIRST_PAUSE;
        loop {
            // Nobody reads the old connection any more, so this does not change until the new one is there.
            let received = lock(&self.receiving).received();
            let left = self.grace.saturating_sub(since.elapsed());
            let time = left.min(ATTEMPT).min(self.grace / ATTEMPT_PART).max(SHORTEST_ATTEMPT);
            let error = match dial(Attempt { received, time }) {
                Ok((link, peer_received)) => return self.attach(link, peer_received),
                Err(error) => error,
            };
            let refusal = error.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>());
            if let Some(refusal) = refusal.filter(|refusal| refusal.code != NOT_READY) {
                return self.end(End::Refused(refusal.clone()));
            }
            let state = lock(&self.state);
            if state.ended.is_some() {
                return;
            }
            if since.elapsed() >= self.grace {
                let why =
                    state.broken.as_ref().map_or_else(String::new, |(_, why)| format!("; it broke: {why}"));
                let reason = format!(
                    "no connection for {} s, the longest that this session waits ({error}{why})",
                    since.elapsed().as_secs()
                );
                drop(state);
                return self.end(End::Lost(reason));
            }
            let wait = self.changed.wait_timeout(state, pause);
            if wait.unwrap_or_else(PoisonError::into_inner).0.ended.is_some() {
                return;
            }
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// Goes on with another connection, whose other end had read up to `peer_received`.
    pub(super) fn attach(&self, link: Link, peer_received: u64) {
        let state = lock(&self.state);
        if state.ended.is_some() {
            link.socket().shutdown();
            return;
        }
        if let Some(old) = &state.link {
            old.socket().shutdown();
        }
        self.change(state, |state| {
            state.link = Some(Arc::new(link));
            state.generation += 1;
            state.peer_received = peer_received;
            state.broken = None;
            state.is_dialing = false;
            state.silence = Silence::new(Instant::now(), self.grace);
        });
        // What the old connection lost nobody else may be about to send: both ends may be waiting for each other.
        self.has_backlog.store(true, Ordering::SeqCst);
        self.send_words_now();
        if let Role::Worker(tell) = &self.role
            && self.has_backlog()
        {
            tell();
        }
    }

    /// A client connects anew: gives the old connection up, and answers how far its stream was read.
    pub(super) fn detach(&self) -> u64 {
        if let Some(link) = self.link() {
            self.broken(&link, &io::Error::other("the client connects anew"));
        }
        lock(&self.receiving).received()
    }

    /// Looks whether the other end still lives. Called about every second by whoever waits; without a connection a client's
    /// end makes one here.
    pub fn look(&self) {
        let Role::Client(_) = &self.role else { return };
        // An answer to a probe is among what nobody waits for.
        self.take_arrived();
        let mut state = lock(&self.state);
        if state.ended.is_some() {
            return;
        }
        let Some(link) = state.link.clone() else {
            drop(state);
            // The error is met by whoever uses the lane next.
            let _ = self.wait_for_link(LOOK_EVERY);
            return;
        };
        if self.has_backlog() {
            drop(state);
            self.send_words_now();
            state = lock(&self.state);
        }
        let heard = self.has_heard.swap(false, Ordering::AcqRel);
        let advice = state.silence.look(Instant::now(), heard);
        let silent = state.silence.length();
        drop(state);
        match advice {
            Advice::Wait => {}
            Advice::Probe => {
                self.ping_due.store(true, Ordering::Release);
                self.send_words_now();
            }
            Advice::GiveUp => {
                let reason = format!("it was silent for {:.1} s", silent.as_secs_f64());
                let error = io::Error::new(io::ErrorKind::TimedOut, reason);
                self.broken_for(&link, &error, silent);
                // At once: the worker may have been waiting since the silence began.
                let _ = self.wait_for_link(LOOK_EVERY);
            }
        }
    }

    /// Takes what has arrived at a worker's end, for whoever receives next, who is told.
    pub fn listen(&self) {
        let Role::Worker(tell) = &self.role else { return };
        if self.take_arrived().is_some() && self.has_ready.load(Ordering::Acquire) {
            tell();
        }
    }

    /// Tells those who wait for room that the other end has read on.
    pub(super) fn notify(&self) {
        // Under the lock, so that nobody misses it between a look and a sleep.
        drop(lock(&self.state));
        self.changed.notify_all();
    }

    /// Sleeps until something changes, `time` at most.
    pub(super) fn sleep(&self, time: Duration, is_still_so: impl Fn() -> bool) {
        let state = lock(&self.state);
        if is_still_so() {
            drop(self.changed.wait_timeout(state, time));
        }
    }
}
