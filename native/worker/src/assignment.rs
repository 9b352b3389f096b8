//! What the acceptor tells a worker (ARCHITECTURE 4.6).

use std::path::PathBuf;
use std::time::Duration;

use grant::ManagerKey;
use serde::Deserialize;

use crate::sandbox::Policy;

/// The first message on the control socket; it comes with the client's first connection.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// The session.
    pub session_id: String,
    /// The client process, as 32 hexadecimal digits.
    pub connection_id: String,
    /// The libcuda.so.1 to execute calls with.
    pub driver: PathBuf,
    /// The GPUs of the session, in order.
    pub gpus: Vec<GpuAssignment>,
    /// This worker's slot in the session's ledger.
    pub slot: u32,
    /// Name of this server.
    #[serde(default)]
    pub server_name: String,
    /// Whether this worker closes a sandbox around itself.
    #[serde(default)]
    pub sandbox: Policy,
    /// What the client's first connection is.
    #[serde(default)]
    pub connection: ConnectionKind,
    /// Seconds that a client may be without a connection.
    #[serde(default = "usual_grace")]
    pub grace_seconds: u64,
    /// What grants are checked with; none are asked for without it.
    #[serde(default)]
    pub trust: Option<Trust>,
    /// Seconds that this worker may be without an acceptor.
    #[serde(default = "usual_orphan")]
    pub orphan_seconds: u64,
}

impl Assignment {
    /// How long a client may be without a connection.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }

    /// How long this worker may be without an acceptor. It cannot be ended with its session meanwhile.
    pub fn orphan_limit(&self) -> Duration {
        Duration::from_secs(self.orphan_seconds)
    }
}

/// A later message: it comes with another connection of the client's.
#[derive(Debug, Clone, Deserialize)]
pub struct Passed {
    /// What the connection is.
    #[serde(default)]
    pub connection: ConnectionKind,
    /// What grants are checked with now.
    #[serde(default)]
    pub trust: Option<Trust>,
}

/// What grants are checked with.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trust {
    /// Id of this server.
    pub server_id: String,
    /// Keys of the manager.
    pub manager_keys: Vec<ManagerKey>,
    /// Thumbprints of client machines' keys that are trusted no longer.
    #[serde(default)]
    pub revoked: Vec<String>,
}

/// What a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionKind {
    /// A Unix socket.
    #[default]
    Unix,
    /// TCP in clear.
    Tcp,
    /// TCP with TLS, whose handshake is this process's.
    Tls,
}

fn usual_grace() -> u64 {
    120
}

fn usual_orphan() -> u64 {
    300
}

/// One GPU of the session.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuAssignment {
    /// As NVIDIA spells it: `GPU-…`.
    pub uuid: String,
    /// Bytes that all processes of the session may use together; null for the whole GPU.
    pub memory_limit_bytes: Option<u64>,
}
