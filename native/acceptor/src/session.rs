//! A session as the acceptor holds it: who may come in, which slots of the ledger are taken, which workers
//! live and which have ended.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::process::Child;

use ledger::{Ledger, LedgerError};
use rustix::process::Signal;
use serde_json::Value;

use crate::poll::Token;
use crate::protocol::{Gpu, SessionId, SessionSpec};
use crate::worker_protocol::WorkerView;
use crate::workers_folder::{FileId, file_id};

/// Ended workers that a session remembers, the latest ones. A job that starts a process per second for
/// hours must not grow the acceptor; an agent that is subscribed misses none.
const MAX_ENDED: usize = 1024;

pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) gpus: Vec<Gpu>,
    /// As an agent has opened it; a session of an earlier acceptor waits for that.
    pub(crate) opened: Option<SessionSpec>,
    /// None as long as no worker of an earlier acceptor has brought it.
    ledger: Option<(Ledger, OwnedFd)>,
    pub(crate) workers: BTreeSet<Token>,
    pub(crate) closing: Option<Closing>,
    taken: Vec<bool>,
    ended: VecDeque<WorkerView>,
}

/// A session that ends.
pub(crate) struct Closing {
    pub(crate) reason: String,
    /// Control connections that wait for the end, with the ids of their requests.
    pub(crate) waiting: Vec<(Token, Value)>,
}

/// A living worker.
pub(crate) struct Worker {
    pub(crate) session: SessionId,
    pub(crate) slot: u32,
    /// None for a worker of an earlier acceptor.
    pub(crate) child: Option<Child>,
    /// Readable when the worker has ended, with its token; none until a worker of an earlier acceptor has said who it is.
    pub(crate) pidfd: Option<(Token, OwnedFd)>,
    /// Our end of the control socket, and its token, until the worker closes its own.
    pub(crate) control: Option<(Token, OwnedFd)>,
    pub(crate) view: WorkerView,
    /// Which file the session's ledger is, for a worker that is to bring it.
    pub(crate) ledger: Option<FileId>,
    /// What it is to be sent as soon as it is known who it is.
    pub(crate) doom: Option<Signal>,
    /// One complaint per worker is enough for the log.
    pub(crate) has_sent_nonsense: bool,
}

impl Session {
    /// As an agent opens it.
    pub(crate) fn new(spec: SessionSpec, slots: u32) -> Result<Session, LedgerError> {
        let ledger = create_ledger(&spec.gpus, slots)?;
        let mut session = Session::left(spec.id.clone(), spec.gpus.clone(), slots);
        session.ledger = Some(ledger);
        session.opened = Some(spec);
        Ok(session)
    }

    /// As an earlier acceptor has left it.
    pub(crate) fn left(id: SessionId, gpus: Vec<Gpu>, slots: u32) -> Session {
        let (workers, ended) = (BTreeSet::new(), VecDeque::new());
        let taken = vec![false; slots as usize];
        Session { id, gpus, opened: None, ledger: None, workers, closing: None, taken, ended }
    }

    /// The ledger for a new worker; none while a worker of an earlier acceptor has yet to bring it.
    pub(crate) fn ledger(&mut self) -> Result<Option<&OwnedFd>, LedgerError> {
        if self.ledger.is_none() && self.workers.is_empty() {
            self.ledger = Some(create_ledger(&self.gpus, self.slots())?);
        }
        Ok(self.ledger.as_ref().map(|(_, descriptor)| descriptor))
    }

    /// A worker of an earlier acceptor brings the ledger that it shares with the session's others. Answers whether it is
    /// the first to do so.
    pub(crate) fn bring_ledger(&mut self, descriptor: OwnedFd, expected: FileId) -> anyhow::Result<bool> {
        if self.ledger.is_some() {
            return Ok(false);
        }
        // A worker in the wrong hands must not widen its session's limits.
        let given = file_id(&descriptor)?;
        anyhow::ensure!(given == expected, "it is file {given:?}, expected {expected:?}");
        let ledger = Ledger::open(&descriptor)?;
        anyhow::ensure!(
            ledger.slots() == self.slots(),
            "it has {} slots, expected {}",
            ledger.slots(),
            self.slots()
        );
        // Of workers that ended while there was no acceptor.
        for (slot, taken) in (0..).zip(&self.taken) {
            if !taken {
                ledger.clear_slot(slot)?;
            }
        }
        self.ledger = Some((ledger, descriptor));
        Ok(true)
    }

    /// A slot that no worker has, if any.
    pub(crate) fn free_slot(&self) -> Option<u32> {
        self.taken.iter().position(|taken| !taken).and_then(|slot| u32::try_from(slot).ok())
    }

    /// Slots that no worker has.
    pub(crate) fn free_slots(&self) -> usize {
        self.taken.iter().filter(|taken| !**taken).count()
    }

    pub(crate) fn slots(&self) -> u32 {
        u32::try_from(self.taken.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn add_worker(&mut self, worker: Token, slot: u32) {
        self.workers.insert(worker);
        self.mark(slot, true);
    }

    /// Takes a dead worker out: its memory is nobody's any more, its last words are kept. Answers whose are not any more.
    pub(crate) fn remove_worker(&mut self, worker: Token, slot: u32, view: WorkerView) -> Option<WorkerView> {
        self.workers.remove(&worker);
        match self.ledger.as_ref().map_or(Ok(()), |(ledger, _)| ledger.clear_slot(slot)) {
            Ok(()) => self.mark(slot, false),
            // The slot stays taken: a new worker must not begin with another's bytes.
            Err(error) => tracing::error!(session = %self.id, slot, %error, "cannot clear a slot"),
        }
        self.remember(view)
    }

    /// Keeps what is known of a worker that has ended, and answers what is forgotten for it.
    pub(crate) fn remember(&mut self, view: WorkerView) -> Option<WorkerView> {
        // Nothing is known of a worker that ended before it had begun.
        if view.pid == 0 {
            return Some(view);
        }
        self.ended.push_back(view);
        if self.ended.len() > MAX_ENDED { self.ended.pop_front() } else { None }
    }

    /// Takes out the workers that have ended and are meant.
    pub(crate) fn forget_ended(&mut self, is_meant: impl Fn(&WorkerView) -> bool) -> Vec<WorkerView> {
        let (forgotten, kept) = std::mem::take(&mut self.ended).into_iter().partition(is_meant);
        self.ended = kept;
        forgotten.into()
    }

    /// The workers that have ended, oldest first.
    pub(crate) fn ended(&self) -> impl Iterator<Item = &WorkerView> {
        self.ended.iter()
    }

    fn mark(&mut self, slot: u32, taken: bool) {
        if let Some(entry) = self.taken.get_mut(slot as usize) {
            *entry = taken;
        }
    }
}

fn create_ledger(gpus: &[Gpu], slots: u32) -> Result<(Ledger, OwnedFd), LedgerError> {
    Ledger::create(u32::try_from(gpus.len()).unwrap_or(u32::MAX), slots)
}
