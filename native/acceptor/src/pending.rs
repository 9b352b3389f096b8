//! A connection that is not accepted yet: it is read up to its 96th byte and not one further, as the next
//! byte is the worker's.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use wire::preface::PREFACE_BYTES;

use crate::listen::Peer;
use crate::refusal::Refusal;

/// A connection between `accept` and its worker.
pub(crate) struct Pending {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Peer,
    stage: Stage,
}

enum Stage {
    Reading {
        bytes: [u8; PREFACE_BYTES],
        count: usize,
    },
    /// The refusal was written; whatever still arrives is thrown away.
    Refused,
}

/// What came of reading.
pub(crate) enum Progress {
    /// Come back when there is more.
    More,
    /// The whole preface.
    Preface([u8; PREFACE_BYTES]),
    /// The connection is over, after so many bytes of its preface (`None`: it was refused before).
    Closed { preface_bytes: Option<usize> },
}

/// Reads per event: a refused client that sends without end gets its share of the loop, not all of it.
const DISCARDS: usize = 16;

impl Pending {
    pub(crate) fn new(socket: OwnedFd, peer: Peer) -> Pending {
        Pending { socket, peer, stage: Stage::Reading { bytes: [0; PREFACE_BYTES], count: 0 } }
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.stage, Stage::Refused)
    }

    pub(crate) fn read(&mut self) -> Progress {
        match &mut self.stage {
            Stage::Reading { bytes, count } => loop {
                match rustix::net::recv(&self.socket, &mut bytes[*count..], RecvFlags::DONTWAIT) {
                    Ok((0, _)) => return Progress::Closed { preface_bytes: Some(*count) },
                    Ok((received, _)) => *count += received,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Progress::More,
                    Err(_) => return Progress::Closed { preface_bytes: Some(*count) },
                }
                if *count >= PREFACE_BYTES {
                    return Progress::Preface(*bytes);
                }
            },
            Stage::Refused => {
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
        }
    }

    /// Writes the refusal and ends our direction. The caller keeps the connection for a moment and reads on:
    /// closing a TCP socket with unread bytes resets the connection, and the reset can destroy the record
    /// before the client has read it.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) {
        tracing::warn!(target: "audit", peer = %self.peer, reason = %refusal, "connection refused");
        // A fresh socket's buffer holds a record; where it does not, the client learns less.
        let _ = rustix::net::send(&self.socket, &refusal.record(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        self.stage = Stage::Refused;
    }
}
