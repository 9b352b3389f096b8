//! One connected stream socket, TCP or Unix.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, sockopt};

use crate::connect::connect;
use crate::delay::{Delay, EmulatedRtt};
use crate::endpoint::Endpoint;

/// Parts that Linux takes in one call (`IOV_MAX`).
const MOST_PARTS: usize = 1024;

/// A connected stream socket.
#[derive(Debug)]
pub struct Socket {
    descriptor: OwnedFd,
    delay: Option<Delayed>,
    /// How long connecting took, which over TCP is one round trip; zero where this end accepted.
    round_trip: Duration,
}

/// Ends the threads of an emulated delay with its socket.
#[derive(Debug)]
struct Delayed(Arc<Delay>);

impl Drop for Delayed {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl Socket {
    /// Connects to `endpoint` within `time`; the descriptor is closed on exec. `place` may put it elsewhere before
    /// anything is sent.
    pub fn connect(
        endpoint: &Endpoint,
        time: Duration,
        place: impl Fn(OwnedFd) -> OwnedFd,
    ) -> io::Result<Socket> {
        let started = Instant::now();
        let descriptor = connect(endpoint, time, &place)?;
        let socket = Socket { descriptor, delay: None, round_trip: started.elapsed() };
        socket.tune_tcp();
        Ok(socket)
    }

    /// Takes over a connected socket that another process accepted.
    pub fn from_descriptor(descriptor: OwnedFd) -> Socket {
        let socket = Socket { descriptor, delay: None, round_trip: Duration::ZERO };
        socket.tune_tcp();
        socket
    }

    /// What is known of how long a round trip takes.
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Notes what the other end knows of how long a round trip takes.
    pub fn note_round_trip(&mut self, time: Duration) {
        self.round_trip = self.round_trip.max(time);
    }

    /// From now on a round trip takes longer by `rtt`, half of it in each direction. For tests: two threads, started
    /// by `spawn` from a name and a body, hold the bytes. Readiness of the descriptor then says nothing.
    pub fn with_emulated_rtt(
        self,
        rtt: EmulatedRtt,
        spawn: impl Fn(&str, Box<dyn FnOnce() + Send>) -> io::Result<()>,
    ) -> io::Result<Socket> {
        if rtt.is_zero() {
            return Ok(self);
        }
        let round_trip = self.round_trip + Duration::from(rtt);
        let kernel = Socket { descriptor: self.descriptor.try_clone()?, delay: None, round_trip };
        let delay = Delay::start(rtt, kernel, spawn)?;
        Ok(Socket { descriptor: self.descriptor, delay: Some(Delayed(delay)), round_trip })
    }

    /// Small records leave at once, and the congestion control suits a short link. On Unix sockets these
    /// options do not exist, and a kernel without `cubic` keeps its default: both are harmless.
    fn tune_tcp(&self) {
        let _ = sockopt::set_tcp_nodelay(&self.descriptor, true);
        let _ = sockopt::set_tcp_congestion(&self.descriptor, "cubic");
        // A machine that vanished is noticed within ten seconds by whoever waits for it, not after the kernel's two
        // hours. No limit on unacknowledged bytes: a program that is stopped is not a dead one.
        let _ = sockopt::set_socket_keepalive(&self.descriptor, true);
        let _ = sockopt::set_tcp_keepidle(&self.descriptor, Duration::from_secs(2));
        let _ = sockopt::set_tcp_keepintvl(&self.descriptor, Duration::from_secs(2));
        let _ = sockopt::set_tcp_keepcnt(&self.descriptor, 4);
    }

