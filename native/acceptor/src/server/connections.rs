//! Data connections, from `accept` to their worker or their refusal.

use std::io;
use std::net::IpAddr;
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
/// And of one address, half of the room. A client machine may start many processes at once, whose connections all wait
/// for their first bytes as long as a round trip takes.
const MAX_PENDING_OF_ADDRESS: usize = 128;
/// Client processes of a session that have not said hello: a worker that starts costs the most.
const MAX_BEGINNING: usize = 32;
/// How long a connection is kept whose session is not ready for it.
const WAIT: Duration = Duration::from_secs(10);
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
        if self.pending.values().filter(|pending| !pending.is_proved()).count() >= MAX_PENDING {
            self.drop_oldest_pending();
        }
        if let Some(address) = pending.peer.address() {
            self.make_room_for_address(address);
        }
        match self.watch(&pending.socket, EventFlags::IN, Source::Pending) {
            Ok(token) => {
                self.pending.insert(token, pending);
                self.poller.after(Duration::from_secs(PREFACE_SECONDS), Timer::Preface(token));
                // Those that have come with their first bytes make room at once for the next.
                self.read_pending(token);
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
            Progress::Route(route, kind) => self.route(token, route, kind),
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

    /// Brings a connection to where it is to go, refuses it, or lets it wait.
    fn route(&mut self, token: Token, route: Route, kind: ConnectionKind) {
        let outcome = if route.purpose.is_end {
            self.end_by_notice(&route).map(|()| self.answer_notice(token))
        } else {
            self.admit(token, &route, kind).map(|()| self.drop_pending(token))
        };
        match outcome {
            Ok(()) => {}
            Err(refusal) if refusal.may_pass() => self.let_wait(token, route, kind, refusal),
            Err(refusal) => self.refuse(token, &refusal),
        }
    }

    fn let_wait(&mut self, token: Token, route: Route, kind: ConnectionKind, refusal: Refusal) {
        let Some(pending) = self.pending.get_mut(&token) else { return };
        let is_new = pending.waits().is_none();
        // Its next bytes are for its worker, and would be reported without end; that it hangs up is reported.
        if is_new && let Err(error) = self.poller.modify(&pending.socket, token, EventFlags::empty()) {
            tracing::error!(%error, peer = %pending.peer, "cannot watch a connection");
            return self.drop_pending(token);
        }
        pending.wait(route, kind, refusal);
        if is_new {
            self.poller.after(WAIT, Timer::Waited(token));
        }
    }

    /// Tries again what waits for a session, or for any.
    pub(super) fn route_waiting(&mut self, session: Option<&SessionId>) {
        let is_for = |route: &Route| session.is_none_or(|session| session.as_str() == route.session);
        let waiting: Vec<_> = self
            .pending
            .iter()
            .filter_map(|(token, pending)| Some((*token, pending.waits()?)))
            .filter(|(_, (route, ..))| is_for(route))
            .map(|(token, (route, kind, _))| (token, route.clone(), kind))
            .collect();
        for (token, route, kind) in waiting {
            self.route(token, route, kind);
        }
    }

    pub(super) fn expire_waiting(&mut self, token: Token) {
        let waits = self.pending.get(&token).and_then(|pending| pending.waits());
        if let Some(refusal) = waits.map(|(_, _, refusal)| refusal.clone()) {
            self.refuse(token, &refusal);
        }
    }

    /// The session that a connection is for, when its token is one of it.
    fn session_of(&self, route: &Route) -> Result<SessionId, Refusal> {
        let session = || route.session.clone();
        let id =
            SessionId::parse(&route.session).map_err(|_| Refusal::UnknownSession { session: session() })?;
        let session = self.sessions.get(&id).ok_or_else(|| match self.end_of(&id) {
            Some(reason) => Refusal::Ended { session: session(), reason: reason.to_owned() },
            None if !self.is_settled => Refusal::NotReady { session: session() },
            None => Refusal::UnknownSession { session: session() },
        })?;
        let opened = session.opened.as_ref().ok_or_else(|| match &session.closing {
            // Whoever it is learns no more than of a session that was never here.
            Some(_) => Refusal::UnknownSession { session: route.session.clone() },
            None => Refusal::NotReady { session: route.session.clone() },
        })?;
        // Before everything else that could be learnt about the session.
        if !route.is_proved_by(&opened.secret) {
            return Err(Refusal::WrongToken { session: route.session.clone() });
        }
        if let Some(closing) = &session.closing {
            let (session, reason) = (route.session.clone(), closing.reason.clone());
            return Err(Refusal::Closing { session, reason });
        }
        Ok(id)
    }

    /// Gives a connection to the worker of its client process, or starts one.
    fn admit(&mut self, token: Token, route: &Route, kind: ConnectionKind) -> Result<(), Refusal> {
        if kind == ConnectionKind::Tcp && !self.options.is_plain_tcp_allowed {
            return Err(Refusal::Plain);
        }
        let id = self.session_of(route)?;
        let Some(pending) = self.pending.get(&token) else { return Ok(()) };
        if let Some(worker) = self.worker_of(&id, route.connection_id) {
            return self.pass_connection(worker, kind, pending.socket.as_fd());
        }
        if route.purpose.is_resumed || route.purpose.is_bulk_lane {
            return Err(Refusal::NoWorker { session: route.session.clone() });
        }
        let slot = self.slot_for(&id, token)?;
        let Some(pending) = self.pending.get(&token) else { return Ok(()) };
        let (peer, client) = (pending.peer, pending.socket.as_fd().try_clone_to_owned());
        let client = client.map_err(|error| Refusal::Spawn { reason: error.to_string() })?;
        let arrival = Arrival { connection_id: route.connection_id, kind, client: client.as_fd(), peer };
        self.start_worker(&id, slot, &arrival).map_err(|error| {
            let worker = self.options.worker.display();
            tracing::error!(session = %id, %worker, error = %format!("{error:#}"), "cannot start a worker");
            Refusal::Spawn { reason: format!("{error:#}") }
        })
    }

    /// The slot for a new worker, or why there is none.
    fn slot_for(&mut self, id: &SessionId, token: Token) -> Result<u32, Refusal> {
        let name = || id.as_str().to_owned();
        let others = self.pending.iter().filter(|(other, pending)| **other != token && pending.is_proved());
        let waiting = others.filter_map(|(_, pending)| pending.waits());
        let waiting = waiting.filter(|(route, ..)| route.session == id.as_str()).count();
        let Some(session) = self.sessions.get_mut(id) else {
            return Err(Refusal::UnknownSession { session: name() });
        };
        let full = Refusal::Full { session: name(), limit: session.slots() };
        let slot = session.free_slot().ok_or_else(|| full.clone())?;
        match session.ledger() {
            Ok(Some(_)) => {}
            Ok(None) => return Err(Refusal::NotReady { session: name() }),
            Err(error) => return Err(Refusal::Spawn { reason: error.to_string() }),
        }
        let workers = session.workers.iter().filter_map(|worker| self.workers.get(worker));
        if workers.filter(|worker| worker.view.client_pid.is_none()).count() < MAX_BEGINNING {
            return Ok(slot);
        }
        if waiting < session.free_slots() {
            Err(Refusal::Beginning { session: name(), limit: MAX_BEGINNING })
        } else {
            Err(full)
        }
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
        if self.pending.get(&token).is_some_and(|pending| !pending.is_refused() && pending.waits().is_none())
        {
            self.refuse(token, &Refusal::Late { seconds: PREFACE_SECONDS });
        }
    }

    fn drop_oldest_pending(&mut self) -> bool {
        let oldest = self.pending.iter_mut().find(|(_, pending)| !pending.is_proved());
        let Some((&token, pending)) = oldest else { return false };
        if !pending.is_refused() {
            pending.refuse(&Refusal::Crowded);
        }
        self.drop_pending(token);
        true
    }

    /// One machine must not take the room of all others.
    fn make_room_for_address(&mut self, address: IpAddr) {
        let is_its = |pending: &Pending| pending.peer.address() == Some(address) && !pending.is_proved();
        if self.pending.values().filter(|pending| is_its(pending)).count() < MAX_PENDING_OF_ADDRESS {
            return;
        }
        let Some((&token, pending)) = self.pending.iter_mut().find(|(_, pending)| is_its(pending)) else {
            return;
        };
        if !pending.is_refused() {
            let refusal = Refusal::CrowdedAddress { address, limit: MAX_PENDING_OF_ADDRESS };
            pending.refuse(&refusal);
            let peer = pending.peer.to_string();
            self.publish_refusal(None, None, &refusal.to_string(), &peer);
        }
        self.drop_pending(token);
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
