//! Messages of workers, with what the kernel says about them.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, UCred};

/// A message that was received.
pub(crate) struct Received {
    /// Its length, which may be more than there was room for.
    pub(crate) length: usize,
    /// Who has sent it, where the socket asks for that.
    pub(crate) sender: Option<UCred>,
    /// What came with it.
    pub(crate) descriptor: Option<OwnedFd>,
}

/// Takes a message that is there.
pub(crate) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> rustix::io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1), ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    // `TRUNC` answers a message's real length, also where the buffer is shorter.
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC | RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)?;
    let (mut sender, mut descriptor) = (None, None);
    for message in ancillary.drain() {
        match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials),
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptor = descriptors.next(),
            _ => {}
        }
    }
    Ok(Received { length: received.bytes, sender, descriptor })
}
