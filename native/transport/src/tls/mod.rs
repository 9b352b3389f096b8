//! TLS 1.3 on a socket: rustls shakes hands and hands over the keys; records are then sealed and opened here, each
//! direction by itself ([ADR 15](../../../docs/adr/0015-tls-records.md)).

mod handshake;
mod hello;
mod identity;
mod randomness;
mod record;

pub(crate) use handshake::receive_body;
pub use handshake::{ClientTls, ServerTls, client_handshake, server_handshake};
pub use hello::server_name;
pub use identity::{ClientKey, IdentityError, SPKI_BYTES, TlsError, WorkerIdentity};
pub use record::{MOST_PLAINTEXT, Opened, Opener, RECORD_EXTRA_BYTES, RECORD_HEAD_BYTES, Sealer};

/// What both directions are sealed with.
#[derive(Debug)]
pub struct Keys {
    /// For what this end sends.
    pub sealer: Sealer,
    /// For what this end receives.
    pub opener: Opener,
}
