//! Connecting, in a process whose signals and descriptors belong to somebody else: interrupted calls go on, and the
//! descriptor gets its final number before it leads anywhere.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, sockopt};

use crate::endpoint::Endpoint;

/// How long one address may take before the next one is tried.
const ONE_ADDRESS: Duration = Duration::from_secs(5);

/// Connects to `endpoint` within `time`.
pub fn connect(
    endpoint: &Endpoint,
    time: Duration,
    place: &impl Fn(OwnedFd) -> OwnedFd,
) -> io::Result<OwnedFd> {
    match endpoint {
        Endpoint::Unix(path) => {
            let address = SocketAddrUnix::new(path)?;
            let descriptor = place(socket(AddressFamily::UNIX, SocketFlags::empty())?);
            // It waits where the other end's queue is full.
            sockopt::set_socket_timeout(&descriptor, sockopt::Timeout::Send, Some(time))?;
            loop {
                match rustix::net::connect(&descriptor, &address) {
                    Ok(()) => break,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                    Err(error) => return Err(error.into()),
                }
            }
            sockopt::set_socket_timeout(&descriptor, sockopt::Timeout::Send, None)?;
            Ok(descriptor)
        }
        Endpoint::Tcp(name) | Endpoint::Tls(name) => {
            let deadline = Instant::now() + time;
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in name.to_socket_addrs()? {
                let left = deadline.saturating_duration_since(Instant::now());
                match connect_tcp(address, left.min(ONE_ADDRESS), place) {
                    Ok(descriptor) => return Ok(descriptor),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

fn connect_tcp(
    address: SocketAddr,
    time: Duration,
    place: &impl Fn(OwnedFd) -> OwnedFd,
) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let descriptor = place(socket(family, SocketFlags::NONBLOCK)?);
    let deadline = Instant::now() + time;
    match rustix::net::connect(&descriptor, &address) {
        Ok(()) => {}
        // Interrupted or not, it goes on by itself.
        Err(Errno::INPROGRESS | Errno::INTR) => wait_until_connected(&descriptor, deadline)?,
        Err(error) => return Err(error.into()),
    }
    rustix::io::ioctl_fionbio(&descriptor, false)?;
    Ok(descriptor)
}

fn wait_until_connected(descriptor: &OwnedFd, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::new(descriptor, PollFlags::OUT)], Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return sockopt::socket_error(descriptor)?.map_err(io::Error::from),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn socket(family: AddressFamily, flags: SocketFlags) -> Result<OwnedFd, Errno> {
    socket_with(family, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)
}
