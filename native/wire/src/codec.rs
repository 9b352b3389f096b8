//! Little-endian encoding of plain values, in order, without padding.
//!
//! [`Writer`] appends to a buffer that its owner reuses from record to record. [`Reader`] is *sticky*: the
//! first value that is not wholly there marks it as failed, and from then on it answers zeroes and empty
//! slices, so that generated code decodes straight through and asks once at the end ([`Reader::finish`]).

use crate::error::WireError;
use crate::handle::Stream;
use crate::record::CallId;

/// Appends values to a byte buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut Vec<u8>,
}

macro_rules! put_scalar {
    ($($name:ident: $type:ty),*) => {$(
        #[doc = concat!("Appends a `", stringify!($type), "`.")]
        pub fn $name(&mut self, value: $type) {
            self.buffer.extend_from_slice(&value.to_le_bytes());
        }
    )*};
}

impl<'a> Writer<'a> {
    /// A writer that appends to `buffer`.
    pub fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self { buffer }
    }

    put_scalar!(put_u8: u8, put_u16: u16, put_u32: u32, put_u64: u64, put_i32: i32, put_i64: i64, put_f32: f32, put_f64: f64);

    /// Appends raw bytes whose count the reader knows (fixed-size fields).
    pub fn put_raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Appends a count of bytes (u64) and the bytes.
    pub fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_u64(bytes.len() as u64);
        self.buffer.extend_from_slice(bytes);
    }

    /// Appends a string as its UTF-8 bytes with their count.
    pub fn put_str(&mut self, text: &str) {
        self.put_bytes(text.as_bytes());
    }

    /// Lets `body` append to the buffer itself: for payloads that are written in one go.
    pub fn with_buffer(&mut self, body: impl FnOnce(&mut Vec<u8>)) {
        body(self.buffer);
    }

    /// Bytes in the buffer so far.
    pub fn position(&self) -> usize {
        self.buffer.len()
    }
}

/// Takes values from a byte slice; see the module's text for what "sticky" means.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    failed: bool,
}

macro_rules! take_scalar {
    ($($name:ident: $type:ty),*) => {$(
        #[doc = concat!("Takes a `", stringify!($type), "`; zero when it is not wholly there.")]
        pub fn $name(&mut self) -> $type {
            match self.rest.split_first_chunk() {
                Some((head, tail)) => {
                    self.rest = tail;
                    <$type>::from_le_bytes(*head)
                }
                None => {
                    self.fail();
                    <$type>::default()
                }
            }
        }
    )*};
}

impl<'a> Reader<'a> {
    /// A reader over all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, failed: false }
    }

    take_scalar!(take_u8: u8, take_u16: u16, take_u32: u32, take_u64: u64, take_i32: i32, take_i64: i64, take_f32: f32, take_f64: f64);

    /// Takes exactly `count` bytes; an empty slice when they are not all there.
    pub fn take_raw(&mut self, count: usize) -> &'a [u8] {
        match self.rest.split_at_checked(count) {
            Some((head, tail)) => {
                self.rest = tail;
                head
            }
            None => {
                self.fail();
                &[]
            }
        }
    }

    /// Takes a fixed-size array; zeroes when it is not wholly there.
    pub fn take_array<const N: usize>(&mut self) -> [u8; N] {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                *head
            }
            None => {
                self.fail();
                [0; N]
            }
        }
    }

    /// Takes a count (u64) and that many bytes.
    pub fn take_bytes(&mut self) -> &'a [u8] {
        let count = self.take_u64();
        match usize::try_from(count) {
            Ok(count) => self.take_raw(count),
            Err(_) => {
                self.fail();
                &[]
            }
        }
    }

    /// Takes a string; one that is not UTF-8 fails the reader.
    pub fn take_str(&mut self) -> &'a str {
        match std::str::from_utf8(self.take_bytes()) {
            Ok(text) => text,
            Err(_) => {
                self.fail();
                ""
            }
        }
    }

    /// Takes a count of items that each need at least `minimum_size` bytes. A count that the rest of the
    /// record cannot hold fails the reader, so nobody reserves memory for a number that was made up.
    pub fn take_count(&mut self, minimum_size: usize) -> usize {
        let count = self.take_u32() as usize;
        if count.saturating_mul(minimum_size.max(1)) > self.rest.len() {
            self.fail();
            return 0;
        }
        count
    }

    /// Marks the record as malformed.
    pub fn fail(&mut self) {
        self.failed = true;
        self.rest = &[];
    }

    /// Whether a value was missing or malformed so far.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Bytes that were not taken yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Ends the decoding of a record of `call`: malformed and left-over bytes are errors.
    pub fn finish(self, call: CallId) -> Result<(), WireError> {
        if self.failed {
            return Err(WireError::Malformed { call });
        }
        if !self.rest.is_empty() {
            return Err(WireError::TrailingBytes { call, count: self.rest.len() });
        }
        Ok(())
    }
}

