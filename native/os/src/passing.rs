//! Descriptors that travel over Unix sockets, beside bytes.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::error::{Explain, OsError, Result};

/// The kernel's own limit (SCM_MAX_FD).
pub(crate) const MAX_DESCRIPTORS: usize = 253;

const ROOM: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// A message, or the end of the stream, which has neither bytes nor descriptors.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Sends what the socket takes now, the descriptors with the first byte; answers how many bytes it took.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<usize> {
    let number = socket.as_raw_fd();
    if bytes.is_empty() && !descriptors.is_empty() {
        return Err(OsError::new(Errno::INVAL, "descriptors need at least one byte to travel with"));
    }
    send_with(socket, bytes, descriptors, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).explain(|| {
        let (length, count) = (bytes.len(), descriptors.len());
        format!("{length} bytes with {count} descriptors cannot be sent over descriptor {number}")
    })
}

pub(crate) fn send_with(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> rustix::io::Result<usize> {
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(Errno::INVAL);
    }
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut ancillary = SendAncillaryBuffer::new(&mut room);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    loop {
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut ancillary, flags) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// What has arrived: at most `max_bytes` of a stream, or one whole message of a socket that has messages.
pub(crate) fn receive(socket: BorrowedFd<'_>, max_bytes: usize) -> Result<Received> {
    let number = socket.as_raw_fd();
    let mut bytes = vec![0; max_bytes];
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut ancillary = RecvAncillaryBuffer::new(&mut room);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Err(Errno::INTR) => {}
            other => break other.explain(|| format!("nothing can be received from descriptor {number}"))?,
        }
    };
    // Taken first: what is refused below is closed.
    let descriptors: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        })
        .flatten()
        .collect();
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(OsError::new(
            Errno::MFILE,
            format!(
                "descriptors that came over descriptor {number} were lost: this process may not open more"
            ),
        ));
    }
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(OsError::new(
            Errno::MSGSIZE,
            format!(
                "a message over descriptor {number} has more than the {max_bytes} bytes that are allowed"
            ),
        ));
    }
    bytes.truncate(message.bytes);
    Ok(Received { bytes, descriptors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::unix::fs::MetadataExt;

    fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn a_file_arrives_open() {
        for kind in [SocketType::STREAM, SocketType::SEQPACKET] {
            let (one, other) = pair(kind);
            let path = std::env::temp_dir().join(format!("farpool-pass-{}", std::process::id()));
            let mut file =
                File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            file.write_all(b"content").unwrap();
            file.rewind().unwrap();

            assert_eq!(send(one.as_fd(), b"take", &[file.as_fd(), one.as_fd()]).unwrap(), 4);
            let received = receive(other.as_fd(), 100).unwrap();

            assert_eq!(received.bytes, b"take");
            assert_eq!(received.descriptors.len(), 2);
            let mut arrived = File::from(received.descriptors.into_iter().next().unwrap());
            assert_eq!(arrived.metadata().unwrap().ino(), file.metadata().unwrap().ino());
            let mut text = String::new();
            arrived.read_to_string(&mut text).unwrap();
            assert_eq!(text, "content");
            assert!(rustix::io::fcntl_getfd(&arrived).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        }
    }

    #[test]
    fn emptiness_and_the_end_are_told_apart() {
        let (one, other) = pair(SocketType::STREAM);

        assert_eq!(receive(other.as_fd(), 10).unwrap_err().errno, Errno::AGAIN);
        drop(one);
        let end = receive(other.as_fd(), 10).unwrap();

        assert!(end.bytes.is_empty() && end.descriptors.is_empty());
        assert_eq!(send(other.as_fd(), b"x", &[]).unwrap_err().errno, Errno::PIPE);
    }

    #[test]
    fn a_full_socket_takes_a_part_and_then_nothing() {
        let (one, other) = pair(SocketType::STREAM);
        let data = vec![7; 4 << 20];

        let taken = send(one.as_fd(), &data, &[]).unwrap();
        assert!(taken > 0 && taken < data.len());
        assert_eq!(send(one.as_fd(), &data[taken..], &[]).unwrap_err().errno, Errno::AGAIN);

        assert_eq!(receive(other.as_fd(), taken).unwrap().bytes, data[..taken]);
    }

    #[test]
    fn messages_are_never_cut() {
        let (one, other) = pair(SocketType::SEQPACKET);
        let file = File::open("/dev/null").unwrap();

        send(one.as_fd(), b"more than four", &[file.as_fd()]).unwrap();
        assert_eq!(receive(other.as_fd(), 4).unwrap_err().errno, Errno::MSGSIZE);
        assert_eq!(send(one.as_fd(), b"", &[file.as_fd()]).unwrap_err().errno, Errno::INVAL);
        let many = vec![file.as_fd(); MAX_DESCRIPTORS + 1];
        assert_eq!(send(one.as_fd(), b"x", &many).unwrap_err().errno, Errno::INVAL);
        assert_eq!(send(one.as_fd(), b"x", &many[1..]).unwrap(), 1);
        assert_eq!(receive(other.as_fd(), 4).unwrap().descriptors.len(), MAX_DESCRIPTORS);
    }
}
