//! The control socket to the acceptor: the assignment comes in, reports go out.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use serde::Serialize;

use crate::assignment::{Assignment, Passed};
use crate::counters::{Counters, Report};
use crate::memory::Memory;

/// Descriptor of the control socket, by agreement with the acceptor.
const CONTROL: RawFd = 3;
/// Descriptor of the session's ledger, by agreement with the acceptor.
const LEDGER: RawFd = 4;
/// Bytes of the largest assignment: 64 GPUs need some 6 KiB.
const ASSIGNMENT_BYTES: usize = 64 << 10;
/// How often counts are reported while they change.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The control socket.
#[derive(Debug)]
pub struct Control {
    socket: OwnedFd,
}

#[derive(Serialize)]
struct RefusedMessage<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    reason: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Started<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    client_pid: u32,
    program: &'a str,
    sandbox: &'a [String],
}

/// Takes the two descriptors that the acceptor left open, once.
///
/// Errors: when they are not open, that is, when somebody started the worker by hand.
pub fn inherited() -> anyhow::Result<(Control, OwnedFd)> {
    for descriptor in [CONTROL, LEDGER] {
        // SAFETY: F_GETFD only asks about a number; it has no effect on any memory or descriptor.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == -1 {
            bail!("descriptor {descriptor} is not open: `farpool-worker serve` is started by the acceptor");
        }
    }
    // SAFETY: both are open (checked above), the acceptor passed them to this process alone, and nothing else
    // here refers to them: this function runs once, first thing in `serve`.
    let (socket, ledger) = unsafe { (OwnedFd::from_raw_fd(CONTROL), OwnedFd::from_raw_fd(LEDGER)) };
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::fcntl_setfd(&ledger, rustix::io::FdFlags::CLOEXEC)?;
    Ok((Control { socket }, ledger))
}

impl Control {
    /// Receives the assignment and the client's first connection.
    pub fn assignment(&self) -> anyhow::Result<(Assignment, Arrival)> {
        let mut bytes = vec![0; ASSIGNMENT_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
        .context("receive the assignment")?;
        let Some(client) = Arrival::of(&mut ancillary) else { bail!("the acceptor sent no client socket") };
        let assignment = serde_json::from_slice(&bytes[..received.bytes]).context("read the assignment")?;
        Ok((assignment, client))
    }

    /// Receives another connection of the client, whenever it comes; `None` when the acceptor is gone.
    pub fn next_connection(&self) -> Option<(Passed, Arrival)> {
        loop {
            let mut bytes = [0; 1024];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            match rustix::net::recvmsg(&self.socket, &mut slices, &mut ancillary, flags) {
                Ok(received) => {
                    let message = &bytes[..received.bytes];
                    match (Arrival::of(&mut ancillary), serde_json::from_slice(message)) {
                        (Some(arrival), Ok(passed)) => return Some((passed, arrival)),
                        (None, _) if received.bytes == 0 => return None,
                        _ => tracing::warn!("the acceptor sent a message without a connection"),
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::warn!("the control socket cannot be read: {error}");
                    return None;
                }
            }
        }
    }

    /// The socket itself; it hangs up when the acceptor is gone.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Tells who the client process is, and which layers of the sandbox hold.
    pub fn started(&self, client_pid: u32, program: &str, sandbox: &[String]) {
        self.send(&Started { kind: "started", client_pid, program, sandbox });
    }

    /// Tells that a connection was turned away.
    pub fn refused(&self, reason: &str) {
        self.send(&RefusedMessage { kind: "refused", reason });
    }

    /// Reports the counts.
    pub fn report(&self, report: &Report) {
        self.send(report);
    }

    /// An acceptor that is gone or slow must not stop the program that is served: what cannot be sent is
    /// dropped, the next report says more anyway.
    fn send(&self, message: &impl Serialize) {
        let bytes = match serde_json::to_vec(message) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!("a control message could not be written: {error}");
                return;
            }
        };
        match rustix::net::send(&self.socket, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) => {}
            Err(error) => tracing::debug!("the acceptor did not take a message: {error}"),
        }
    }
}

/// A connection that the acceptor has passed on.
#[derive(Debug)]
pub struct Arrival {
    /// The client's socket.
    pub client: OwnedFd,
    /// For TLS, this server's certificate and key.
    pub identity: Option<OwnedFd>,
}

impl Arrival {
    fn of(ancillary: &mut RecvAncillaryBuffer<'_>) -> Option<Arrival> {
        let mut descriptors = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let mut descriptors = descriptors.next()?;
        Some(Arrival { client: descriptors.next()?, identity: descriptors.next() })
    }
}

/// Reports the counts every second while they change, for as long as the process lives.
pub fn report_regularly(
    control: Arc<Control>,
    counters: Arc<Counters>,
    memory: Arc<Memory>,
) -> io::Result<()> {
    std::thread::Builder::new().name("reports".into()).spawn(move || {
        let mut last = None;
        loop {
            std::thread::sleep(REPORT_EVERY);
            let report = counters.report(memory.per_gpu());
            if last.as_ref() != Some(&report) {
                control.report(&report);
                last = Some(report);
            }
        }
    })?;
    Ok(())
}
