//! The control socket to the acceptor: the assignment comes in, reports go out.
//!
//! The acceptor may die or be replaced while programs run. A worker then goes on, and waits at a socket of its own for
//! the next acceptor, which speaks the same protocol from there on (ADR 17).

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags,
};
use serde::Serialize;

use crate::account::Account;
use crate::assignment::{Assignment, Passed};
use crate::counters::{Counters, Report};
use crate::memory::Memory;

/// Descriptor of the control socket, by agreement with the acceptor.
const CONTROL: RawFd = 3;
/// Descriptor of the session's ledger, by agreement with the acceptor.
const LEDGER: RawFd = 4;
/// Descriptor of the socket at which the next acceptor comes, by agreement with the acceptor.
const SUCCESSION: RawFd = 5;
/// Descriptor of the file that holds this worker's account, by agreement with the acceptor.
const ACCOUNT: RawFd = 6;
/// Bytes of the largest message: 64 GPUs need some 6 KiB, and each client that is trusted no longer 46 bytes.
const MESSAGE_BYTES: usize = 192 << 10;
/// How often counts are reported while they change.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The control socket, whoever is at its other end.
#[derive(Debug)]
pub struct Control {
    /// None while there is no acceptor. Held while a new one is told everything, so that it misses nothing.
    socket: Mutex<Option<Arc<OwnedFd>>>,
    succession: OwnedFd,
    /// For a new acceptor.
    ledger: Arc<OwnedFd>,
    account: Account,
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

/// Takes the descriptors that the acceptor left open, once.
///
/// Errors: when they are not open, that is, when somebody started the worker by hand.
pub fn inherited() -> anyhow::Result<(Control, Arc<OwnedFd>)> {
    for descriptor in [CONTROL, LEDGER, SUCCESSION, ACCOUNT] {
        // SAFETY: F_GETFD only asks about a number; it has no effect on any memory or descriptor.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == -1 {
            bail!("descriptor {descriptor} is not open: `farpool-worker serve` is started by the acceptor");
        }
    }
    // SAFETY: all are open (checked above), the acceptor passed them to this process alone, and nothing else here
    // refers to them: this function runs once, first thing in `serve`.
    let [socket, ledger, succession, account] =
        [CONTROL, LEDGER, SUCCESSION, ACCOUNT].map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) });
    for descriptor in [&socket, &ledger, &succession, &account] {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)?;
    }
    let ledger = Arc::new(ledger);
    let control = Control {
        socket: Mutex::new(Some(Arc::new(socket))),
        succession,
        ledger: Arc::clone(&ledger),
        account: Account::begin(File::from(account)),
    };
    Ok((control, ledger))
}

impl Control {
    /// Receives the assignment and the client's first connection.
    pub fn assignment(&self) -> anyhow::Result<(Assignment, Arrival)> {
        let socket = self.socket().clone().context("there is no acceptor")?;
        let (message, client) = receive(&socket, RecvFlags::empty()).context("receive the assignment")?;
        let Some(client) = client else { bail!("the acceptor sent no client socket") };
        let assignment = serde_json::from_slice(&message).context("read the assignment")?;
        Ok((assignment, client))
    }

    /// Receives another connection of the client, whenever it comes and from whichever acceptor; `None` when there was
    /// no acceptor for as long as `patience`.
    pub fn next_connection(&self, patience: Duration) -> Option<(Passed, Arrival)> {
        let mut alone_since = None;
        loop {
            let socket = self.socket().clone();
            let rest = match &socket {
                Some(_) => {
                    alone_since = None;
                    None
                }
                None => Some(patience.checked_sub(alone_since.get_or_insert_with(Instant::now).elapsed())?),
            };
            let mut descriptors = vec![PollFd::new(&self.succession, PollFlags::IN)];
            descriptors.extend(socket.as_ref().map(|socket| PollFd::new(&**socket, PollFlags::IN)));
            let rest = rest.and_then(|rest| Timespec::try_from(rest).ok());
            match poll(&mut descriptors, rest.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!("the control socket cannot be watched: {error}");
                    return None;
                }
            }
            let is_ready = |place: usize| descriptors.get(place).is_some_and(|one| !one.revents().is_empty());
            let (has_successor, has_message) = (is_ready(0), is_ready(1));
            if has_message
                && let Some(socket) = socket
                && let Some(next) = self.next_of(&socket)
            {
                return Some(next);
            }
            if has_successor && let Err(error) = self.succeed() {
                tracing::warn!("a new acceptor is not taken: {error:#}");
            }
        }
    }

    fn next_of(&self, socket: &Arc<OwnedFd>) -> Option<(Passed, Arrival)> {
        match receive(socket, RecvFlags::DONTWAIT) {
            Ok((message, arrival)) => match (arrival, serde_json::from_slice(&message)) {
                (Some(arrival), Ok(passed)) => return Some((passed, arrival)),
                (None, _) if message.is_empty() => self.lose(socket, "it has closed its end"),
                _ => tracing::warn!("the acceptor sent a message without a connection"),
            },
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => self.lose(socket, &error.to_string()),
        }
        None
    }

    fn lose(&self, lost: &Arc<OwnedFd>, reason: &str) {
        let mut socket = self.socket();
        if socket.as_ref().is_some_and(|present| Arc::ptr_eq(present, lost)) {
            tracing::warn!("the acceptor is gone: {reason}");
            *socket = None;
        }
    }

    /// Takes a new acceptor, and tells it everything. The newest counts.
    fn succeed(&self) -> anyhow::Result<()> {
        let accepted = rustix::net::accept_with(&self.succession, SocketFlags::CLOEXEC);
        let new = match accepted {
            Ok(new) => new,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Ok(()),
            Err(error) => return Err(error).context("accept a connection"),
        };
        let peer = rustix::net::sockopt::socket_peercred(&new).context("ask who has connected")?;
        if peer.uid != rustix::process::getuid() {
            bail!("user {} is not this worker's", peer.uid.as_raw());
        }
        let mut socket = self.socket();
        let message = self.account.message()?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let ledger = [self.ledger.as_fd()];
        if !ancillary.push(SendAncillaryMessage::ScmRights(&ledger)) {
            bail!("no room for the ledger");
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg(&new, &[IoSlice::new(&message)], &mut ancillary, flags)
            .context("tell it who this is")?;
        tracing::info!(pid = peer.pid.as_raw_nonzero().get(), "taken over by another acceptor");
        *socket = Some(Arc::new(new));
        Ok(())
    }

    fn socket(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells who the client process is, and which layers of the sandbox hold.
    pub fn started(&self, client_pid: u32, program: &str, sandbox: &[String]) {
        self.account.started(client_pid, program, sandbox);
        self.send(&Started { kind: "started", client_pid, program, sandbox });
    }

    /// Tells that a connection was turned away.
    pub fn refused(&self, reason: &str) {
        self.send(&RefusedMessage { kind: "refused", reason });
    }

    /// Reports the counts.
    pub fn report(&self, report: &Report) {
        self.account.report(report, None);
        self.send(report);
    }

    /// Reports the counts for the last time, before this process exits with `code`.
    pub fn report_last(&self, report: &Report, code: i32) {
        self.account.report(report, Some(code));
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
        let Some(socket) = self.socket().clone() else { return };
        match rustix::net::send(&*socket, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) => {}
            Err(error) => tracing::debug!("the acceptor did not take a message: {error}"),
        }
    }
}

