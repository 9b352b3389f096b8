//! Why a connection is not accepted, and how its client is told.

use wire::handshake::Refused;
use wire::preface::PrefaceError;
use wire::record::{CallId, encode_record};

const CUDA_ERROR_DEVICE_UNAVAILABLE: i32 = 46;
const CUDA_ERROR_NO_DEVICE: i32 = 100;
const CUDA_ERROR_SYSTEM_NOT_READY: i32 = 802;
const CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: i32 = 803;

/// A reason to refuse. Its text is the sentence the user reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Preface(#[from] PrefaceError),
    #[error("session {session:?} is not known on this server; it has ended or was opened on another one")]
    UnknownSession { session: String },
    #[error("the secret is not that of session {session:?}")]
    WrongSecret { session: String },
    #[error("session {session:?} has {limit} client processes already, which is the most it can have")]
    Full { session: String, limit: u32 },
    #[error("session {session:?} has no worker for the process whose second connection this is")]
    NoWorker { session: String },
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
}

impl Refusal {
    /// What `cuInit` answers: *there is none*, *it was lost*, *it does not fit*.
    fn code(&self) -> i32 {
        match self {
            Refusal::Preface(_) => CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
            Refusal::UnknownSession { .. } | Refusal::WrongSecret { .. } | Refusal::Full { .. } => {
                CUDA_ERROR_NO_DEVICE
            }
            Refusal::NoWorker { .. } | Refusal::Closing { .. } | Refusal::Stopping => {
                CUDA_ERROR_DEVICE_UNAVAILABLE
            }
            Refusal::Spawn { .. } | Refusal::Late { .. } | Refusal::Crowded => CUDA_ERROR_SYSTEM_NOT_READY,
        }
    }

    /// The one record that the client gets.
    pub(crate) fn record(&self) -> Vec<u8> {
        let refused = Refused { code: self.code(), reason: self.to_string() };
        let mut record = Vec::new();
        encode_record(&mut record, CallId::REFUSED, 0, 0, 0, |writer| refused.encode(writer));
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_mismatch_names_both_versions() {
        let error = wire::WireError::Version { given: 7, expected: 1 };
        let text = Refusal::Preface(PrefaceError::Version(error)).to_string();
        assert!(text.contains('7') && text.contains('1'), "{text}");
    }
}
