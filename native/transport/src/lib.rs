//! Bytes between a client process and a server: TCP and Unix sockets behind one type.
//!
//! Sockets block. No send raises SIGPIPE (the client side lives in other people's processes), and every call
//! goes on after a signal.

#![forbid(unsafe_code)]

mod connect;
mod delay;
mod duration;
mod endpoint;
mod socket;

pub use delay::{EmulatedRtt, EmulatedRttError};
pub use duration::parse_duration;
pub use endpoint::{Endpoint, EndpointError};
pub use socket::Socket;
