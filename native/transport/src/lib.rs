//! Bytes between a client process and a server: TCP (with TLS) and Unix sockets behind one type, [`Lane`], which over a
//! network outlives its connections.
//!
//! Sockets block. No send raises SIGPIPE (the client side lives in other people's processes), and every call
//! goes on after a signal.

#![deny(unsafe_code)]

mod connect;
mod delay;
mod duration;
mod endpoint;
mod lane;
mod socket;
mod tls;
mod token;

pub use delay::{EmulatedRtt, EmulatedRttError};
pub use duration::parse_duration;
pub use endpoint::{Endpoint, EndpointError};
pub use lane::{
    Attempt, Closed, Dial, Lane, Link, Loan, Opening, OpeningError, Refusal, Waited, encode_refusal,
};
pub use socket::Socket;
pub use tls::{
    ClientKey, ClientTls, IdentityError, Keys, SPKI_BYTES, ServerTls, TlsError, WorkerIdentity,
    client_handshake, server_handshake, server_name,
};
pub use token::{TOKEN_BYTES, end_token, routing_token};
