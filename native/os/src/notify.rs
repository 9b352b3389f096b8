//! `sd_notify`: tells the service manager how a service is doing, and gives it descriptors to keep.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt,
};

use crate::error::{Explain, OsError, Result};
use crate::passing;

/// systemd keeps its queue short; somebody else's full one must not hold the caller for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends `state` (lines such as `READY=1`) as one datagram to `address`: a path, or `@` and an abstract name.
pub(crate) fn send(address: &str, state: &str, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let receiver = parse(address)?;
    let explain = || format!("the service manager's socket '{address}' does not take '{}'", one_line(state));
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .explain(|| "no datagram socket")?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE)).explain(explain)?;
    connect(&socket, &receiver).explain(explain)?;
    passing::send_with(&socket, state.as_bytes(), descriptors, SendFlags::NOSIGNAL).explain(explain)?;
    Ok(())
}

fn parse(address: &str) -> Result<SocketAddrUnix> {
    let parsed = match address.as_bytes() {
        [b'@', name @ ..] if !name.is_empty() => SocketAddrUnix::new_abstract_name(name),
        [b'/', ..] => SocketAddrUnix::new(address),
        _ => {
            return Err(OsError::new(
                Errno::INVAL,
                format!("NOTIFY_SOCKET is '{address}', and neither an absolute path nor '@' and a name"),
            ));
        }
    };
    parsed.explain(|| format!("NOTIFY_SOCKET is '{address}', which cannot be the address of a socket"))
}

fn one_line(state: &str) -> String {
    state.trim_end().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn paths_and_abstract_names_are_reached() {
        let name = format!("farpool-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();

        send(path.to_str().unwrap(), "READY=1\nSTATUS=well", &[]).unwrap();
        send(&format!("@{name}"), "STOPPING=1", &[]).unwrap();

        assert_eq!(heard(&by_path), "READY=1\nSTATUS=well");
        assert_eq!(heard(&by_name), "STOPPING=1");
        std::fs::remove_file(&path).unwrap();
        let error = send(path.to_str().unwrap(), "READY=1\n", &[]).unwrap_err();
        assert_eq!(error.errno, Errno::NOENT);
        assert!(error.to_string().contains("does not take 'READY=1'"), "{error}");
    }

    #[test]
    fn other_addresses_are_refused() {
        let long = format!("/{}", "x".repeat(200));
        for (address, errno) in [
            ("vsock:2:1", Errno::INVAL),
            ("@", Errno::INVAL),
            ("", Errno::INVAL),
            (long.as_str(), Errno::NAMETOOLONG),
        ] {
            let error = send(address, "READY=1", &[]).unwrap_err();
            assert_eq!(error.errno, errno, "{error}");
            assert!(error.to_string().contains(address), "{error}");
        }
    }
}
