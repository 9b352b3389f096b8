//! What the service thread does and is asked about: callbacks, and copies under way that nobody waits for.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wire::notice::Callback;

use super::receiving::Incoming;
use super::{Connection, lock, wait};

/// How often the service thread looks after copies under way that nobody waits for.
const LOOK_AFTER: Duration = Duration::from_millis(1);

/// How long it waits for something to arrive while such a copy is under way.
const ARRIVAL: Duration = Duration::from_millis(20);

/// Looks without a copy under way after which it sleeps until it is woken: programs that copy in a loop need not wake it
/// for each copy.
const IDLE_LOOKS: u32 = 20;

impl Connection {
    /// Keeps [`Connection::awaits_any`] true to what is awaited; called whenever that has changed.
    pub(super) fn note_awaited(&self, incoming: &Incoming) {
        let any = !incoming.downloads.is_empty() || !incoming.outstanding.is_empty();
        self.awaits_any.store(any, Ordering::Release);
    }

    fn awaits_any(&self) -> bool {
        self.awaits_any.load(Ordering::Acquire)
    }

    /// Waits a while for what is to arrive next.
    fn wait_for_arrival(&self) {
        let lane = self.bulk.lane().filter(|_| self.bulk.is_behind());
        lane.unwrap_or(&self.lane).wait_for_arrival(ARRIVAL);
    }

    /// Whether copies under way will write into the `length` bytes at `start`.
    pub fn has_downloads(&self, start: usize, length: usize) -> bool {
        if !self.awaits_any() {
            return false;
        }
        let incoming = lock(&self.incoming);
        let end = start.saturating_add(length);
        incoming.downloads.values().any(|range| range.start < end && start < range.end)
    }

    /// Whether any copies under way will write memory of this process.
    pub fn has_any_downloads(&self) -> bool {
        self.awaits_any() && !lock(&self.incoming).downloads.is_empty()
    }

    /// Notes that a callback was asked for; the service thread looks out for it from now on.
    pub fn expect_callback(&self, token: u64) {
        let mut incoming = lock(&self.incoming);
        incoming.outstanding.insert(token);
        self.note_awaited(&incoming);
        drop(incoming);
        self.service_wakes.notify_one();
    }

    /// Whether callbacks were asked for that are not done.
    pub fn has_callbacks(&self) -> bool {
        self.awaits_any() && !lock(&self.incoming).outstanding.is_empty()
    }

    /// Notes that a callback was done, or will never come.
    pub fn callback_done(&self, token: u64) {
        let mut incoming = lock(&self.incoming);
        incoming.outstanding.remove(&token);
        self.note_awaited(&incoming);
        drop(incoming);
        self.reply_arrived.notify_all();
    }

    /// Those of `tokens` whose streams have not got there: the service thread has not been told of them.
    pub fn not_reached(&self, tokens: &[u64]) -> Vec<u64> {
        let incoming = lock(&self.incoming);
        let has_arrived = |token: u64| incoming.callbacks.iter().any(|callback| callback.token == token);
        tokens.iter().copied().filter(|token| !has_arrived(*token)).collect()
    }

    /// Hands a callback to the service thread whose stream ended with `code` before it got there.
    pub fn call_back(&self, token: u64, code: i32) {
        lock(&self.incoming).callbacks.push_back(Callback { token, code });
        self.service_wakes.notify_one();
    }

    /// Waits until none of `tokens` is under way.
    pub fn wait_for_callbacks(&self, tokens: &[u64]) {
        let mut incoming = lock(&self.incoming);
        while self.lost.get().is_none() && tokens.iter().any(|token| incoming.outstanding.contains(token)) {
            incoming = wait(&self.reply_arrived, incoming);
        }
    }

    /// The next thing that a stream waits for; `None` once the connection is lost. Called by the service thread
    /// alone, which reads the socket itself when nobody else does: at once while callbacks are awaited, else where a copy
    /// is under way for a while, as a program may look at its memory instead of asking CUDA.
    pub fn next_callback(&self) -> Option<Callback> {
        let mut incoming = lock(&self.incoming);
        let mut idle_looks = IDLE_LOOKS;
        let mut seen = None;
        loop {
            if let Some(callback) = incoming.callbacks.pop_front() {
                return Some(callback);
            }
            if self.lost.get().is_some() {
                return None;
            }
            if !incoming.reading && !incoming.outstanding.is_empty() {
                incoming.reading = true;
                drop(incoming);
                incoming = self.read_for_all();
                continue;
            }
            if incoming.downloads.is_empty() {
                idle_looks += 1;
            } else {
                idle_looks = 0;
            }
            if idle_looks > IDLE_LOOKS {
                incoming.service_sleeps = true;
                incoming = wait(&self.service_wakes, incoming);
                incoming.service_sleeps = false;
                idle_looks = IDLE_LOOKS;
                continue;
            }
            let is_old = seen.is_some_and(|number| incoming.downloads.contains_key(&number));
            if is_old && !incoming.reading {
                drop(incoming);
                self.look();
                if self.has_any_downloads() && !lock(&self.incoming).reading {
                    self.wait_for_arrival();
                    self.look();
                }
                incoming = lock(&self.incoming);
            }
            seen = incoming.downloads.keys().next().copied();
            incoming = self
                .service_wakes
                .wait_timeout(incoming, LOOK_AFTER)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}
