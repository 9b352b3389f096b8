//! Workers: their start, their messages, their end.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use anyhow::Context;
use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::connections::hex;
use super::{Server, Source, TERM_GRACE, Timer};
use crate::clock;
use crate::listen::Peer;
use crate::messages::{Received, receive};
use crate::poll::{EventFlags, Token};
use crate::protocol::SessionId;
use crate::refusal::Refusal;
use crate::session::{Closing, Worker};
use crate::spawn::{Spawned, Start, send_with_descriptors};
use crate::worker_protocol::{ConnectionKind, Exit, FirstMessage, PassedMessage, WorkerMessage, WorkerView};
use crate::workers_folder::{Note, file_id};

/// Longest message of a worker; a report of 64 GPUs has 6 KiB.
const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// Messages taken per event, so that a chattering worker gets its share of the loop only.
const MESSAGES: usize = 16;
/// Messages taken of a dead worker. Its socket's buffer holds fewer; the bound is for the case that the
/// worker left a child behind that goes on writing.
const LAST_MESSAGES: usize = 1024;

/// A client process's first connection.
pub(super) struct Arrival<'a> {
    pub(super) connection_id: [u8; 16],
    pub(super) kind: ConnectionKind,
    pub(super) client: BorrowedFd<'a>,
    pub(super) peer: Peer,
}

impl Server {
    /// Starts a worker for a client process whose first connection has arrived.
    pub(super) fn start_worker(
        &mut self,
        id: &SessionId,
        slot: u32,
        arrival: &Arrival<'_>,
    ) -> anyhow::Result<()> {
        let session = self.sessions.get_mut(id).context("the session is gone")?;
        let ledger = session.ledger()?.context("the session's ledger is not there yet")?.try_clone()?;
        let (slots, opened) = (session.slots(), session.opened.as_ref().context("the session is not open")?);
        let started_at = clock::now();
        let connection_id = hex(&arrival.connection_id);
        let message = serde_json::to_vec(&FirstMessage {
            session_id: id.as_str(),
            connection_id: &connection_id,
            driver: &self.driver,
            gpus: &opened.gpus,
            slot,
            server_name: &self.options.server_name,
            connection: arrival.kind,
            grace_seconds: opened.grace_seconds,
            trust: &opened.trust,
            orphan_seconds: self.options.orphan_seconds,
            sandbox: self.options.worker_sandbox,
        })?;
        let uuids: Vec<&str> = opened.gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
        let note = Note {
            session_id: id.as_str().to_owned(),
            gpus: opened.gpus.clone(),
            slot,
            slots,
            ledger: file_id(&ledger)?,
            started_at: started_at.clone(),
            ended: None,
        };
        let visible_devices = uuids.join(",");
        let identity = self.identity_for(arrival.kind)?;
        let files = self.folder.add(&connection_id, &note)?;
        let descriptors: Vec<BorrowedFd<'_>> =
            std::iter::once(arrival.client).chain(identity.as_ref().map(AsFd::as_fd)).collect();
        let spawned = self.spawner.spawn(&Start {
            message: &message,
            descriptors: &descriptors,
            ledger: ledger.as_fd(),
            files: &files,
            visible_devices,
        });
        let spawned = match spawned {
            Ok(spawned) => spawned,
            Err(error) => {
                self.folder.remove(&connection_id);
                return Err(error.into());
            }
        };
        let pid = i32::try_from(spawned.child.id())?;
        let view = WorkerView {
            pid,
            connection_id,
            client_pid: None,
            program: None,
            sandbox: None,
            started_at,
            ended_at: None,
            exit: None,
            report: None,
        };
        let started = self.keep_worker(id, slot, spawned, view);
        if started.is_ok() {
            tracing::info!(target: "audit", session = %id, pid, slot, peer = %arrival.peer, "worker started");
        }
        started
    }

    /// The worker of a client process, if it has one.
    pub(super) fn worker_of(&self, id: &SessionId, connection_id: [u8; 16]) -> Option<Token> {
        let connection_id = hex(&connection_id);
        let mut workers = self.workers.iter();
        let is_it = |worker: &Worker| worker.session == *id && worker.view.connection_id == connection_id;
        workers.find(|(_, worker)| is_it(worker)).map(|(token, _)| *token)
    }

    /// The server's certificate and key for a worker that shakes hands. They are passed on unread, and anew for each
    /// connection, as they live for a day.
    fn identity_for(&self, kind: ConnectionKind) -> io::Result<Option<File>> {
        match (kind, &self.options.worker_identity) {
            (ConnectionKind::Tls, Some(path)) => File::open(path).map(Some),
            _ => Ok(None),
        }
    }

