//! Who may come in: grants, checked without asking anybody.

use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use cuda_abi::CUresult;
use grant::{Expected, Peer, Purpose, Verified};
use transport::{Opening, Refusal};

use crate::assignment::Trust;

/// What the connections of one client process are checked with.
#[derive(Debug)]
pub struct Admission {
    session_id: String,
    connection_id: [u8; 16],
    /// None are asked for without it.
    trust: Mutex<Option<Trust>>,
    /// What the first connection has shown.
    first: OnceLock<Verified>,
}

/// Who is at the other end of a connection.
#[derive(Debug)]
pub enum Other {
    /// The process with this public key (SubjectPublicKeyInfo, DER).
    Key(Vec<u8>),
    /// The process that the kernel names.
    Process {
        /// Its user.
        uid: u32,
        /// Its number.
        pid: u32,
    },
    /// Nobody can know: TCP in clear, where the server was told to allow that.
    Unknown,
}

impl Other {
    /// Whoever has connected the Unix socket `socket`.
    pub fn of_unix_socket(socket: impl AsFd) -> std::io::Result<Other> {
        let credentials = rustix::net::sockopt::socket_peercred(socket)?;
        let pid = credentials.pid.as_raw_nonzero().get().unsigned_abs();
        Ok(Other::Process { uid: credentials.uid.as_raw(), pid })
    }
}

impl Admission {
    /// For the process whose connection id, 32 hexadecimal digits, is `connection_id`.
    pub fn new(session_id: String, connection_id: &str, trust: Option<Trust>) -> anyhow::Result<Admission> {
        let connection_id = u128::from_str_radix(connection_id, 16)?.to_be_bytes();
        Ok(Admission { session_id, connection_id, trust: Mutex::new(trust), first: OnceLock::new() })
    }

    /// From now on `trust` counts; the agent tells it anew when keys change or clients are revoked.
    pub fn renew(&self, trust: Option<Trust>) {
        let mut present = self.trust.lock().unwrap_or_else(PoisonError::into_inner);
        // A session that asks for grants never stops asking.
        if trust.is_some() {
            *present = trust;
        }
    }

    /// Lets a connection in, or says why not.
    pub fn check(&self, opening: &Opening, other: &Other) -> Result<(), Refusal> {
        let trust = self.trust.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(trust) = trust else { return Ok(()) };
        let first = self.first.get();
        let code = if first.is_some() { CUresult::DEVICE_UNAVAILABLE } else { CUresult::NO_DEVICE };
        let refused = |reason: String| Refusal { code: code.0, reason };
        let peer = match other {
            Other::Key(key) => Peer::Key(key),
            Other::Process { uid, pid } => Peer::Process { uid: *uid, pid: *pid },
            // Only an acceptor that was started with --plain-tcp passes such a connection, and checks its routing token:
            // nothing else could be proved in clear.
            Other::Unknown => return Ok(()),
        };
        let expected = Expected {
            session_id: &self.session_id,
            server_id: &trust.server_id,
            manager_keys: &trust.manager_keys,
            revoked: &trust.revoked,
            connection_id: self.connection_id,
            peer,
            purpose: if first.is_some() { Purpose::Resume } else { Purpose::First },
        };
        let verified = grant::verify(&opening.grant, SystemTime::now(), &expected)
            .map_err(|error| refused(error.to_string()))?;
        if let Some(first) = first {
            let is_same =
                first.key == verified.key && first.pid == verified.pid && first.start == verified.start;
            if !is_same {
                return Err(refused(
                    "the grant is of another process than the one that this worker serves".into(),
                ));
            }
        }
        // Nobody else can be first meanwhile: the first connection comes alone.
        let _ = self.first.set(verified);
        Ok(())
    }
}