    /// Sends all parts, in order, in as few system calls as the kernel allows.
    pub fn send_all(&self, parts: &[&[u8]]) -> io::Result<()> {
        if let Some(Delayed(delay)) = &self.delay {
            return delay.send_all(parts);
        }
        let mut part = 0;
        let mut offset = 0;
        while part < parts.len() {
            if offset == parts[part].len() {
                part += 1;
                offset = 0;
                continue;
            }
            let end = parts.len().min(part + MOST_PARTS);
            let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(end - part);
            slices.push(IoSlice::new(&parts[part][offset..]));
            slices.extend(parts[part + 1..end].iter().map(|bytes| IoSlice::new(bytes)));
            let sent = rustix::net::sendmsg(
                &self.descriptor,
                &slices,
                &mut SendAncillaryBuffer::default(),
                SendFlags::NOSIGNAL,
            );
            let mut sent = match sent {
                Ok(sent) => sent,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            while sent > 0 {
                let here = (parts[part].len() - offset).min(sent);
                sent -= here;
                offset += here;
                if offset == parts[part].len() && sent > 0 {
                    part += 1;
                    offset = 0;
                }
            }
        }
        Ok(())
    }

    /// Sends what the socket takes without waiting, and says how much that was. (A socket with an emulated delay
    /// takes everything.)
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.delay.is_some() {
            return self.send_all(&[bytes]).map(|()| bytes.len());
        }
        let mut sent = 0;
        while sent < bytes.len() {
            match rustix::net::send(
                &self.descriptor,
                &bytes[sent..],
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sent)
    }

    /// Sends what the socket takes of `parts` without waiting, in one call; `None` when it takes nothing. (A socket with
    /// an emulated delay takes everything.)
    pub fn send_some(&self, parts: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        if let Some(Delayed(delay)) = &self.delay {
            let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
            delay.send_all(&parts)?;
            return Ok(Some(parts.iter().map(|part| part.len()).sum()));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            let none = &mut SendAncillaryBuffer::default();
            match rustix::net::sendmsg(&self.descriptor, parts, none, flags) {
                Ok(sent) => return Ok(Some(sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until it may be read or written, as asked; `time` at most.
    pub fn wait_until_ready(&self, to_read: bool, to_write: bool, time: Duration) {
        if let Some(Delayed(delay)) = &self.delay {
            if !to_write {
                delay.wait_until_due(time);
            }
            return;
        }
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, to_read);
        flags.set(PollFlags::OUT, to_write);
        let mut descriptors = [PollFd::new(&self.descriptor, flags)];
        // Whoever reads or writes finds out what went wrong.
        let _ = Timespec::try_from(time).map(|time| poll(&mut descriptors, Some(&time)));
    }

    /// From now on `bytes` must have arrived before who waits is woken: while more is certain to come, waking for every
    /// segment costs the other threads of the machine more than it brings. An end or an error wakes all the same.
    #[expect(unsafe_code, reason = "rustix does not know this option")]
    pub fn wake_from(&self, bytes: usize) {
        let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        let length = u32::try_from(size_of::<libc::c_int>()).unwrap_or_default();
        // SAFETY: the kernel reads one int, which lives until the call returns. Where it refuses, all wake as before.
        unsafe {
            libc::setsockopt(
                self.descriptor.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVLOWAT,
                (&raw const value).cast(),
                length,
            );
        }
    }

    /// Whether readiness of the descriptor says nothing, as a delay is emulated.
    pub fn is_delayed(&self) -> bool {
        self.delay.is_some()
    }

    /// Receives some bytes; 0 means that the other end closed.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.delay {
            Some(Delayed(delay)) => delay.receive(buffer),
            None => Ok(self.receive_with(buffer, RecvFlags::empty())?),
        }
    }

    /// Like [`Socket::receive`], but `None` instead of waiting: for those who spin before they park.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if let Some(Delayed(delay)) = &self.delay {
            return delay.try_receive(buffer);
        }
        match self.receive_with(buffer, RecvFlags::DONTWAIT) {
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn receive_with(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<usize, Errno> {
        loop {
            match rustix::net::recv(&self.descriptor, &mut *buffer, flags) {
                Ok((count, _)) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Fills the whole buffer; an end before that is an error of kind `UnexpectedEof`.
    pub fn receive_exact(&self, buffer: &mut [u8]) -> io::Result<()> {
        fill(buffer, |rest| self.receive(rest))
    }

    /// From now on a send that makes no progress for `time` is an error.
    pub fn limit_sending(&self, time: Duration) {
        if let Some(Delayed(delay)) = &self.delay {
            return delay.limit_sending(time);
        }
        let _ = sockopt::set_socket_timeout(&self.descriptor, sockopt::Timeout::Send, Some(time));
    }

    /// From now on a receive that gets nothing for `time` is an error of kind `WouldBlock`; `None` for no limit. (With
    /// an emulated delay, which is for tests, nothing is limited.)
    pub fn limit_receiving(&self, time: Option<Duration>) {
        if self.delay.is_none() {
            let _ = sockopt::set_socket_timeout(&self.descriptor, sockopt::Timeout::Recv, time);
        }
    }

    /// Ends both directions; threads blocked in the socket return.
    pub fn shutdown(&self) {
        if let Some(Delayed(delay)) = &self.delay {
            return delay.shutdown();
        }
        let _ = rustix::net::shutdown(&self.descriptor, rustix::net::Shutdown::Both);
    }
}

/// Has `receive` fill the whole buffer, piece by piece; an end before that is an error of kind `UnexpectedEof`.
pub(crate) fn fill(
    mut buffer: &mut [u8],
    mut receive: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<()> {
    while !buffer.is_empty() {
        let count = receive(buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[count..];
    }
    Ok(())
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    fn connected(endpoint: &Endpoint) -> Socket {
        Socket::connect(endpoint, Duration::from_secs(10), |descriptor| descriptor).expect("connect")
    }

    #[test]
    fn parts_arrive_in_order_over_tcp_even_when_they_exceed_the_send_buffer() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let endpoint = Endpoint::Tcp(listener.local_addr().expect("address").to_string());
        let receiver = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("read");
            all
        });
        let socket = connected(&endpoint);
        let large: Vec<u8> = (0..5_000_000u32).map(|index| index.to_le_bytes()[0]).collect();
        socket.send_all(&[b"head", &[], &large, b"tail"]).expect("send");
        drop(socket);
        let all = receiver.join().expect("join");
        assert_eq!(&all[..4], b"head");
        assert_eq!(&all[4..all.len() - 4], large.as_slice());
        assert_eq!(&all[all.len() - 4..], b"tail");
    }

    #[test]
    fn more_parts_than_one_call_takes_arrive_too() {
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        let socket = Socket::from_descriptor(ours.into());
        socket.send_all(&vec![b"ab".as_slice(); 3 * MOST_PARTS]).expect("send");
        drop(socket);
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).expect("read");
        assert_eq!(all, b"ab".repeat(3 * MOST_PARTS));
    }

    #[test]
    fn a_peer_that_vanished_is_noticed_within_ten_seconds() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        let socket = connected(&Endpoint::Tcp(address));
        assert!(sockopt::socket_keepalive(&socket).expect("keepalive"));
        let idle = sockopt::tcp_keepidle(&socket).expect("idle time");
        let interval = sockopt::tcp_keepintvl(&socket).expect("interval");
        let count = sockopt::tcp_keepcnt(&socket).expect("count");
        assert!(idle + interval * count <= Duration::from_secs(10));
    }

    #[test]
    fn a_closed_peer_is_an_error_and_not_a_signal() {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let socket = Socket::from_descriptor(ours.into());
        drop(theirs);
        assert_eq!(socket.send_all(&[b"x"]).expect_err("must fail").kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn an_early_end_is_told_from_a_full_buffer() {
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        theirs.write_all(b"abc").expect("write");
        drop(theirs);
        let socket = Socket::from_descriptor(ours.into());
        let mut buffer = [0; 4];
        assert_eq!(
            socket.receive_exact(&mut buffer).expect_err("must fail").kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn a_limited_receive_ends_with_an_error() {
        let (ours, _theirs) = UnixStream::pair().expect("pair");
        let socket = Socket::from_descriptor(ours.into());
        socket.limit_receiving(Some(Duration::from_millis(1)));
        assert_eq!(socket.receive(&mut [0]).expect_err("must fail").kind(), io::ErrorKind::WouldBlock);
    }
}
