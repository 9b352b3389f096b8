//! Data connections, from `accept` to their worker or their refusal.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::workers::Arrival;
use super::{Server, Source, TERM_GRACE, Timer};
use crate::listen::accept_tcp;
use crate::pending::{Pending, Progress};
use crate::poll::{EventFlags, Token};
use crate::protocol::SessionId;
use crate::refusal::Refusal;
use crate::route::Route;
use crate::worker_protocol::ConnectionKind;

/// Connections that may wait for acceptance; the oldest goes when another comes.
const MAX_PENDING: usize = 256;
/// How long a preface may take.
const PREFACE_SECONDS: u64 = 5;
/// How long a refused client may take to read why.
const REFUSED_LINGER: Duration = Duration::from_secs(1);
/// How long a connection is left alone that has not sent enough.
const LATER: Duration = Duration::from_millis(5);
/// Answers the notice that a client process is dead.
const NOTED: u8 = 1;
/// Connections taken per event, so that a flood of them leaves room for everything else.
const ACCEPTS: usize = 64;

impl Server {
    pub(super) fn accept_data(&mut self, source: Source) {
        for _ in 0..ACCEPTS {
            let accepted = match (source, &self.tcp, &self.unix) {
                (Source::Tcp, Some((_, tcp)), _) => accept_tcp(tcp),
                (Source::Unix, _, Some((_, unix))) => unix.accept(),
                _ => return,
            };
            match accepted {
                Ok((socket, peer)) => self.add_pending(Pending::new(socket, peer)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_out_of_descriptors(&error) => {
                    if !self.drop_oldest_pending() {
                        self.pause_accepting(&error);
                        return;
                    }
                }
                // The connection was gone before it was accepted; the next one is not affected.
                Err(error) => tracing::debug!(%error, "a connection was lost before it was accepted"),
            }
        }
    }

    fn add_pending(&mut self, pending: Pending) {
        if self.pending.len() >= MAX_PENDING {
            self.drop_oldest_pending();
        }
        match self.watch(&pending.socket, EventFlags::IN, Source::Pending) {
            Ok(token) => {
                self.pending.insert(token, pending);
                self.poller.after(Duration::from_secs(PREFACE_SECONDS), Timer::Preface(token));
            }
            Err(error) => tracing::error!(%error, peer = %pending.peer, "cannot watch a connection"),
        }
    }

    pub(super) fn read_pending(&mut self, token: Token) {
        let Some(pending) = self.pending.get_mut(&token) else { return };
        match pending.read() {
            Progress::More => {}
            Progress::Later => self.read_later(token),
            Progress::Wrong(error) => self.refuse(token, &error.into()),
            Progress::Route(route, _) if route.purpose.is_end => match self.end_by_notice(&route) {
                Ok(()) => self.answer_notice(token),
                Err(refusal) => self.refuse(token, &refusal),
            },
            Progress::Route(route, kind) => match self.admit(token, route, kind) {
                Ok(()) => self.drop_pending(token),
                Err(refusal) => self.refuse(token, &refusal),
            },
            Progress::Closed { preface_bytes } => {
                // A connection without a byte is a health check; half a preface is worth a line.
                if let Some(count) = preface_bytes.filter(|count| *count > 0) {
                    let peer = pending.peer;
                    tracing::warn!(target: "audit", %peer, count, "connection ended inside its preface");
                }
                self.drop_pending(token);
            }
        }
    }

    /// The session that a connection is for, when its token is one of it.
    fn session_of(&self, route: &Route) -> Result<SessionId, Refusal> {
        let session = || route.session.clone();
        let id =
            SessionId::parse(&route.session).map_err(|_| Refusal::UnknownSession { session: session() })?;
        let session = self.sessions.get(&id).ok_or_else(|| match self.end_of(&id) {
            Some(reason) => Refusal::Ended { session: session(), reason: reason.to_owned() },
            None => Refusal::UnknownSession { session: session() },
        })?;
        // Before everything else that could be learnt about the session.
        if !route.is_proved_by(&session.spec.secret) {
            return Err(Refusal::WrongToken { session: route.session.clone() });
        }
        if let Some(closing) = &session.closing {
            let (session, reason) = (route.session.clone(), closing.reason.clone());
            return Err(Refusal::Closing { session, reason });
        }
        Ok(id)
    }

    /// Gives a connection to the worker of its client process, or starts one.
    fn admit(&mut self, token: Token, route: Route, kind: ConnectionKind) -> Result<(), Refusal> {
        if kind == ConnectionKind::Tcp && !self.options.is_plain_tcp_allowed {
            return Err(Refusal::Plain);
        }
        let id = self.session_of(&route)?;
        let Some(pending) = self.pending.get(&token) else { return Ok(()) };
        if let Some(worker) = self.worker_of(&id, route.connection_id) {
            return self.pass_connection(worker, kind, pending.socket.as_fd());
        }
        if route.purpose.is_resumed || route.purpose.is_bulk_lane {
            return Err(Refusal::NoWorker { session: route.session });
        }
        let full = |session: &crate::session::Session| Refusal::Full {
            session: route.session.clone(),
            limit: session.slots(),
        };
        let Some(session) = self.sessions.get(&id) else { return Ok(()) };
        let slot = session.free_slot().ok_or_else(|| full(session))?;
        let (peer, client) = (pending.peer, pending.socket.as_fd().try_clone_to_owned());
        let client = client.map_err(|error| Refusal::Spawn { reason: error.to_string() })?;
        let arrival = Arrival { connection_id: route.connection_id, kind, client: client.as_fd(), peer };
        self.start_worker(&id, slot, &arrival).map_err(|error| {
            let worker = self.options.worker.display();
            tracing::error!(session = %id, %worker, error = %format!("{error:#}"), "cannot start a worker");
            Refusal::Spawn { reason: format!("{error:#}") }
        })
    }

    /// Whoever holds a client process says that it is dead: its worker has nobody to wait for.
    fn end_by_notice(&mut self, route: &Route) -> Result<(), Refusal> {
        let id = self.session_of(route)?;
        if let Some(worker) = self.worker_of(&id, route.connection_id) {
            tracing::info!(target: "audit", session = %id, connection = hex(&route.connection_id), "client process is dead");
            self.signal_worker(worker, rustix::process::Signal::TERM);
            self.poller.after(TERM_GRACE, Timer::Kill(worker));
        }
        Ok(())
    }

    fn answer_notice(&mut self, token: Token) {
        if let Some(pending) = self.pending.get_mut(&token) {
            pending.answer(&[NOTED]);
            self.poller.after(REFUSED_LINGER, Timer::Refused(token));
        }
    }

    /// What has arrived of a connection is too little and stays in its socket, which would be reported without end.
    fn read_later(&mut self, token: Token) {
        let Some(pending) = self.pending.get(&token) else { return };
        match self.poller.modify(&pending.socket, token, EventFlags::empty()) {
            Ok(()) => self.poller.after(LATER, Timer::ReadAgain(token)),
            Err(error) => {
                tracing::error!(%error, peer = %pending.peer, "cannot watch a connection");
                self.drop_pending(token);
            }
        }
    }

    pub(super) fn read_again(&mut self, token: Token) {
        if let Some(pending) = self.pending.get(&token)
            && let Err(error) = self.poller.modify(&pending.socket, token, EventFlags::IN)
        {
            tracing::error!(%error, peer = %pending.peer, "cannot watch a connection");
            self.drop_pending(token);
        }
    }

    fn refuse(&mut self, token: Token, refusal: &Refusal) {
        if let Some(pending) = self.pending.get_mut(&token) {
            pending.refuse(refusal);
            let peer = pending.peer.to_string();
            self.publish_refusal(refusal.session(), None, &refusal.to_string(), &peer);
            self.poller.after(REFUSED_LINGER, Timer::Refused(token));
        }
    }

    pub(super) fn refuse_all_pending(&mut self) {
        while let Some(mut entry) = self.pending.first_entry() {
            let token = *entry.key();
            if !entry.get().is_refused() {
                entry.get_mut().refuse(&Refusal::Stopping);
            }
            self.drop_pending(token);
        }
    }

    pub(super) fn expire_preface(&mut self, token: Token) {
        if self.pending.get(&token).is_some_and(|pending| !pending.is_refused()) {
            self.refuse(token, &Refusal::Late { seconds: PREFACE_SECONDS });
        }
    }

    fn drop_oldest_pending(&mut self) -> bool {
        let Some(mut oldest) = self.pending.first_entry() else { return false };
        let token = *oldest.key();
        if !oldest.get().is_refused() {
            oldest.get_mut().refuse(&Refusal::Crowded);
        }
        self.drop_pending(token);
        true
    }

    pub(super) fn drop_pending(&mut self, token: Token) {
        if let Some(pending) = self.pending.remove(&token) {
            self.forget(token, &pending.socket);
        }
    }
}

/// Whether `accept` failed for want of descriptors or memory, not because of the connection.
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    let out = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| out.contains(&code))
}

/// The connection id as the control protocol writes it.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
