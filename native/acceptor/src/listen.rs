//! Listening sockets.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// Who is at the other end of a connection, for the log.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    Unix { pid: i32, uid: u32 },
    UnixUnknown,
}

impl Peer {
    /// Its address, where it has come over a network.
    pub(crate) fn address(self) -> Option<IpAddr> {
        match self {
            Peer::Tcp(address) => Some(address.ip()),
            Peer::Unix { .. } | Peer::UnixUnknown => None,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Peer::Tcp(address) => write!(formatter, "{address}"),
            Peer::Unix { pid, uid } => write!(formatter, "unix pid {pid} uid {uid}"),
            Peer::UnixUnknown => formatter.write_str("unix"),
        }
    }
}

/// A listening Unix socket. Its file is removed when it is dropped, unless somebody else holds the socket.
pub(crate) struct UnixSocket {
    pub(crate) listener: UnixListener,
    pub(crate) path: PathBuf,
    /// (device, inode) of our socket file, so that a successor's file is not removed.
    identity: Option<(u64, u64)>,
}

impl UnixSocket {
    /// Listens at `path`. A socket file on which nobody answers is replaced; anything else in the way is
    /// an error.
    pub(crate) fn bind(path: &Path, mode: u32) -> anyhow::Result<UnixSocket> {
        remove_stale(path)?;
        // The file must never be open to others, not even between `bind` and `chmod`.
        let before = rustix::process::umask(Mode::from_raw_mode(0o777));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound.with_context(|| format!("cannot listen at {}", path.display()))?;
        listener.set_nonblocking(true)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("cannot set the mode of {}", path.display()))?;
        let metadata = fs::symlink_metadata(path)?;
        let identity = Some((metadata.dev(), metadata.ino()));
        Ok(UnixSocket { listener, path: path.to_owned(), identity })
    }

    /// A socket that listens at `path` already, and will when this process is gone.
    pub(crate) fn inherit(socket: OwnedFd, path: &Path) -> io::Result<UnixSocket> {
        let listener = UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(UnixSocket { listener, path: path.to_owned(), identity: None })
    }

    /// A connection that waits, if any.
    pub(crate) fn accept(&self) -> io::Result<(OwnedFd, Peer)> {
        let (stream, _) = self.listener.accept()?;
        let peer = match sockopt::socket_peercred(&stream) {
            Ok(credentials) => {
                Peer::Unix { pid: credentials.pid.as_raw_nonzero().get(), uid: credentials.uid.as_raw() }
            }
            Err(_) => Peer::UnixUnknown,
        };
        Ok((stream.into(), peer))
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let ours = self.identity.is_some_and(|identity| {
            fs::symlink_metadata(&self.path)
                .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == identity)
        });
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket file");
        }
    }
}

fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
    };
    if !metadata.file_type().is_socket() {
        bail!("{} exists and is not a socket", path.display());
    }
    // Not blocking: a listener whose queue is full would make a blocking connect wait for it.
    let probe = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => {
            fs::remove_file(path).with_context(|| format!("cannot replace {}", path.display()))
        }
        Ok(()) | Err(Errno::AGAIN) => bail!("{} is in use: another process answers on it", path.display()),
        Err(error) => Err(error).with_context(|| format!("cannot tell whether {} is in use", path.display())),
    }
}

/// The data port, which listens already.
pub(crate) fn inherit_tcp(socket: OwnedFd) -> io::Result<TcpListener> {
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Listens on the data port.
pub(crate) fn bind_tcp(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A connection that waits at the data port, if any.
pub(crate) fn accept_tcp(listener: &TcpListener) -> io::Result<(OwnedFd, Peer)> {
    let (stream, address) = listener.accept()?;
    // Set here for the whole life of the connection: records are small, and waited for; and a client
    // machine that vanished must not keep a worker (and its GPU memory) for the kernel's two hours.
    let set_up = || -> rustix::io::Result<()> {
        sockopt::set_tcp_nodelay(&stream, true)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, std::time::Duration::from_secs(30))?;
        sockopt::set_tcp_keepintvl(&stream, std::time::Duration::from_secs(10))?;
        sockopt::set_tcp_keepcnt(&stream, 3)
    };
    if let Err(error) = set_up() {
        tracing::debug!(%address, %error, "cannot set the options of a connection");
    }
    Ok((stream.into(), Peer::Tcp(address)))
}