/// A request: what the client sends for one call.
pub trait Request<'a>: Sized {
    /// The call it belongs to.
    const CALL: CallId;
    /// What comes back (`()` for calls that return nothing but a `CUresult`).
    type Reply: Reply;
    /// Appends the payload.
    fn encode(&self, writer: &mut Writer<'_>);
    /// Takes the payload; a malformed one leaves `reader` failed.
    fn decode(reader: &mut Reader<'a>) -> Self;
    /// The stream that the call puts work on: 0 is the legacy stream of the current context.
    fn stream(&self) -> Option<Stream> {
        None
    }
    /// The stream that the call names, also where it puts no work on it: 0 is the legacy stream of the current context.
    fn named_stream(&self) -> Option<Stream> {
        None
    }
}

/// What a call returns besides its `CUresult`. Encoded also for failed calls (then with zeroes).
/// It owns what it holds: it outlives the buffer that it was received in.
pub trait Reply: Sized {
    /// Appends the payload.
    fn encode(&self, writer: &mut Writer<'_>);
    /// Takes the payload; a malformed one leaves `reader` failed.
    fn decode(reader: &mut Reader<'_>) -> Self;
}

impl Reply for () {
    fn encode(&self, _writer: &mut Writer<'_>) {}
    fn decode(_reader: &mut Reader<'_>) -> Self {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_and_bytes_round_trip() {
        let mut buffer = Vec::new();
        let mut writer = Writer::new(&mut buffer);
        writer.put_u8(1);
        writer.put_u16(2);
        writer.put_u32(3);
        writer.put_u64(4);
        writer.put_i32(-5);
        writer.put_f32(1.5);
        writer.put_bytes(b"abc");
        writer.put_str("µ");
        let mut reader = Reader::new(&buffer);
        assert_eq!(
            (reader.take_u8(), reader.take_u16(), reader.take_u32(), reader.take_u64(), reader.take_i32()),
            (1, 2, 3, 4, -5)
        );
        assert_eq!(reader.take_f32(), 1.5);
        assert_eq!(reader.take_bytes(), b"abc");
        assert_eq!(reader.take_str(), "µ");
        assert_eq!(reader.finish(CallId(7)), Ok(()));
    }

    #[test]
    fn a_missing_byte_fails_once_and_for_all() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.take_u32(), 0);
        assert_eq!(reader.take_u8(), 0);
        assert!(matches!(reader.finish(CallId(7)), Err(WireError::Malformed { call: CallId(7) })));
    }

    #[test]
    fn left_over_bytes_are_an_error() {
        let reader = Reader::new(&[1]);
        assert!(matches!(reader.finish(CallId(7)), Err(WireError::TrailingBytes { count: 1, .. })));
    }

    #[test]
    fn a_length_beyond_the_record_is_refused_without_reserving_memory() {
        let bytes = u64::MAX.to_le_bytes();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.take_bytes(), b"");
        assert!(reader.has_failed());
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0x7f, 0]);
        assert_eq!(reader.take_count(4), 0);
        assert!(reader.has_failed());
    }
}