/// A message and what came with it.
fn receive(socket: &OwnedFd, flags: RecvFlags) -> rustix::io::Result<(Vec<u8>, Option<Arrival>)> {
    let mut bytes = vec![0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let received =
        rustix::net::recvmsg(socket, &mut slices, &mut ancillary, flags | RecvFlags::CMSG_CLOEXEC)?;
    let arrival = Arrival::of(&mut ancillary);
    bytes.truncate(received.bytes);
    Ok((bytes, arrival))
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
            let (started, busy) = (Instant::now(), counters.busy_nanoseconds.load(Ordering::Relaxed));
            std::thread::sleep(REPORT_EVERY);
            counters.count_waiting(busy, started.elapsed());
            let report = counters.report(memory.per_gpu());
            if last.as_ref() != Some(&report) {
                control.report(&report);
                last = Some(report);
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

    use super::*;

    fn seqpacket() -> OwnedFd {
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .unwrap()
    }

    fn send(socket: &OwnedFd, message: &str, with: &UnixStream) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [with.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let slices = [IoSlice::new(message.as_bytes())];
        rustix::net::sendmsg(socket, &slices, &mut ancillary, SendFlags::empty()).unwrap();
    }

    #[test]
    fn a_new_acceptor_is_told_everything_and_without_any_the_worker_is_an_orphan() {
        let folder = std::env::temp_dir().join(format!("farpool-control-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (first, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        let (succession, address) = (seqpacket(), SocketAddrUnix::new(folder.join("socket")).unwrap());
        rustix::net::bind(&succession, &address).unwrap();
        rustix::net::listen(&succession, 4).unwrap();
        let control = Arc::new(Control {
            socket: Mutex::new(Some(Arc::new(theirs))),
            succession,
            ledger: Arc::new(File::create(folder.join("ledger")).unwrap().into()),
            account: Account::begin(File::create(folder.join("account")).unwrap()),
        });
        let next = {
            let control = Arc::clone(&control);
            move |patience| {
                std::thread::spawn({
                    let control = Arc::clone(&control);
                    move || control.next_connection(patience)
                })
            }
        };
        control.started(7, "train", &["seccomp".to_owned()]);
        drop(first);

        // While nobody listens it counts on.
        control.report(&Counters::default().report(Vec::new()));
        let waiting = next(Duration::from_secs(60));
        let second = seqpacket();
        rustix::net::connect(&second, &address).unwrap();
        let (message, came) = receive(&second, RecvFlags::empty()).unwrap();
        let said: serde_json::Value = serde_json::from_slice(&message).unwrap();
        assert_eq!(
            (&said["type"], &said["clientPid"], &said["program"]),
            (&"adopted".into(), &7.into(), &"train".into())
        );
        assert_eq!((&said["report"]["calls"], &said["exit"]), (&0.into(), &serde_json::Value::Null));
        let ledger = rustix::fs::fstat(&came.unwrap().client).unwrap().st_ino;
        assert_eq!(ledger, rustix::fs::stat(folder.join("ledger")).unwrap().st_ino);

        // The newest counts; the one before is not heard any more.
        let third = seqpacket();
        rustix::net::connect(&third, &address).unwrap();
        receive(&third, RecvFlags::empty()).unwrap();
        let (_client, socket) = UnixStream::pair().unwrap();
        send(&third, "{\"connection\":\"tcp\"}", &socket);
        let (passed, _) = waiting.join().unwrap().expect("a connection");
        assert_eq!(passed.connection, crate::assignment::ConnectionKind::Tcp);
        assert_eq!(receive(&second, RecvFlags::empty()).unwrap().0, b"", "it was let go");

        drop(third);
        assert!(next(Duration::from_millis(50)).join().unwrap().is_none());
        control.report_last(&Counters::default().report(Vec::new()), 3);
        let account = std::fs::read_to_string(folder.join("account")).unwrap();
        let line: serde_json::Value = serde_json::from_str(account.lines().next().unwrap()).unwrap();
        assert_eq!((&line["exit"], &line["pid"]), (&3.into(), &std::process::id().into()));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
