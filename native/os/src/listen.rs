//! Listening sockets that are made here to be held, or passed on, as plain descriptors, and what Node cannot set of one.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Mode, chmod, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen, socket_with,
    sockopt,
};

use crate::error::{Explain, OsError, Result};

/// The kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// They are closed on exec like all of Node's; `stdio` of a spawned process hands one over nevertheless.
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Listens on a TCP port of an IP address; port 0 takes a free one. `::` takes IPv4 as well.
pub(crate) fn tcp(host: &str, port: u16) -> Result<OwnedFd> {
    let ip: IpAddr = host.parse().map_err(|_| {
        OsError::new(
            Errno::INVAL,
            format!("'{host}' is not an IP address to listen on, such as 0.0.0.0, :: or 127.0.0.1"),
        )
    })?;
    let address = SocketAddr::new(ip, port);
    let explain = || format!("cannot listen on {address}");
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, FLAGS, None).explain(explain)?;
    sockopt::set_socket_reuseaddr(&socket, true).explain(explain)?;
    if ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !ip.is_unspecified()).explain(explain)?;
    }
    bind(&socket, &address).explain(explain)?;
    listen(&socket, BACKLOG).explain(explain)?;
    Ok(socket)
}

/// The TCP port that a socket has.
pub(crate) fn local_port(socket: BorrowedFd<'_>) -> Result<u16> {
    let number = socket.as_raw_fd();
    let explain = || format!("descriptor {number} has no TCP port");
    let address = getsockname(socket).explain(explain)?;
    match SocketAddr::try_from(address) {
        Ok(address) => Ok(address.port()),
        Err(_) => Err(OsError::new(Errno::AFNOSUPPORT, explain())),
    }
}

/// The kernel takes at least some two thousand bytes, and doubles what it is told for its own book-keeping.
pub(crate) fn set_buffer_sizes(socket: BorrowedFd<'_>, receive_bytes: u32, send_bytes: u32) -> Result<()> {
    let number = socket.as_raw_fd();
    let explain = || format!("descriptor {number} has no buffers to be bounded");
    let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    sockopt::set_socket_recv_buffer_size(socket, size(receive_bytes)).explain(explain)?;
    sockopt::set_socket_send_buffer_size(socket, size(send_bytes)).explain(explain)
}

/// Listens on a Unix socket at `path` whose file has `mode`. A socket file on which nobody answers is replaced;
/// anything else in the way is an error.
pub(crate) fn unix(path: &Path, mode: u32) -> Result<OwnedFd> {
    let shown = path.display();
    let explain = || format!("cannot listen at {shown}");
    if mode & !0o777 != 0 {
        return Err(OsError::new(Errno::INVAL, format!("{mode:#o} is not the mode of a socket at {shown}")));
    }
    let mode = Mode::from_raw_mode(mode);
    let address = SocketAddrUnix::new(path)
        .explain(|| format!("{shown} cannot be the path of a socket, which has 107 bytes at most"))?;
    remove_stale(path, &address)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).explain(explain)?;
    // The file takes the socket's mode less the umask: it is never open to more than it should be. Changing the umask
    // instead would change it for Node's other threads, too.
    fchmod(&socket, mode).explain(explain)?;
    bind(&socket, &address).explain(explain)?;
    chmod(path, mode).explain(|| format!("cannot set the mode of {shown}"))?;
    listen(&socket, BACKLOG).explain(explain)?;
    Ok(socket)
}

fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<()> {
    let shown = path.display();
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.explain(|| format!("cannot look at {shown}"))?,
    };
    if !metadata.file_type().is_socket() {
        return Err(OsError::new(Errno::EXIST, format!("{shown} exists and is not a socket")));
    }
    // Not blocking: a listener whose queue is full would make a blocking connect wait for it.
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).explain(|| "no socket")?;
    match connect(&probe, address) {
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path).explain(|| format!("cannot replace {shown}")),
        Ok(()) | Err(Errno::AGAIN) => {
            Err(OsError::new(Errno::ADDRINUSE, format!("{shown} is in use, another process answers on it")))
        }
        Err(errno) => Err(OsError::new(errno, format!("cannot tell whether {shown} is in use"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpStream;
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_free_port_is_taken_and_told() {
        for host in ["127.0.0.1", "0.0.0.0", "::", "::1"] {
            let socket = tcp(host, 0).unwrap();
            let port = local_port(socket.as_fd()).unwrap();

            let reached = if host == "::1" { "::1" } else { "127.0.0.1" };
            TcpStream::connect((reached, port)).unwrap().write_all(b"x").unwrap();
            let error = tcp(host, port).unwrap_err();
            assert_eq!(error.errno, Errno::ADDRINUSE);
            assert!(error.to_string().contains(&port.to_string()), "{error}");
        }
        assert_eq!(tcp("localhost", 0).unwrap_err().errno, Errno::INVAL);
        assert_eq!(tcp("203.0.113.7", 0).unwrap_err().errno, Errno::ADDRNOTAVAIL);
    }

    #[test]
    fn buffers_are_bounded() {
        let socket = tcp("127.0.0.1", 0).unwrap();

        set_buffer_sizes(socket.as_fd(), 20_000, 10_000).unwrap();

        assert_eq!(sockopt::socket_recv_buffer_size(&socket).unwrap(), 40_000);
        assert_eq!(sockopt::socket_send_buffer_size(&socket).unwrap(), 20_000);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(set_buffer_sizes(file.as_fd(), 1, 1).unwrap_err().errno, Errno::NOTSOCK);
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = std::env::temp_dir().join(format!("farpool-listen-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("socket");

        drop(unix(&path, 0o600).unwrap());
        let socket = unix(&path, 0o666).unwrap();
        UnixStream::connect(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        let second = unix(&path, 0o600).unwrap_err();
        std::fs::write(folder.join("file"), "").unwrap();
        let foreign = unix(&folder.join("file"), 0o600).unwrap_err();
        let long = unix(&folder.join("x".repeat(107)), 0o600).unwrap_err();
        let portless = local_port(socket.as_fd()).unwrap_err();
        std::fs::remove_dir_all(&folder).unwrap();

        assert_eq!(mode & 0o777, 0o666);
        assert_eq!(second.errno, Errno::ADDRINUSE);
        assert_eq!(foreign.errno, Errno::EXIST);
        assert_eq!(long.errno, Errno::NAMETOOLONG);
        assert_eq!(portless.errno, Errno::AFNOSUPPORT);
        assert_eq!(unix(&path, 0o4755).unwrap_err().errno, Errno::INVAL);
    }
}
