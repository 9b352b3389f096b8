//! The connection of this process to its worker.

mod bulk;
mod destination;
mod detached;
mod lending;
mod loss;
mod receive_buffer;
mod receiving;
mod sending;
mod service;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use session::ReplyHead;
use transport::Lane;
use wire::CallId;

use self::bulk::Bulk;
use self::receive_buffer::ReceiveBuffer;
use self::receiving::Incoming;
use self::sending::Outgoing;
use crate::fences::Fences;
use crate::progress::Timelines;

pub use self::bulk::{Explain, Opener};
pub use self::destination::Destination;
pub use self::detached::Detached;
pub use self::lending::{Data, Lending};
pub use self::loss::Loss;
pub use self::sending::last_number;

/// A reply: its head, and its payload after the head (empty where it went to a [`Destination`]).
#[derive(Debug)]
pub struct ReplyRecord {
    /// Result and deferred error.
    pub head: ReplyHead,
    /// The rest of the payload.
    pub body: Vec<u8>,
}

/// Counts that `farpool run` shows at the end and that tests compare.
#[derive(Debug, Default)]
pub struct Counters {
    /// Calls for which a thread waited for the worker.
    pub round_trips: AtomicU64,
    /// The same by call.
    pub waits: Mutex<BTreeMap<CallId, u64>>,
}

/// The connection; see the module's text.
#[derive(Debug)]
pub struct Connection {
    this: Weak<Connection>,
    lane: Lane,
    bulk: Bulk,
    outgoing: Mutex<Outgoing>,
    writer_wakes: Condvar,
    sender_done: Condvar,
    incoming: Mutex<Incoming>,
    reply_arrived: Condvar,
    service_wakes: Condvar,
    stream: Mutex<ReceiveBuffer>,
    lost: OnceLock<Loss>,
    /// How far the streams have got.
    pub timelines: Timelines,
    /// Errors of replies that nobody waited for.
    pub detached: Detached,
    /// What was counted so far.
    pub counters: Counters,
    /// Whether copies under way will write memory of the program, or callbacks are awaited: asked before every copy.
    awaits_any: AtomicBool,
    /// Fences that were sent, and which of them are reached.
    pub fences: Fences,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic is caught at the `extern "C"` boundary; the state behind these locks is valid between any two
    // statements, so a poisoned lock is as good as any.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Takes over a lane that a worker has the other end of, and starts the writer thread. `opener` opens a second one.
    pub fn start(lane: Lane, opener: Option<Opener>) -> io::Result<Arc<Connection>> {
        let connection = Arc::new_cyclic(|this| Connection {
            this: Weak::clone(this),
            lane,
            bulk: Bulk::new(opener),
            outgoing: Mutex::default(),
            writer_wakes: Condvar::new(),
            sender_done: Condvar::new(),
            incoming: Mutex::default(),
            reply_arrived: Condvar::new(),
            service_wakes: Condvar::new(),
            stream: Mutex::default(),
            lost: OnceLock::new(),
            timelines: Timelines::default(),
            detached: Detached::default(),
            counters: Counters::default(),
            awaits_any: AtomicBool::new(false),
            fences: Fences::default(),
        });
        let writer = Arc::clone(&connection);
        crate::thread::spawn("farpool-writer", move || writer.write_forever())?;
        Ok(connection)
    }

    /// The server has answered: from now on it may take as long as its GPUs do.
    pub fn greeted(&self) {
        self.lane.limit_receiving(None);
    }

    /// Ends the connection; every later call fails with `loss`. No lock may be held: a waiter checks for the loss
    /// under its lock before it sleeps, and taking both locks here closes the gap between check and sleep.
    pub fn lose(&self, loss: Loss) {
        if self.lost.set(loss).is_ok() {
            self.lane.shutdown();
            self.bulk.shutdown();
        }
        drop(lock(&self.outgoing));
        drop(lock(&self.incoming));
        self.writer_wakes.notify_all();
        self.sender_done.notify_all();
        self.reply_arrived.notify_all();
        self.service_wakes.notify_all();
    }

    /// Why it was lost, if it was.
    pub fn loss(&self) -> Option<&Loss> {
        self.lost.get()
    }

    /// The lane is of no use any more: finds out why, where its end says only that it is one, and ends the connection.
    /// Answers what later calls are told, too.
    fn fall(&self, loss: Loss) -> Loss {
        let known = self.lost.get().cloned();
        let loss = known.unwrap_or_else(|| match loss {
            Loss::Io(text) => self.bulk.explain().map_or(Loss::Io(text), Loss::from),
            other => other,
        });
        self.lose(loss.clone());
        loss
    }

    fn check(&self) -> Result<(), Loss> {
        match self.lost.get() {
            Some(loss) => Err(loss.clone()),
            None => Ok(()),
        }
    }
}
