//! A session as the acceptor holds it: who may come in, which slots of the ledger are taken, which workers
//! live and which have ended.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::process::Child;

use ledger::Ledger;
use serde_json::Value;

use crate::poll::Token;
use crate::protocol::{SessionId, SessionSpec};
use crate::worker_protocol::WorkerView;

/// Ended workers that a session remembers, the latest ones. A job that starts a process per second for
/// hours must not grow the acceptor; an agent that is subscribed misses none.
const MAX_ENDED: usize = 1024;

pub(crate) struct Session {
    pub(crate) spec: SessionSpec,
    pub(crate) ledger: Ledger,
    pub(crate) ledger_fd: OwnedFd,
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
    pub(crate) child: Child,
    pub(crate) pidfd: OwnedFd,
    /// Our end of the control socket, and its token, until the worker closes its own.
    pub(crate) control: Option<(Token, OwnedFd)>,
    pub(crate) view: WorkerView,
    /// One complaint per worker is enough for the log.
    pub(crate) has_sent_nonsense: bool,
}

impl Session {
    pub(crate) fn new(spec: SessionSpec, slots: u32) -> Result<Session, ledger::LedgerError> {
        let devices = u32::try_from(spec.gpus.len()).unwrap_or(u32::MAX);
        let (ledger, ledger_fd) = Ledger::create(devices, slots)?;
        Ok(Session {
            spec,
            ledger,
            ledger_fd,
            workers: BTreeSet::new(),
            closing: None,
            taken: vec![false; slots as usize],
            ended: VecDeque::new(),
        })
    }

    /// A slot that no worker has, if any.
    pub(crate) fn free_slot(&self) -> Option<u32> {
        self.taken.iter().position(|taken| !taken).and_then(|slot| u32::try_from(slot).ok())
    }

    pub(crate) fn slots(&self) -> u32 {
        self.ledger.slots()
    }

    pub(crate) fn add_worker(&mut self, worker: Token, slot: u32) {
        self.workers.insert(worker);
        self.mark(slot, true);
    }

    /// Takes a dead worker out: its memory is nobody's any more, its last words are kept.
    pub(crate) fn remove_worker(&mut self, worker: Token, slot: u32, view: WorkerView) {
        self.workers.remove(&worker);
        match self.ledger.clear_slot(slot) {
            Ok(()) => self.mark(slot, false),
            // The slot stays taken: a new worker must not begin with another's bytes.
            Err(error) => tracing::error!(session = %self.spec.id, slot, %error, "cannot clear a slot"),
        }
        if self.ended.len() == MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(view);
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
