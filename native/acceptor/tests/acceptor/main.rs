//! The acceptor as a process, with real sockets and real worker processes. The worker is this test binary,
//! started again by a script (see `worker`).

mod accept;
mod agent;
mod ending;
mod refuse;
mod restart;
mod routing;
mod support;
mod worker;
