//! Why there is no connection any more.

use std::io;

use transport::Refusal;
use wire::WireError;

/// Why there is no connection any more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Loss {
    /// The worker or the server closed, or the network failed.
    #[error("the connection to the GPU server was lost ({0})")]
    Io(String),
    /// The server says nothing while it is expected to greet.
    #[error("the GPU server does not answer")]
    Silent,
    /// The other end sent what it must not.
    #[error("the GPU server sent a record that cannot be right ({0})")]
    Wire(WireError),
    /// The acceptor or the worker refused the connection.
    #[error("{reason}")]
    Refused {
        /// `CUresult` for the caller.
        code: i32,
        /// The sentence for the user.
        reason: String,
    },
}

impl From<io::Error> for Loss {
    fn from(error: io::Error) -> Self {
        if let Some(refusal) = error.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>()) {
            return refusal.clone().into();
        }
        match error.kind() {
            io::ErrorKind::WouldBlock => Loss::Silent,
            _ => Loss::Io(error.to_string()),
        }
    }
}

impl From<Refusal> for Loss {
    fn from(Refusal { code, reason }: Refusal) -> Self {
        Loss::Refused { code, reason }
    }
}

impl From<WireError> for Loss {
    fn from(error: WireError) -> Self {
        Loss::Wire(error)
    }
}
