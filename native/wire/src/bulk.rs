//! The bulk lane: a second connection of a client process, for data that must not hold up the records behind it.
//!
//! A record that is long travels in two halves. The first, with [`flags::BULK`](crate::record::flags::BULK), takes its
//! place among the others: a request's ends with the length of its data, a reply's with a [`Mark`]. The data follow on
//! the bulk lane as one frame, which the record's number names.

use crate::codec::{Reader, Request as _, Writer};
use crate::cuda;
use crate::error::WireError;
use crate::record::{CallId, MAX_PAYLOAD};

/// Bytes of data from which on a record takes the bulk lane: what holds up the records behind it for some 30 µs on a
/// link of 4 GB/s.
pub const BULK_FROM: usize = 128 << 10;

/// Bytes of a [`Frame`] on the wire.
pub const FRAME_BYTES: usize = 16;

/// Whether data of a request may take the lane: no later record depends on them but through their stream.
pub fn takes_lane(call: CallId) -> bool {
    [
        <cuda::CuMemcpyHtoDV2<'_>>::CALL,
        <cuda::CuMemcpyHtoDAsyncV2<'_>>::CALL,
        <cuda::CuMemcpy3DAsyncV2<'_>>::CALL,
        <cuda::FarpoolCallbackDone<'_>>::CALL,
    ]
    .contains(&call)
}

/// What stands before the data of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Number of the request that carries the data, or whose reply does.
    pub sequence: u64,
    /// Bytes of data.
    pub length: u64,
}

/// What a reply has in place of its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Bytes that have landed from the bulk lane since its beginning, frames included, once the data are there.
    pub offset: u64,
}

impl Frame {
    /// The 16 bytes.
    pub fn encode(&self) -> [u8; FRAME_BYTES] {
        let mut bytes = [0; FRAME_BYTES];
        bytes[..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// Reads and checks the 16 bytes.
    ///
    /// Errors: more data than a record may have.
    pub fn decode(bytes: &[u8; FRAME_BYTES]) -> Result<Frame, WireError> {
        let mut reader = Reader::new(bytes);
        let frame = Frame { sequence: reader.take_u64(), length: reader.take_u64() };
        if frame.length > u64::from(MAX_PAYLOAD) {
            let length = u32::try_from(frame.length).unwrap_or(u32::MAX);
            return Err(WireError::TooLong { call: CallId::BULK_READY, length, maximum: MAX_PAYLOAD });
        }
        Ok(frame)
    }

    /// Bytes of the frame and its data.
    pub fn extent(&self) -> u64 {
        FRAME_BYTES as u64 + self.length
    }
}

impl Mark {
    /// Appends it to a payload.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u64(self.offset);
    }

    /// Takes it; a malformed one leaves `reader` failed.
    pub fn decode(reader: &mut Reader<'_>) -> Self {
        Mark { offset: reader.take_u64() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_round_trips_and_one_that_is_too_long_is_refused() {
        let frame = Frame { sequence: u64::MAX, length: u64::from(MAX_PAYLOAD) };
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
        assert_eq!(frame.extent(), u64::from(MAX_PAYLOAD) + 16);
        for length in [u64::from(MAX_PAYLOAD) + 1, u64::MAX] {
            assert!(Frame::decode(&Frame { sequence: 1, length }.encode()).is_err());
        }
    }
}
