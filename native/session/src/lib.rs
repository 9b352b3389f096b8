//! The session between one client process and its worker, without IO: numbering of records, the calls that
//! wait for an answer, and errors that come late.
//!
//! Every record of a client carries the next number of one sequence; the worker executes them in that order
//! and answers those that want it. What goes wrong with a call that nobody waits for is kept by the worker
//! ([`DeferredError`]) and travels with the next reply. Bytes are moved by others (crate `transport`).

#![forbid(unsafe_code)]

mod client;
mod deferred;
mod worker;

pub use client::{Completion, DetachedReply, PendingCalls, Requests};
pub use deferred::{DeferredError, DeferredErrors, ReplyHead};
pub use worker::RequestOrder;
