//! Who is at the other end of a Unix socket.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::sockopt;

use crate::error::{OsError, Result};
use crate::process;

/// As the kernel knew them when the peer connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Process, user and group that connected.
pub(crate) fn credentials(socket: BorrowedFd<'_>) -> Result<Credentials> {
    let number = socket.as_raw_fd();
    let explain = |errno| OsError::new(errno, format!("the peer of descriptor {number} is not known"));
    // A socket that is not connected has no peer, which the kernel tells as process 0 and user -1.
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    get_option(socket, libc::SO_PEERCRED, &mut found).map_err(explain)?;
    if found.uid == u32::MAX {
        // TCP and other families answer it, too, and have none.
        let is_unix = sockopt::socket_domain(socket).map_err(explain)? == rustix::net::AddressFamily::UNIX;
        return Err(explain(if is_unix { Errno::NOTCONN } else { Errno::OPNOTSUPP }));
    }
    Ok(Credentials { pid: found.pid, uid: found.uid, gid: found.gid })
}

/// A pidfd of the process that connected.
pub(crate) fn pidfd(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut found: RawFd = -1;
    match get_option(socket, libc::SO_PEERPIDFD, &mut found) {
        Ok(()) => {
            // SAFETY: the kernel has just opened this descriptor for us, and nobody else has its number.
            Ok(unsafe { OwnedFd::from_raw_fd(found) })
        }
        // Linux before 6.5.
        Err(Errno::NOPROTOOPT) => pidfd_by_number(socket),
        Err(errno) => {
            let number = socket.as_raw_fd();
            Err(OsError::new(errno, format!("no pidfd of the peer of descriptor {number}")))
        }
    }
}

/// Where the kernel has only the peer's number. It may have become another process's if the peer ended between its
/// connecting and now; that it changes from here on is noticed.
fn pidfd_by_number(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    let peer = credentials(socket)?;
    if peer.pid == 0 {
        return Err(OsError::new(
            Errno::SRCH,
            format!("the peer of descriptor {} is in a pid namespace that is not ours", socket.as_raw_fd()),
        ));
    }
    process::pidfd_of(peer.pid)
}

/// `getsockopt` at the level of sockets, for what rustix has no function for.
fn get_option<T: Copy>(
    socket: impl AsFd,
    option: libc::c_int,
    value: &mut T,
) -> std::result::Result<(), Errno> {
    let Ok(mut length) = libc::socklen_t::try_from(size_of::<T>()) else { return Err(Errno::INVAL) };
    // SAFETY: `value` and `length` outlive the call, the kernel writes at most `length` bytes to `value`, and the two
    // types it is used with (a struct of integers, an integer) may hold any bytes.
    let status = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_mut(value).cast(),
            &raw mut length,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    fn own_pid() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn the_peer_of_a_pair_is_whoever_made_it() {
        let (one, _other) = UnixStream::pair().unwrap();

        let found = credentials(one.as_fd()).unwrap();

        assert_eq!(found.pid, own_pid());
        assert_eq!(found.uid, rustix::process::getuid().as_raw());
        assert_eq!(found.gid, rustix::process::getgid().as_raw());
    }

    #[test]
    fn both_ways_to_a_pidfd_find_the_process() {
        let (one, _other) = UnixStream::pair().unwrap();

        for found in [pidfd(one.as_fd()).unwrap(), pidfd_by_number(one.as_fd()).unwrap()] {
            assert!(!process::has_ended(&found).unwrap());
            let information =
                std::fs::read_to_string(format!("/proc/self/fdinfo/{}", found.as_raw_fd())).unwrap();
            assert!(information.lines().any(|line| line == format!("Pid:\t{}", own_pid())), "{information}");
        }
    }

    #[test]
    fn sockets_without_such_a_peer_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let folder = std::env::temp_dir().join(format!("farpool-peer-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let unconnected =
            rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None)
                .unwrap();
        let listening = UnixListener::bind(folder.join("socket")).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();

        assert_eq!(credentials(tcp.as_fd()).unwrap_err().errno, Errno::OPNOTSUPP);
        assert_eq!(credentials(unconnected.as_fd()).unwrap_err().errno, Errno::NOTCONN);
        assert!(credentials(listening.as_fd()).is_ok(), "a listener's peer is itself");
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(credentials(file.as_fd()).unwrap_err().errno, Errno::NOTSOCK);
    }
}
