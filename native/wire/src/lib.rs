//! What travels between a client process and its worker: the codec, the record header, the handshake and
//! the generated request and reply structs of every remoted call.
//!
//! Nothing here does IO and nothing is unsafe. Everything that comes from the other end is checked here
//! once and leaves as a typed value; a failed check is a [`WireError`], which ends the connection.

#![forbid(unsafe_code)]

pub mod bulk;
pub mod code_table;
pub mod codec;
mod error;
pub mod handle;
pub mod handshake;
pub mod notice;
pub mod preface;
pub mod record;

pub use codec::{Reader, Reply, Request, Writer};
pub use error::WireError;
pub use record::{CallId, Header};

#[path = "generated/cuda.rs"]
pub mod cuda;

/// The name of a call, for messages.
pub fn name_of(call: CallId) -> Option<&'static str> {
    match call {
        CallId::HELLO => Some("hello"),
        CallId::REFUSED => Some("refused"),
        CallId::GOODBYE => Some("goodbye"),
        CallId::CALLBACK => Some("callback"),
        CallId::OUTPUT => Some("output"),
        CallId::FENCE => Some("fence"),
        CallId::FINISHED => Some("finished"),
        CallId::BULK_READY => Some("bulk lane"),
        other => cuda::name_of(other),
    }
}
