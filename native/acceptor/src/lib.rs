//! The acceptor owns the data port of a server. It knows the sessions that the agent opened, checks the
//! 96-byte preface of each new connection against them, gives the socket to a new worker process, and
//! tells the agent how workers start and end. It has no CUDA and reads nothing of a connection beyond the
//! preface.
//!
//! One thread, one `epoll` loop ([`server`]), which never blocks: sockets are read with `MSG_DONTWAIT`,
//! answers to agents are buffered within a bound, and no lock is waited for. Every source of events has
//! a token that is never used twice, so an event or a timer that comes too late finds nothing.
//!
//! Workers are meant to outlive the acceptor one day (an upgrade that programs do not notice), so they run
//! in sessions of their own, write their logs by themselves, and get no `PR_SET_PDEATHSIG`.

pub mod options;
pub mod protocol;
pub mod server;
pub mod worker_protocol;

mod clock;
mod control;
mod listen;
mod pending;
mod poll;
mod refusal;
mod route;
mod session;
mod spawn;
