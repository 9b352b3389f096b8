//! Grants: signed documents by which a client process shows a worker that it may use a session.
//!
//! There are two links, both checked without asking anybody. The manager signs a *session grant* for the key of a
//! client machine; the holder of that key (a broker) signs a *process grant*, with the session grant inside, for one
//! process and for the key pair that this process made in memory. A process shows that the key is its own in the TLS
//! handshake; over a Unix socket the kernel says which process it is. So a copied grant is worth nothing elsewhere.
//!
//! Both are compact JSON Web Signatures (RFC 7515) with Ed25519 (RFC 8037). Nothing that a document says is believed
//! before its signature has been checked, and what it says of its own algorithm is never believed: there is one.

#![forbid(unsafe_code)]

mod claims;
mod error;
mod jws;
mod verify;

pub use error::{Document, GrantError};
pub use jws::thumbprint;
pub use verify::{Expected, ManagerKey, Peer, Purpose, Verified, verify};

/// The longest grant that is read; real ones have about a thousand bytes.
pub const MAX_GRANT_BYTES: usize = 16 * 1024;

/// How far the clock of the client machine may be ahead of this one: documents begin to be valid that long before
/// they were signed.
pub const CLOCK_LEEWAY_SECONDS: u64 = 600;

/// The longest time that a process may take between its grant and its connection.
pub const PROCESS_GRANT_SECONDS: u64 = 60;
