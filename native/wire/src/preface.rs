//! The 96 bytes with which a client names its session to the acceptor, before any record.

use crate::codec::{Reader, Writer};
use crate::error::WireError;
use crate::record::WIRE_FORMAT;

/// Bytes of a [`Preface`] on the wire.
pub const PREFACE_BYTES: usize = 96;

/// First bytes of every connection.
pub const MAGIC: [u8; 8] = *b"FARPOOL1";

/// Flag of a preface: the connection is the bulk lane of a client process that has a worker already.
const BULK_LANE: u32 = 1;
/// Flag of a preface: the lane had a connection before.
const RESUMED: u32 = 2;
/// Flag of a preface: the client process is dead; whoever held it says so.
const END: u32 = 4;

/// Longest session id, in UTF-8 bytes.
pub const SESSION_ID_BYTES: usize = 32;

/// Who connects, and to which session.
#[derive(Clone, PartialEq, Eq)]
pub struct Preface {
    /// The session's id, 1 to 32 bytes.
    pub session_id: String,
    /// 128 random bits that name the client process.
    pub connection_id: [u8; 16],
    /// Proof that somebody entitled to the session has named the connection id.
    pub token: [u8; 32],
    /// What the connection is for.
    pub purpose: Purpose,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purpose {
    /// It is the process's bulk lane ([`crate::bulk`]), and not its first one.
    pub is_bulk_lane: bool,
    /// Its lane had a connection before: no worker is to be started for it.
    pub is_resumed: bool,
    /// It only says that the client process is dead.
    pub is_end: bool,
}

impl Purpose {
    /// As a number.
    pub fn flags(self) -> u32 {
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        flag(self.is_bulk_lane, BULK_LANE) | flag(self.is_resumed, RESUMED) | flag(self.is_end, END)
    }

    /// From a number whose bits are all known, and fit together.
    pub fn from_flags(flags: u32) -> Option<Purpose> {
        let is_known = flags & !(BULK_LANE | RESUMED) == 0 || flags == END;
        is_known.then_some(Purpose {
            is_bulk_lane: flags & BULK_LANE != 0,
            is_resumed: flags & RESUMED != 0,
            is_end: flags & END != 0,
        })
    }
}

impl std::fmt::Debug for Preface {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Preface").field("session_id", &self.session_id).finish_non_exhaustive()
    }
}

/// Why a preface was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrefaceError {
    /// The other end is not a Farpool client.
    #[error("the connection does not begin with FARPOOL1")]
    Magic,
    /// The two ends speak different wire formats.
    #[error(transparent)]
    Version(WireError),
    /// The session id is empty, not UTF-8, or not zero padded.
    #[error("the session id is not 1 to 32 bytes of UTF-8, zero padded")]
    SessionId,
    /// A flag is set that has no meaning.
    #[error("flags {0:#x} are not known")]
    Flags(u32),
}

impl Preface {
    /// The 96 bytes. A session id longer than 32 bytes is cut (and so refused by the acceptor).
    pub fn encode(&self) -> [u8; PREFACE_BYTES] {
        let mut buffer = Vec::with_capacity(PREFACE_BYTES);
        let mut writer = Writer::new(&mut buffer);
        writer.put_raw(&MAGIC);
        writer.put_u32(WIRE_FORMAT);
        writer.put_u32(self.purpose.flags());
        let mut id = [0; SESSION_ID_BYTES];
        let bytes = self.session_id.as_bytes();
        let count = bytes.len().min(SESSION_ID_BYTES);
        id[..count].copy_from_slice(&bytes[..count]);
        writer.put_raw(&id);
        writer.put_raw(&self.connection_id);
        writer.put_raw(&self.token);
        let mut out = [0; PREFACE_BYTES];
        out.copy_from_slice(&buffer);
        out
    }

    /// Reads and checks the 96 bytes.
    pub fn decode(bytes: &[u8; PREFACE_BYTES]) -> Result<Preface, PrefaceError> {
        let mut reader = Reader::new(bytes);
        if reader.take_array::<8>() != MAGIC {
            return Err(PrefaceError::Magic);
        }
        let version = reader.take_u32();
        if version != WIRE_FORMAT {
            return Err(PrefaceError::Version(WireError::Version { given: version, expected: WIRE_FORMAT }));
        }
        let flags = reader.take_u32();
        let purpose = Purpose::from_flags(flags).ok_or(PrefaceError::Flags(flags))?;
        let id = reader.take_array::<SESSION_ID_BYTES>();
        let length = id.iter().position(|byte| *byte == 0).unwrap_or(SESSION_ID_BYTES);
        if length == 0 || id[length..].iter().any(|byte| *byte != 0) {
            return Err(PrefaceError::SessionId);
        }
        let session_id = std::str::from_utf8(&id[..length]).map_err(|_| PrefaceError::SessionId)?.to_owned();
        Ok(Preface { session_id, connection_id: reader.take_array(), token: reader.take_array(), purpose })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Preface {
        Preface {
            session_id: "s-7f3".into(),
            connection_id: [7; 16],
            token: [9; 32],
            purpose: Purpose::default(),
        }
    }

    #[test]
    fn a_preface_round_trips() {
        assert_eq!(Preface::decode(&sample().encode()), Ok(sample()));
        let full = Preface { session_id: "x".repeat(32), ..sample() };
        assert_eq!(Preface::decode(&full.encode()), Ok(full));
        for flags in [1, 2, 3, 4] {
            let other = Preface { purpose: Purpose::from_flags(flags).expect("known"), ..sample() };
            assert_eq!(Preface::decode(&other.encode()), Ok(other));
        }
    }

    #[test]
    fn foreign_bytes_other_versions_and_bad_ids_are_told_apart() {
        let mut bytes = sample().encode();
        bytes[0] = b'G';
        assert_eq!(Preface::decode(&bytes), Err(PrefaceError::Magic));
        let mut bytes = sample().encode();
        bytes[8] = 99;
        assert!(matches!(
            Preface::decode(&bytes),
            Err(PrefaceError::Version(WireError::Version { given: 99, .. }))
        ));
        let mut bytes = sample().encode();
        bytes[16..48].fill(0);
        assert_eq!(Preface::decode(&bytes), Err(PrefaceError::SessionId));
        let mut bytes = sample().encode();
        for flags in [5, 6, 7, 8] {
            bytes[12] = flags;
            assert_eq!(Preface::decode(&bytes), Err(PrefaceError::Flags(flags.into())));
        }
    }
}
