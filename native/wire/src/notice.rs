//! What a worker tells its client unasked.

use crate::codec::{Reader, Writer};

/// A stream has reached something that the client must do; the stream waits until it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// What the client called it when it asked for it.
    pub token: u64,
    /// `CUresult` of the stream so far, for callbacks that want to know.
    pub code: i32,
}

/// What kernels printed, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The bytes.
    pub text: Vec<u8>,
}

/// Everything that was queued before a fence is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// What the client called the fence.
    pub number: u64,
}

impl Callback {
    /// Appends the payload.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u64(self.token);
        writer.put_i32(self.code);
    }

    /// Takes the payload; a malformed one leaves `reader` failed.
    pub fn decode(reader: &mut Reader<'_>) -> Self {
        Callback { token: reader.take_u64(), code: reader.take_i32() }
    }
}

impl Fence {
    /// Appends the payload.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u64(self.number);
    }

    /// Takes the payload; a malformed one leaves `reader` failed.
    pub fn decode(reader: &mut Reader<'_>) -> Self {
        Fence { number: reader.take_u64() }
    }
}

impl Output {
    /// Appends the payload.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_bytes(&self.text);
    }

    /// Takes the payload; a malformed one leaves `reader` failed.
    pub fn decode(reader: &mut Reader<'_>) -> Self {
        Output { text: reader.take_bytes().to_vec() }
    }
}