    /// Hands another connection of a client process to its worker.
    pub(super) fn pass_connection(
        &self,
        worker: Token,
        connection: ConnectionKind,
        client: BorrowedFd<'_>,
    ) -> Result<(), Refusal> {
        let busy = |reason: String| Refusal::Busy { reason };
        let worker = self.workers.get(&worker).ok_or_else(|| busy("it is ending".into()))?;
        let (_, control) = worker.control.as_ref().ok_or_else(|| busy("it is ending".into()))?;
        let trust = self.sessions.get(&worker.session).and_then(|session| session.opened.as_ref());
        let trust = trust.map_or(&Value::Null, |opened| &opened.trust);
        let message = serde_json::to_vec(&PassedMessage { connection, trust })
            .map_err(|error| busy(error.to_string()))?;
        let identity = self.identity_for(connection).map_err(|error| busy(error.to_string()))?;
        let descriptors: Vec<BorrowedFd<'_>> =
            std::iter::once(client).chain(identity.as_ref().map(AsFd::as_fd)).collect();
        send_with_descriptors(control, &message, &descriptors).map_err(|error| {
            tracing::warn!(session = %worker.session, pid = worker.view.pid, %error, "a worker takes no connection");
            busy(error.to_string())
        })
    }

    fn keep_worker(
        &mut self,
        id: &SessionId,
        slot: u32,
        mut spawned: Spawned,
        view: WorkerView,
    ) -> anyhow::Result<()> {
        let token = self.poller.token();
        let watched = self.watch(&spawned.pidfd, EventFlags::IN, Source::WorkerEnd(token));
        let pidfd = match watched {
            Ok(pidfd) => (pidfd, spawned.pidfd),
            Err(error) => {
                // A worker that is not watched would never be reaped.
                let _ = spawned.child.kill();
                let _ = spawned.child.wait();
                self.folder.remove(&view.connection_id);
                return Err(error).context("cannot watch the worker");
            }
        };
        let control = match self.watch(&spawned.control, EventFlags::IN, Source::WorkerMessages(token)) {
            Ok(control) => Some((control, spawned.control)),
            Err(error) => {
                tracing::error!(session = %id, %error, "cannot watch a worker's messages");
                None
            }
        };
        if let Some(session) = self.sessions.get_mut(id) {
            session.add_worker(token, slot);
        }
        let worker = Worker {
            session: id.clone(),
            slot,
            child: Some(spawned.child),
            pidfd: Some(pidfd),
            control,
            view,
            ledger: None,
            doom: None,
            has_sent_nonsense: false,
        };
        self.workers.insert(token, worker);
        Ok(())
    }

    pub(super) fn read_worker(&mut self, worker: Token) {
        self.read_messages(worker, MESSAGES);
    }

