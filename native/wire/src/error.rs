//! Errors of the wire. They end the connection; a `CUresult` in a reply is data and never one of these.

use crate::record::CallId;

/// Why a record could not be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A value of the payload is missing, too long, or out of range.
    #[error("malformed payload of call {call}")]
    Malformed {
        /// The call.
        call: CallId,
    },
    /// The payload is longer than its call needs.
    #[error("payload of call {call} has {count} bytes too many")]
    TrailingBytes {
        /// The call.
        call: CallId,
        /// How many bytes were left.
        count: usize,
    },
    /// No call has this id.
    #[error("unknown call {call}")]
    UnknownCall {
        /// The call.
        call: CallId,
    },
    /// A record announces more bytes than allowed.
    #[error("record of call {call} announces {length} bytes, at most {maximum} are allowed")]
    TooLong {
        /// The call.
        call: CallId,
        /// Announced payload bytes.
        length: u32,
        /// The limit.
        maximum: u32,
    },
    /// A handle that was never made, or was destroyed, or is of another kind.
    #[error("call {call} names {kind} {id:#x}, which does not exist")]
    UnknownHandle {
        /// The call.
        call: CallId,
        /// The kind the call expects.
        kind: &'static str,
        /// The id given.
        id: u64,
    },
    /// A new handle uses an id that is taken.
    #[error("call {call} makes {kind} {id:#x}, which exists already")]
    HandleTaken {
        /// The call.
        call: CallId,
        /// The kind of the new handle.
        kind: &'static str,
        /// The id given.
        id: u64,
    },
    /// Records do not follow each other.
    #[error("record {given} of call {call} came where record {expected} was expected")]
    Sequence {
        /// The call.
        call: CallId,
        /// The sequence number given.
        given: u64,
        /// The sequence number expected.
        expected: u64,
    },
    /// A record that has no place at this point (a reply from a client, a call before the handshake).
    #[error("call {call} has no place here: {reason}")]
    Unexpected {
        /// The call.
        call: CallId,
        /// What was expected.
        reason: &'static str,
    },
    /// The two ends speak different wire formats.
    #[error("wire format {given} is not spoken here, {expected} is")]
    Version {
        /// The other end's format.
        given: u32,
        /// This end's format.
        expected: u32,
    },
}
