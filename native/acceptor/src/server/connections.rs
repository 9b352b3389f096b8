//! Data connections, from `accept` to their worker or their refusal.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use wire::preface::{PREFACE_BYTES, Preface};

use super::{Server, Source, Timer};
use crate::listen::accept_tcp;
use crate::pending::{Pending, Progress};
use crate::poll::{EventFlags, Token};
use crate::protocol::SessionId;
use crate::refusal::Refusal;

/// Connections that may wait for acceptance; the oldest goes when another comes.
const MAX_PENDING: usize = 256;
/// How long a preface may take.
const PREFACE_SECONDS: u64 = 5;
/// How long a refused client may take to read why.
const REFUSED_LINGER: Duration = Duration::from_secs(1);
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
            Progress::Preface(bytes) => match self.admit(token, &bytes) {
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

    /// Checks a preface and starts the worker, or gives the worker its client's bulk lane.
    fn admit(&mut self, token: Token, bytes: &[u8; PREFACE_BYTES]) -> Result<(), Refusal> {
        let preface = Preface::decode(bytes)?;
        let unknown = || Refusal::UnknownSession { session: preface.session_id.clone() };
        let id = SessionId::parse(&preface.session_id).map_err(|_| unknown())?;
        let session = self.sessions.get(&id).ok_or_else(unknown)?;
        // Before everything else that could be learnt about the session.
        if !session.spec.secret.matches(&preface.secret) {
            return Err(Refusal::WrongSecret { session: preface.session_id });
        }
        if let Some(closing) = &session.closing {
            return Err(Refusal::Closing { session: preface.session_id, reason: closing.reason.clone() });
        }
        if preface.is_bulk_lane {
            let Some(pending) = self.pending.get(&token) else { return Ok(()) };
            return self.pass_bulk_lane(&id, preface.connection_id, pending.socket.as_fd());
        }
        let Some(slot) = session.free_slot() else {
            return Err(Refusal::Full { session: preface.session_id, limit: session.slots() });
        };
        let Some(pending) = self.pending.get(&token) else { return Ok(()) };
        let (peer, client) = (pending.peer, pending.socket.as_fd().try_clone_to_owned());
        let client = client.map_err(|error| Refusal::Spawn { reason: error.to_string() })?;
        self.start_worker(&id, slot, preface.connection_id, client.as_fd(), peer).map_err(|error| {
            let worker = self.options.worker.display();
            tracing::error!(session = %id, %worker, error = %format!("{error:#}"), "cannot start a worker");
            Refusal::Spawn { reason: format!("{error:#}") }
        })
    }

    fn refuse(&mut self, token: Token, refusal: &Refusal) {
        if let Some(pending) = self.pending.get_mut(&token) {
            pending.refuse(refusal);
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
