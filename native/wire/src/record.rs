//! The 24-byte header before every record, and the ids of the protocol's own records.

use std::fmt;

use crate::codec::{Reader, Writer};
use crate::error::WireError;

/// The wire format that this crate speaks; both ends must agree on it.
pub const WIRE_FORMAT: u32 = 1;

/// Payload bytes a record may have. Larger copies are cut into several records by the sender; 16 MiB keeps
/// a receiver's buffer small and one record below 5 ms on a 4 GB/s link.
pub const MAX_PAYLOAD: u32 = 16 << 20;

/// Bytes of a [`Header`] on the wire.
pub const HEADER_BYTES: usize = 24;

/// The permanent number of a call. Numbers below 16 belong to the protocol itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u16);

impl CallId {
    /// First record of a client: [`crate::handshake::Hello`]; answered by [`crate::handshake::Welcome`].
    pub const HELLO: CallId = CallId(1);
    /// The only record of a refusing acceptor or worker: [`crate::handshake::Refused`].
    pub const REFUSED: CallId = CallId(2);
    /// Last record of a client that ends in order: [`crate::handshake::Goodbye`].
    pub const GOODBYE: CallId = CallId(3);
    /// A notice: a stream has reached something that the client must do ([`crate::notice::Callback`]).
    pub const CALLBACK: CallId = CallId(4);
    /// A notice: what kernels printed ([`crate::notice::Output`]).
    pub const OUTPUT: CallId = CallId(5);
    /// A notice: everything before a fence is done ([`crate::notice::Fence`]).
    pub const FENCE: CallId = CallId(6);
    /// A notice: work of a stream is finished ([`crate::notice::Finished`]).
    pub const FINISHED: CallId = CallId(7);
    /// A notice without a payload: the worker has the client's bulk lane ([`crate::bulk`]).
    pub const BULK_READY: CallId = CallId(8);
}

impl fmt::Display for CallId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match crate::name_of(*self) {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Bits of [`Header::flags`].
pub mod flags {
    /// The sender waits for a reply.
    pub const WANTS_REPLY: u16 = 1;
    /// This record answers the record of the same sequence number.
    pub const IS_REPLY: u16 = 2;
    /// The payload carries a deferred error (call u16, code i32) after its own code.
    pub const DEFERRED_ERROR: u16 = 4;
    /// A record that a worker sends unasked; its sequence number is 0.
    pub const NOTICE: u16 = 8;
    /// The reply is wanted for its bytes, and nobody waits for it.
    pub const DETACHED: u16 = 16;
    /// The data come on the bulk lane ([`crate::bulk`]).
    pub const BULK: u16 = 32;
    /// All bits that have a meaning.
    pub const ALL: u16 = WANTS_REPLY | IS_REPLY | DEFERRED_ERROR | NOTICE | DETACHED | BULK;
}

/// What stands before every payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the payload.
    pub length: u32,
    /// The call.
    pub call: CallId,
    /// Bits of [`flags`].
    pub flags: u16,
    /// Client-made id of the calling thread's current context; 0 for none.
    pub context: u32,
    /// Number of the record in its direction for requests; the request's number for replies.
    pub sequence: u64,
}

impl Header {
    /// Appends the 24 bytes.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u32(self.length);
        writer.put_u16(self.call.0);
        writer.put_u16(self.flags);
        writer.put_u32(self.context);
        writer.put_u32(0);
        writer.put_u64(self.sequence);
    }

    /// Reads and checks the 24 bytes.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, WireError> {
        let mut reader = Reader::new(bytes);
        let header = Header {
            length: reader.take_u32(),
            call: CallId(reader.take_u16()),
            flags: reader.take_u16(),
            context: reader.take_u32(),
            sequence: {
                let reserved = reader.take_u32();
                if reserved != 0 {
                    return Err(WireError::Unexpected {
                        call: CallId(0),
                        reason: "the reserved field is zero",
                    });
                }
                reader.take_u64()
            },
        };
        if header.flags & !flags::ALL != 0 {
            return Err(WireError::Unexpected { call: header.call, reason: "only known flags are set" });
        }
        if header.length > MAX_PAYLOAD {
            return Err(WireError::TooLong {
                call: header.call,
                length: header.length,
                maximum: MAX_PAYLOAD,
            });
        }
        Ok(header)
    }
}

/// Appends one whole record; the payload is what `body` writes.
pub fn encode_record(
    buffer: &mut Vec<u8>,
    call: CallId,
    flags: u16,
    context: u32,
    sequence: u64,
    body: impl FnOnce(&mut Writer<'_>),
) {
    let start = buffer.len();
    Header { length: 0, call, flags, context, sequence }.encode(&mut Writer::new(buffer));
    body(&mut Writer::new(buffer));
    let length = buffer.len() - start - HEADER_BYTES;
    debug_assert!(length <= MAX_PAYLOAD as usize, "a record of {length} bytes was not cut");
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(header: Header) -> [u8; HEADER_BYTES] {
        let mut buffer = Vec::new();
        header.encode(&mut Writer::new(&mut buffer));
        buffer.try_into().expect("a header has 24 bytes")
    }

    #[test]
    fn a_header_round_trips_in_24_bytes() {
        let header = Header { length: 5, call: CallId(77), flags: 3, context: 9, sequence: u64::MAX };
        assert_eq!(Header::decode(&bytes_of(header)), Ok(header));
    }

    #[test]
    fn unknown_flags_reserved_bits_and_huge_lengths_are_refused() {
        let good = Header { length: 5, call: CallId(77), flags: 0, context: 0, sequence: 1 };
        assert!(Header::decode(&bytes_of(Header { flags: 64, ..good })).is_err());
        assert!(Header::decode(&bytes_of(Header { length: MAX_PAYLOAD + 1, ..good })).is_err());
        let mut bytes = bytes_of(good);
        bytes[12] = 1;
        assert!(Header::decode(&bytes).is_err());
    }

    #[test]
    fn encode_record_fills_in_the_length() {
        let mut buffer = vec![0xaa];
        encode_record(&mut buffer, CallId(20), flags::WANTS_REPLY, 3, 4, |writer| writer.put_u64(1));
        assert_eq!(&buffer[1..5], &8u32.to_le_bytes());
        assert_eq!(buffer.len(), 1 + HEADER_BYTES + 8);
    }
}
