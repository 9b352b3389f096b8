//! Why a connection is not accepted, and how its client is told.

use std::net::IpAddr;

use transport::Refusal as Words;

use crate::route::RouteError;

const CUDA_ERROR_DEVICE_UNAVAILABLE: i32 = 46;
const CUDA_ERROR_NO_DEVICE: i32 = 100;
const CUDA_ERROR_SYSTEM_NOT_READY: i32 = 802;
const CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: i32 = 803;

/// A reason to refuse. Its text is the sentence the user reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error("connections to this server are made with TLS; this one is in clear")]
    Plain,
    #[error("session {session:?} is not known on this server; it has ended or was opened on another one")]
    UnknownSession { session: String },
    #[error("session {session:?} has ended: {reason}")]
    Ended { session: String, reason: String },
    #[error("the token is not one of session {session:?}")]
    WrongToken { session: String },
    #[error("session {session:?} has {limit} client processes already, which is the most it can have")]
    Full { session: String, limit: u32 },
    #[error("session {session:?} has {limit} client processes that have not begun yet; one more must wait")]
    Beginning { session: String, limit: usize },
    #[error("the server has just started and does not know session {session:?} yet")]
    NotReady { session: String },
    #[error("session {session:?} has no worker for this process any more")]
    NoWorker { session: String },
    #[error("the worker of this process takes no connection at the moment ({reason})")]
    Busy { reason: String },
    #[error("session {session:?} is closing: {reason}")]
    Closing { session: String, reason: String },
    #[error("the server stops")]
    Stopping,
    #[error("the worker cannot be started: {reason}")]
    Spawn { reason: String },
    #[error("no preface came within {seconds} seconds")]
    Late { seconds: u64 },
    #[error("too many connections wait for acceptance, the oldest was dropped")]
    Crowded,
    #[error("more than {limit} connections of {address} wait for acceptance, the oldest was dropped")]
    CrowdedAddress { address: IpAddr, limit: usize },
}

impl Refusal {
    /// What `cuInit` answers: *there is none*, *it was lost*, *it does not fit*.
    fn code(&self) -> i32 {
        match self {
            Refusal::Route(_) | Refusal::Plain => CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
            Refusal::UnknownSession { .. } | Refusal::WrongToken { .. } | Refusal::Full { .. } => {
                CUDA_ERROR_NO_DEVICE
            }
            Refusal::NoWorker { .. } | Refusal::Closing { .. } | Refusal::Ended { .. } => {
                CUDA_ERROR_DEVICE_UNAVAILABLE
            }
            Refusal::Spawn { .. }
            | Refusal::Late { .. }
            | Refusal::Crowded
            | Refusal::CrowdedAddress { .. }
            | Refusal::Beginning { .. }
            | Refusal::NotReady { .. }
            | Refusal::Stopping
            | Refusal::Busy { .. } => CUDA_ERROR_SYSTEM_NOT_READY,
        }
    }

    /// The session that the connection was for, as it said.
    pub(crate) fn session(&self) -> Option<&str> {
        match self {
            Refusal::UnknownSession { session }
            | Refusal::Ended { session, .. }
            | Refusal::WrongToken { session }
            | Refusal::Full { session, .. }
            | Refusal::Beginning { session, .. }
            | Refusal::NotReady { session }
            | Refusal::NoWorker { session }
            | Refusal::Closing { session, .. } => Some(session),
            _ => None,
        }
    }

    /// Whether a connection is worth keeping for a while: the reason may pass.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Refusal::NotReady { .. } | Refusal::Beginning { .. })
    }

    /// What the client is told.
    pub(crate) fn words(&self) -> Words {
        Words { code: self.code(), reason: self.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use wire::preface::PrefaceError;

    use super::*;

    #[test]
    fn a_version_mismatch_names_both_versions() {
        let error = wire::WireError::Version { given: 7, expected: 1 };
        let text = Refusal::Route(RouteError::Preface(PrefaceError::Version(error))).to_string();
        assert!(text.contains('7') && text.contains('1'), "{text}");
    }
}
