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

/// Work of a stream is finished, and the bytes of its copies to the client have been sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// The stream as the client knows it; 0 for the legacy stream of the context.
    pub stream: u64,
    /// Index of the context.
    pub context: u32,
    /// Number of the record up to which its work is finished.
    pub number: u64,
    /// `CUresult` that it has ended with.
    pub code: i32,
    /// An earlier call that failed and that nobody waits for.
    pub failed: Failed,
}

/// A call that failed and that nobody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failed {
    /// The call; 0 for none.
    pub call: u16,
    /// Index of the context that it was made in; 0 for none.
    pub context: u32,
    /// Its `CUresult`.
    pub code: i32,
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

impl Finished {
    /// Appends the payload.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u64(self.stream);
        writer.put_u32(self.context);
        writer.put_u64(self.number);
        writer.put_i32(self.code);
        writer.put_u16(self.failed.call);
        writer.put_u32(self.failed.context);
        writer.put_i32(self.failed.code);
    }

    /// Takes the payload; a malformed one leaves `reader` failed.
    pub fn decode(reader: &mut Reader<'_>) -> Self {
        Finished {
            stream: reader.take_u64(),
            context: reader.take_u32(),
            number: reader.take_u64(),
            code: reader.take_i32(),
            failed: Failed { call: reader.take_u16(), context: reader.take_u32(), code: reader.take_i32() },
        }
    }
}
