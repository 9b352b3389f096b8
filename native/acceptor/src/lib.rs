//! The acceptor owns the data port of a server. It knows the sessions that the agent opened, checks the
//! 96-byte preface of each new connection against them, gives the socket to a new worker process, and
//! tells the agent how workers start and end. It has no CUDA and reads nothing of a connection beyond the
//! preface.
//!
//! One thread, one `epoll` loop ([`server`]), which never blocks: sockets are read with `MSG_DONTWAIT`,
//! answers to agents are buffered within a bound, and no lock is waited for. Every source of events has
//! a token that is never used twice, so an event or a timer that comes too late finds nothing.
//!
//! Workers outlive the acceptor (ADR 17): they run in sessions of their own, write their logs by themselves, get no
//! `PR_SET_PDEATHSIG`, and wait in [`workers_folder`] for the next acceptor, which takes them over
//! (`server/adoption.rs`).

pub mod inherited;
pub mod options;
pub mod protocol;
pub mod server;
pub mod worker_protocol;

mod clock;
mod control;
mod listen;
mod messages;
mod pending;
mod poll;
mod refusal;
mod route;
mod session;
mod spawn;
mod workers_folder;
