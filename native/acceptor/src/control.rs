//! One control connection: lines in, lines out, both within bounds.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde_json::Value;

use crate::poll::EventFlags;

/// Longest request line. An `openSession` with 64 GPUs has 6 KiB.
pub(crate) const MAX_LINE_BYTES: usize = 1 << 20;
/// An agent that leaves so many bytes unread is dropped. One answer may be larger than this.
const MAX_UNREAD_BYTES: usize = 4 << 20;
const READ_BYTES: usize = 64 << 10;

pub(crate) struct ControlClient {
    pub(crate) socket: OwnedFd,
    pub(crate) is_subscribed: bool,
    /// Answers that will come later.
    pub(crate) owed: usize,
    input: Vec<u8>,
    output: Vec<u8>,
    has_input_ended: bool,
    /// What `epoll` watches at present.
    pub(crate) watched: EventFlags,
}

/// Why a control connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Dropped {
    #[error("it does not read its answers and events: {0} bytes wait")]
    Slow(usize),
    #[error("a line is longer than {MAX_LINE_BYTES} bytes")]
    LongLine,
    #[error("{0}")]
    Io(Errno),
}

impl ControlClient {
    pub(crate) fn new(socket: OwnedFd) -> ControlClient {
        ControlClient {
            socket,
            is_subscribed: false,
            owed: 0,
            input: Vec::new(),
            output: Vec::new(),
            has_input_ended: false,
            watched: EventFlags::IN,
        }
    }

    /// Reads what is there, once, and answers the whole lines of it.
    pub(crate) fn read(&mut self) -> Result<Vec<Vec<u8>>, Dropped> {
        let mut chunk = vec![0; READ_BYTES];
        match rustix::net::recv(&self.socket, &mut chunk[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.has_input_ended = true,
            Ok((received, _)) => self.input.extend_from_slice(&chunk[..received]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(Dropped::Io(error)),
        }
        let mut lines = Vec::new();
        if let Some(end) = self.input.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.input.split_off(end + 1);
            let whole = std::mem::replace(&mut self.input, rest);
            lines.extend(
                whole[..end]
                    .split(|byte| *byte == b'\n')
                    .filter(|line| !line.trim_ascii().is_empty())
                    .map(<[u8]>::to_vec),
            );
        }
        if self.input.len() > MAX_LINE_BYTES || lines.iter().any(|line| line.len() > MAX_LINE_BYTES) {
            return Err(Dropped::LongLine);
        }
        Ok(lines)
    }

    /// Queues a line and sends what the socket takes.
    pub(crate) fn send(&mut self, line: &Value) -> Result<(), Dropped> {
        if self.output.len() > MAX_UNREAD_BYTES {
            return Err(Dropped::Slow(self.output.len()));
        }
        self.output.extend_from_slice(line.to_string().as_bytes());
        self.output.push(b'\n');
        self.flush()
    }

    /// Sends what the socket takes of the queued lines.
    pub(crate) fn flush(&mut self) -> Result<(), Dropped> {
        let mut sent = 0;
        while sent < self.output.len() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.socket, &self.output[sent..], flags) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(Dropped::Io(error)),
            }
        }
        self.output.drain(..sent);
        Ok(())
    }

    /// What `epoll` should watch: nothing to read comes after the end of the input, and a level-triggered
    /// end would be reported for ever.
    pub(crate) fn wanted(&self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, !self.has_input_ended);
        flags.set(EventFlags::OUT, !self.output.is_empty());
        flags
    }

    /// Whether the other end has said all it wants to and heard all that it asked for.
    pub(crate) fn is_done(&self) -> bool {
        self.has_input_ended && self.output.is_empty() && self.owed == 0 && !self.is_subscribed
    }
}
