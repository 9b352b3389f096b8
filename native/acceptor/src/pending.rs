//! A connection that is not accepted yet. A preface is read up to its 96th byte and not one further, of a TLS
//! connection nothing is: the next byte is the worker's.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use wire::preface::{MAGIC, PREFACE_BYTES, Preface};

use crate::listen::Peer;
use crate::refusal::Refusal;
use crate::route::{Route, RouteError};
use crate::worker_protocol::ConnectionKind;

/// First byte of a TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 22;

/// Bytes in which a ClientHello must be whole; ours have some 300.
const HELLO_BYTES: usize = 8 << 10;

/// A connection between `accept` and its worker.
pub(crate) struct Pending {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Peer,
    stage: Stage,
}

enum Stage {
    /// Nothing is known of what it is.
    Beginning,
    Preface {
        bytes: [u8; PREFACE_BYTES],
        count: usize,
    },
    /// It says where it is to go, but cannot yet for this reason.
    Waiting(Route, ConnectionKind, Refusal),
    /// The refusal was written; whatever still arrives is thrown away.
    Refused,
}

/// What came of reading.
pub(crate) enum Progress {
    /// Come back when there is more.
    More,
    /// Come back in a while: what is there was not taken.
    Later,
    /// Where it is to go.
    Route(Route, ConnectionKind),
    /// It cannot go anywhere.
    Wrong(RouteError),
    /// The connection is over, after so many bytes of its preface (`None`: it was refused before).
    Closed { preface_bytes: Option<usize> },
}

/// Reads per event: a refused client that sends without end gets its share of the loop, not all of it.
const DISCARDS: usize = 16;

impl Pending {
    pub(crate) fn new(socket: OwnedFd, peer: Peer) -> Pending {
        Pending { socket, peer, stage: Stage::Beginning }
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.stage, Stage::Refused)
    }

    pub(crate) fn read(&mut self) -> Progress {
        match &mut self.stage {
            Stage::Beginning => self.begin(),
            Stage::Preface { .. } => self.read_preface(),
            Stage::Refused => self.discard(),
            // Nothing is read meanwhile, so it has hung up.
            Stage::Waiting(..) => Progress::Closed { preface_bytes: None },
        }
    }

    /// Waits until what is in the way has passed.
    pub(crate) fn wait(&mut self, route: Route, kind: ConnectionKind, refusal: Refusal) {
        self.stage = Stage::Waiting(route, kind, refusal);
    }

    /// What it waits for, if it waits.
    pub(crate) fn waits(&self) -> Option<(&Route, ConnectionKind, &Refusal)> {
        match &self.stage {
            Stage::Waiting(route, kind, refusal) => Some((route, *kind, refusal)),
            _ => None,
        }
    }

    /// Whether it waits and its token was found to be right: strangers' limits are not for it.
    pub(crate) fn is_proved(&self) -> bool {
        self.waits().is_some_and(|(_, _, refusal)| matches!(refusal, Refusal::Beginning { .. }))
    }

    fn begin(&mut self) -> Progress {
        let mut bytes = [0; HELLO_BYTES];
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let count = match rustix::net::recv(&self.socket, &mut bytes[..], flags) {
            Ok((0, _)) => return Progress::Closed { preface_bytes: Some(0) },
            Ok((count, _)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Progress::More,
            Err(_) => return Progress::Closed { preface_bytes: Some(0) },
        };
        if bytes[0] != TLS_HANDSHAKE || !matches!(self.peer, Peer::Tcp(_)) {
            self.stage = Stage::Preface { bytes: [0; PREFACE_BYTES], count: 0 };
            return self.read_preface();
        }
        match transport::server_name(&bytes[..count]) {
            Ok(None) if count < HELLO_BYTES => Progress::Later,
            Ok(None) => Progress::Wrong(RouteError::Name),
            Ok(Some(name)) => match Route::of_server_name(&name) {
                Ok(route) => Progress::Route(route, ConnectionKind::Tls),
                Err(error) => Progress::Wrong(error),
            },
            Err(error) => Progress::Wrong(error.into()),
        }
    }

    fn read_preface(&mut self) -> Progress {
        let Stage::Preface { bytes, count } = &mut self.stage else { return Progress::More };
        loop {
            match rustix::net::recv(&self.socket, &mut bytes[*count..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Progress::Closed { preface_bytes: Some(*count) },
                Ok((received, _)) => *count += received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Progress::More,
                Err(_) => return Progress::Closed { preface_bytes: Some(*count) },
            }
            let known = (*count).min(MAGIC.len());
            if bytes[..known] != MAGIC[..known] {
                // A stranger is told so at once, before it has sent as much as a preface has.
                return Progress::Wrong(wire::preface::PrefaceError::Magic.into());
            }
            if *count >= PREFACE_BYTES {
                let kind = match self.peer {
                    Peer::Tcp(_) => ConnectionKind::Tcp,
                    Peer::Unix { .. } | Peer::UnixUnknown => ConnectionKind::Unix,
                };
                return match Preface::decode(bytes) {
                    Ok(preface) => Progress::Route(Route::of_preface(preface), kind),
                    Err(error) => Progress::Wrong(error.into()),
                };
            }
        }
    }

    fn discard(&mut self) -> Progress {
        let mut discarded = [0; 4096];
        for _ in 0..DISCARDS {
            match rustix::net::recv(&self.socket, &mut discarded[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Progress::Closed { preface_bytes: None },
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Progress::More,
                Err(_) => return Progress::Closed { preface_bytes: None },
            }
        }
        Progress::More
    }

    /// Writes the refusal and ends our direction. The caller keeps the connection for a moment and reads on:
    /// closing a TCP socket with unread bytes resets the connection, and the reset can destroy the words
    /// before the client has read them.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) {
        tracing::warn!(target: "audit", peer = %self.peer, reason = %refusal, "connection refused");
        self.answer(&transport::encode_refusal(&refusal.words()));
    }

    /// Writes `bytes` and ends our direction, like [`Pending::refuse`].
    pub(crate) fn answer(&mut self, bytes: &[u8]) {
        // A fresh socket's buffer holds them; where it does not, the client learns less.
        let _ = rustix::net::send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        self.stage = Stage::Refused;
    }
}