    fn read_messages(&mut self, token: Token, limit: usize) {
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        for _ in 0..limit {
            let Some(worker) = self.workers.get_mut(&token) else { return };
            let Some((control_token, control)) = &worker.control else { return };
            match receive(control, &mut buffer) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // The end. An empty message looks the same, and has no meaning.
                Ok(Received { length: 0, .. }) | Err(_) => {
                    let control_token = *control_token;
                    if let Some((_, control)) = worker.control.take() {
                        self.forget(control_token, &control);
                    }
                    return self.end_unknown(token);
                }
                Ok(Received { length, sender, descriptor }) => {
                    match buffer.get(..length).and_then(|bytes| WorkerMessage::parse(bytes).ok()) {
                        Some(WorkerMessage::Adopted(account)) => {
                            let session = worker.session.clone();
                            let is_first = !std::mem::replace(&mut worker.has_sent_nonsense, true);
                            match self.finish_adoption(token, account, sender, descriptor) {
                                Ok(()) => self.forgive(token),
                                Err(error) if is_first => {
                                    let error = format!("{error:#}");
                                    tracing::error!(%session, error, "a worker is not taken over");
                                }
                                Err(_) => {}
                            }
                        }
                        Some(message) => self.handle_message(token, message),
                        None if worker.has_sent_nonsense => {}
                        None => {
                            worker.has_sent_nonsense = true;
                            let pid = worker.view.pid;
                            tracing::warn!(session = %worker.session, pid, length, "worker sends nonsense");
                        }
                    }
                }
            }
        }
    }

    fn forgive(&mut self, token: Token) {
        if let Some(worker) = self.workers.get_mut(&token) {
            worker.has_sent_nonsense = false;
        }
    }

    fn handle_message(&mut self, token: Token, message: WorkerMessage) {
        let Some(worker) = self.workers.get_mut(&token) else { return };
        match message {
            WorkerMessage::Refused { reason } => {
                let (session, connection) = (worker.session.clone(), worker.view.connection_id.clone());
                tracing::warn!(target: "audit", %session, connection, reason, "connection refused by its worker");
                self.publish_refusal(Some(session.as_str()), Some(&connection), &reason, "worker");
            }
            WorkerMessage::Report(mut report) => {
                if let Some(session) = self.sessions.get(&worker.session) {
                    report.restrict_to(&session.gpus);
                }
                worker.view.report = Some(report);
            }
            WorkerMessage::Started { client_pid, program, sandbox } => {
                if worker.view.client_pid.is_some() {
                    return;
                }
                worker.view.client_pid = Some(client_pid);
                worker.view.program = Some(program);
                worker.view.sandbox = sandbox;
                let id = worker.session.clone();
                let event = json!({"event": "workerStarted", "sessionId": id, "worker": worker.view});
                self.publish(&event);
                self.route_waiting(Some(&id));
            }
            // Taken by whoever reads the message, with what came along.
            WorkerMessage::Adopted(_) => {}
        }
    }

    /// A worker of an earlier acceptor closed its socket before it had said who it is: it has ended.
    fn end_unknown(&mut self, token: Token) {
        if self.workers.get(&token).is_some_and(|worker| worker.pidfd.is_none()) {
            self.end_worker(token);
        }
    }

    /// The pidfd is readable: hears the last words, reaps, frees the slot, tells the agents.
    pub(super) fn end_worker(&mut self, token: Token) {
        self.read_messages(token, LAST_MESSAGES);
        let Some(mut worker) = self.workers.remove(&token) else { return };
        match worker.child.as_mut().map(std::process::Child::try_wait) {
            Some(Ok(Some(status))) => {
                worker.view.exit = Some(exit_of(status));
                worker.view.ended_at = Some(clock::now());
            }
            // Not dead after all; the pidfd will say so again.
            Some(Ok(None)) => {
                self.workers.insert(token, worker);
                return;
            }
            Some(Err(error)) => {
                tracing::error!(pid = worker.view.pid, %error, "cannot reap a worker");
                worker.view.exit = Some(Exit::Code(-1));
                worker.view.ended_at = Some(clock::now());
            }
            None => self.bury_adopted(&mut worker),
        }
        if let Some((pidfd_token, pidfd)) = worker.pidfd.take() {
            self.forget(pidfd_token, &pidfd);
        }
        if let Some((control_token, control)) = worker.control.take() {
            self.forget(control_token, &control);
        }
        let (id, pid) = (worker.session, worker.view.pid);
        // First: were this acceptor killed now, the next one would tell of it.
        self.folder.end(&worker.view);
        tracing::info!(target: "audit", session = %id, pid, exit = ?worker.view.exit, "worker ended");
        let event = json!({"event": "workerEnded", "sessionId": id, "worker": worker.view});
        let session = self.sessions.get_mut(&id);
        let forgotten = session.and_then(|session| session.remove_worker(token, worker.slot, worker.view));
        if let Some(forgotten) = forgotten {
            self.folder.remove(&forgotten.connection_id);
        }
        // Nobody was told of the start of a worker of which nothing is known.
        if pid != 0 {
            self.publish(&event);
        }
        self.finish_close(&id);
        self.route_waiting(Some(&id));
    }

    pub(super) fn signal_worker(&mut self, token: Token, signal: Signal) {
        let Some(worker) = self.workers.get_mut(&token) else { return };
        let Some((_, pidfd)) = &worker.pidfd else {
            worker.doom = Some(signal);
            return;
        };
        match rustix::process::pidfd_send_signal(pidfd, signal) {
            // Dead already, its pidfd is about to be read.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => tracing::error!(pid = worker.view.pid, %error, "cannot signal a worker"),
        }
    }

    /// Lets nobody into the session any more and ends its workers.
    pub(super) fn begin_close(&mut self, id: &SessionId, reason: &str) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.closing.is_none() {
            tracing::info!(target: "audit", session = %id, reason, workers = session.workers.len(), "session closes");
            session.closing = Some(Closing { reason: reason.to_owned(), waiting: Vec::new() });
            let workers: Vec<Token> = session.workers.iter().copied().collect();
            for worker in workers {
                self.signal_worker(worker, Signal::TERM);
                self.poller.after(TERM_GRACE, Timer::Kill(worker));
            }
        }
    }

    /// Forgets a closing session whose last worker has ended, and answers those who wait for that.
    pub(super) fn finish_close(&mut self, id: &SessionId) {
        let is_over =
            |session: &crate::session::Session| session.closing.is_some() && session.workers.is_empty();
        if !self.sessions.get(id).is_some_and(is_over) {
            return;
        }
        let Some(session) = self.sessions.remove(id) else { return };
        tracing::info!(target: "audit", session = %id, "session closed");
        self.remember_end(id, session.closing.as_ref().map_or("", |closing| &closing.reason));
        let results = json!({"workers": session.ended().collect::<Vec<_>>()});
        self.keep_ended(id, session.ended().cloned());
        for (agent, request) in session.closing.map(|closing| closing.waiting).unwrap_or_default() {
            self.answer_later(agent, request, results.clone());
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(-1),
    }
}
