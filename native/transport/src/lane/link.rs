//! One connection of a lane, and the words that are exchanged on it before anything else.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::opening::{Opening, Refusal};
use super::packet::{HEAD_BYTES, Head, Kind, MOST_WORDS, put_words};
use super::unsent::Unsent;
use crate::socket::Socket;
use crate::tls::{Keys, MOST_PLAINTEXT, Opened, Opener, RECORD_HEAD_BYTES, Sealer, receive_body};

/// A connected socket, and what its bytes are sealed with.
#[derive(Debug)]
pub struct Link {
    socket: Socket,
    is_sealed: bool,
    sealer: Mutex<Option<Sealer>>,
    opener: Mutex<Option<Opener>>,
}

impl Link {
    /// A connection in clear.
    pub fn plain(socket: Socket) -> Link {
        Link { socket, is_sealed: false, sealer: Mutex::default(), opener: Mutex::default() }
    }

    /// A connection after its handshake.
    pub fn sealed(socket: Socket, keys: Keys) -> Link {
        Link {
            socket,
            is_sealed: true,
            sealer: Mutex::new(Some(keys.sealer)),
            opener: Mutex::new(Some(keys.opener)),
        }
    }

    /// The socket.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The socket, for a connection in clear that needs nothing else.
    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Whether its bytes are sealed.
    pub fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    pub(super) fn take_sealer(&self) -> Option<Sealer> {
        self.sealer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn take_opener(&self) -> Option<Opener> {
        self.opener.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Says who connects, and waits for the worker's word. Answers how far the worker has read this end's stream.
    ///
    /// Errors: among others, a [`Refusal`] inside an error of kind `ConnectionRefused`.
    pub fn open(&self, opening: &Opening) -> io::Result<u64> {
        let round_trip_us = u32::try_from(self.socket.round_trip().as_micros()).unwrap_or(u32::MAX);
        self.send_words(Kind::Open, &Opening { round_trip_us, ..opening.clone() }.encode())?;
        match self.receive_words()? {
            (Kind::Opened, words) => {
                words.try_into().map(u64::from_le_bytes).map_err(|_| io::ErrorKind::InvalidData.into())
            }
            (Kind::Refused, words) => Err(refused(&words)),
            (kind, _) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{kind:?} is no answer"))),
        }
    }

    /// Hears who connects.
    pub fn opening(&mut self) -> io::Result<Opening> {
        match self.receive_words()? {
            (Kind::Open, words) => {
                let opening = Opening::decode(&words);
                let opening = opening.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                self.socket.note_round_trip(Duration::from_micros(opening.round_trip_us.into()));
                Ok(opening)
            }
            (kind, _) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{kind:?} is no opening"))),
        }
    }

    /// Lets the client in; its stream was read up to `received`.
    pub fn admit(&self, received: u64) -> io::Result<()> {
        self.send_words(Kind::Opened, &received.to_le_bytes())
    }

    /// Tells the client why not.
    pub fn refuse(&self, refusal: &Refusal) -> io::Result<()> {
        self.send_words(Kind::Refused, &refusal.encode())
    }

    fn send_words(&self, kind: Kind, words: &[u8]) -> io::Result<()> {
        let mut packet = Vec::with_capacity(HEAD_BYTES + words.len());
        put_words(&mut packet, kind, words);
        let mut sealer = self.sealer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sealer) = sealer.as_mut() else { return self.socket.send_all(&[&packet]) };
        let mut records = Unsent::default();
        for piece in packet.chunks(MOST_PLAINTEXT) {
            records.add_sealed(sealer, &[piece])?;
        }
        self.socket.send_all(&[records.left()])
    }

    /// One packet and not one byte more.
    fn receive_words(&self) -> io::Result<(Kind, Vec<u8>)> {
        let mut opener = self.opener.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(opener) = opener.as_mut() else { return receive_words_in_clear(&self.socket, &[]) };
        let mut packet = Vec::new();
        loop {
            packet.extend_from_slice(&receive_record(&self.socket, opener)?);
            let Some(head) = packet.first_chunk::<HEAD_BYTES>() else { continue };
            let head = checked(Head::decode(*head))?;
            if head.length > MOST_WORDS || packet.len() > HEAD_BYTES + head.length {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if packet.len() == HEAD_BYTES + head.length {
                return Ok((head.kind, packet.split_off(HEAD_BYTES)));
            }
        }
    }
}

fn receive_record(socket: &Socket, opener: &mut Opener) -> io::Result<Vec<u8>> {
    let mut record = vec![0; RECORD_HEAD_BYTES];
    socket.receive_exact(&mut record)?;
    receive_body(socket, &mut record)?;
    match opener.open(&mut record, &mut [])? {
        Opened::Data(bytes, _) => Ok(bytes.to_vec()),
        Opened::End | Opened::Partial | Opened::Placed(..) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// One packet in clear, whose first bytes were `begun`.
fn receive_words_in_clear(socket: &Socket, begun: &[u8]) -> io::Result<(Kind, Vec<u8>)> {
    let mut head = [0; HEAD_BYTES];
    head[..begun.len()].copy_from_slice(begun);
    socket.receive_exact(&mut head[begun.len()..])?;
    let head = checked(Head::decode(head))?;
    if head.length > MOST_WORDS {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut words = vec![0; head.length];
    socket.receive_exact(&mut words)?;
    Ok((head.kind, words))
}

/// The refusal in clear that begins with `begun`: an acceptor, which has no keys, can refuse in no other way.
pub(crate) fn refusal_in_clear(socket: &Socket, begun: &[u8]) -> Option<io::Error> {
    match receive_words_in_clear(socket, begun) {
        Ok((Kind::Refused, words)) => Some(refused(&words)),
        _ => None,
    }
}

/// A whole refusal in clear.
pub fn encode_refusal(refusal: &Refusal) -> Vec<u8> {
    let mut packet = Vec::new();
    put_words(&mut packet, Kind::Refused, &refusal.encode());
    packet
}

fn refused(words: &[u8]) -> io::Error {
    match Refusal::decode(words) {
        Ok(refusal) => io::Error::new(io::ErrorKind::ConnectionRefused, refusal),
        Err(error) => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

fn checked<T>(result: Result<T, super::packet::PacketError>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
