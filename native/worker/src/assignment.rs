//! What the acceptor tells a new worker (ARCHITECTURE 4.6).

use std::path::PathBuf;

use serde::Deserialize;

use crate::sandbox::Policy;

/// The first message on the control socket.
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
