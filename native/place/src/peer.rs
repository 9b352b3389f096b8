//! Who is at the other end of a Unix socket.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// The user who listens at the other end of `socket`, as the kernel noted it. Her process may be invisible here, as a
/// machine's is in a container; then its number is 0, which `rustix` takes for an error.
///
/// Errors: the kernel's, for what is no connected Unix socket.
pub fn user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(io::Error::other)?;
    // SAFETY: both are valid for writes of what `SO_PEERCRED` answers, and `length` says how much room there is.
    let code = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    if code == 0 { Ok(found.uid) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_user_of_the_other_end_is_told() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        // SAFETY: only asks.
        let own = unsafe { libc::geteuid() };
        assert_eq!(user(one.as_fd()).expect("a user"), own);
    }

    #[test]
    fn what_is_no_socket_is_an_error() {
        let file = std::fs::File::open("/dev/null").expect("a file");
        assert_eq!(user(file.as_fd()).expect_err("no socket").raw_os_error(), Some(libc::ENOTSOCK));
    }
}
