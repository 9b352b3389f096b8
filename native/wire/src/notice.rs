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

/// Where text belongs that the driver wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard output: what kernels printed.
    Output,
    /// Standard error: which assertions of kernels failed.
    Error,
}

/// What the driver wrote on behalf of kernels, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Where it belongs.
    pub channel: Channel,
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
    /// An earlier call that failed and that nobody waits for (0: none), and its `CUresult`.
    pub failed: (u16, i32),
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
        writer.put_u8(u8::from(self.channel == Channel::Error));
        writer.put_bytes(&self.text);
    }

    /// Takes the payload; a malformed one leaves `reader` failed.
    pub fn decode(reader: &mut Reader<'_>) -> Self {
        let channel = if reader.take_u8() == 0 { Channel::Output } else { Channel::Error };
        Output { channel, text: reader.take_bytes().to_vec() }
    }
}

impl Finished {
    /// Appends the payload.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.put_u64(self.stream);
        writer.put_u32(self.context);
        writer.put_u64(self.number);
        writer.put_i32(self.code);
        writer.put_u16(self.failed.0);
        writer.put_i32(self.failed.1);
    }

    /// Takes the payload; a malformed one leaves `reader` failed.
    pub fn decode(reader: &mut Reader<'_>) -> Self {
        Finished {
            stream: reader.take_u64(),
            context: reader.take_u32(),
            number: reader.take_u64(),
            code: reader.take_i32(),
            failed: (reader.take_u16(), reader.take_i32()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CallId;

    #[test]
    fn output_keeps_its_channel_and_its_bytes() {
        for channel in [Channel::Output, Channel::Error] {
            let output = Output { channel, text: b"a\0b".to_vec() };
            let mut bytes = Vec::new();
            output.encode(&mut Writer::new(&mut bytes));
            let mut reader = Reader::new(&bytes);
            assert_eq!(Output::decode(&mut reader), output);
            assert_eq!(reader.finish(CallId::OUTPUT), Ok(()));
        }
    }
}
