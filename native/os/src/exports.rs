//! What JavaScript sees. `packages/os/src/add-on.ts` describes the same in TypeScript.

use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::path::Path;

use napi::bindgen_prelude::{Buffer, Function};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;

use crate::error::OsError;
use crate::watch::{self, Interest};
use crate::{borrowed, listen, notify, passing, peer, process};

/// Its status becomes `code` of the error that JavaScript catches.
type Failure = napi::Error<String>;

impl From<OsError> for Failure {
    fn from(error: OsError) -> Self {
        Failure::new(error.code(), error.to_string())
    }
}

/// Who connected.
#[napi(object)]
pub struct PeerCredentials {
    /// 0 when the process is in a pid namespace that is not ours.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// A message, or the end of the stream, which has neither bytes nor descriptors.
#[napi(object)]
pub struct ReceivedMessage {
    /// What was sent.
    pub bytes: Buffer,
    /// The receiver closes them.
    pub descriptors: Vec<RawFd>,
}

/// Process, user and group that connected a Unix socket.
#[napi]
pub fn peer_credentials(socket: RawFd) -> Result<PeerCredentials, Failure> {
    let found = borrowed::with(socket, peer::credentials)?;
    Ok(PeerCredentials { pid: found.pid, uid: found.uid, gid: found.gid })
}

/// A pidfd of the process that connected a Unix socket.
#[napi]
pub fn peer_pidfd(socket: RawFd) -> Result<RawFd, Failure> {
    Ok(borrowed::with(socket, peer::pidfd).map(OwnedFd::into_raw_fd)?)
}

/// When a process began, in clock ticks since boot.
#[napi]
pub fn process_start(pid: i32) -> Result<i64, Failure> {
    // A number of JavaScript is exact up to 2^53: ticks are hundredths of a second.
    Ok(i64::try_from(process::start(pid)?).unwrap_or(i64::MAX))
}

/// Whether the process of a pidfd has ended.
#[napi]
pub fn process_has_ended(pidfd: RawFd) -> Result<bool, Failure> {
    Ok(borrowed::with(pidfd, |pidfd| process::has_ended(pidfd))?)
}

/// Calls back once when the descriptor is ready; does not keep Node alive. Answers the number of the watch.
#[napi]
pub fn watch_descriptor(
    descriptor: RawFd,
    for_writing: bool,
    then: Function<'_, (), ()>,
) -> Result<i64, Failure> {
    let failed = |error: napi::Error| {
        Failure::new("EINVAL".into(), format!("the callback of a watch cannot be kept: {}", error.reason))
    };
    let then = then.build_threadsafe_function::<()>().weak::<true>().build().map_err(failed)?;
    let interest = if for_writing { Interest::Writable } else { Interest::Readable };
    let number = borrowed::with(descriptor, |descriptor| {
        let call = Box::new(move || {
            // The answer tells that Node is ending, and then nobody listens.
            let _ = then.call((), ThreadsafeFunctionCallMode::NonBlocking);
        });
        watch::start(descriptor, interest, call)
    })?;
    // A counter of watches: it stays far below 2^53.
    Ok(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Forgets a watch, whether it has told or not.
#[napi]
pub fn stop_watching(number: i64) {
    if let Ok(number) = u64::try_from(number) {
        watch::stop(number);
    }
}

/// `sd_notify` to the given address, with descriptors for the store if there are any.
#[napi]
pub fn notify_service_manager(
    address: String,
    state: String,
    descriptors: Vec<RawFd>,
) -> Result<(), Failure> {
    Ok(borrowed::with_all(&descriptors, |descriptors| notify::send(&address, &state, descriptors))?)
}

/// Sends what the socket takes now, and answers how many bytes that was.
#[napi]
pub fn send_message(socket: RawFd, bytes: &[u8], descriptors: Vec<RawFd>) -> Result<u32, Failure> {
    let taken = borrowed::with(socket, |socket| {
        borrowed::with_all(&descriptors, |descriptors| passing::send(socket, bytes, descriptors))
    })?;
    Ok(u32::try_from(taken).unwrap_or(u32::MAX))
}

/// What has arrived: up to `max_bytes` of a stream, or one whole message.
#[napi]
pub fn receive_message(socket: RawFd, max_bytes: u32) -> Result<ReceivedMessage, Failure> {
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let received = borrowed::with(socket, |socket| passing::receive(socket, max_bytes))?;
    Ok(ReceivedMessage {
        bytes: received.bytes.into(),
        descriptors: received.descriptors.into_iter().map(OwnedFd::into_raw_fd).collect(),
    })
}

/// Listens on a port of an IP address.
#[napi]
pub fn listen_tcp(host: String, port: u16) -> Result<RawFd, Failure> {
    Ok(listen::tcp(&host, port).map(OwnedFd::into_raw_fd)?)
}

/// Listens at a path whose file gets the given mode.
#[napi]
pub fn listen_unix(path: String, mode: u32) -> Result<RawFd, Failure> {
    Ok(listen::unix(Path::new(&path), mode).map(OwnedFd::into_raw_fd)?)
}

/// The TCP port of a socket.
#[napi]
pub fn local_port(socket: RawFd) -> Result<u16, Failure> {
    Ok(borrowed::with(socket, listen::local_port)?)
}

/// Bounds what the kernel buffers for a socket, or for those that a listening one will accept.
#[napi]
pub fn set_buffer_sizes(socket: RawFd, receive_bytes: u32, send_bytes: u32) -> Result<(), Failure> {
    Ok(borrowed::with(socket, |socket| listen::set_buffer_sizes(socket, receive_bytes, send_bytes))?)
}
