//! One direction-pair of bytes between a client process and its worker, which may outlive the connection that carries it.
//!
//! Within a machine (Unix socket) a lane is its socket: it breaks only when an end dies. Over a network it is *resumable*:
//! bytes travel in packets, are kept until the other end has read them, and are sent again on a new connection, so nothing
//! is lost and nothing arrives twice ([ADR 18](../../../docs/adr/0018-resumable-lanes.md)).

mod link;
mod opening;
mod packet;
mod receiving;
mod replay;
mod resumable;
mod sending;
mod silence;
mod unsent;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::resumable::{Resumable, Role};
use crate::socket::{Socket, fill};

pub(crate) use self::link::refusal_in_clear;
pub use self::link::{Link, encode_refusal};
pub use self::opening::{Opening, OpeningError, Refusal};
pub use self::replay::Loan;

/// What a client's end is to say when it connects anew.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// How far it has read the worker's stream.
    pub received: u64,
    /// How long the attempt may take.
    pub time: Duration,
}

/// Makes a new connection. Answers it, and how far the worker has read the client's stream.
pub type Dial = Box<dyn Fn(Attempt) -> io::Result<(Link, u64)> + Send + Sync>;

/// A connection whose other end closed.
#[derive(Debug)]
pub struct Closed(Option<Arc<Link>>);

/// What [`Lane::wait_for_end`] has seen.
#[derive(Debug)]
pub struct Waited {
    /// The present connection, if its other end closed.
    pub closed: Option<Closed>,
    /// Whether the other descriptor can be read.
    pub is_readable: bool,
}

/// A lane; see the module's text.
#[derive(Debug)]
pub struct Lane(Kind);

// Its state is behind locks, and valid between any two statements.
impl UnwindSafe for Lane {}
impl RefUnwindSafe for Lane {}

#[derive(Debug)]
enum Kind {
    Bare(Socket),
    Resumable(Box<Resumable>),
}

impl Lane {
    /// A lane that ends with its socket.
    pub fn bare(link: Link) -> Lane {
        Lane(Kind::Bare(link.into_socket()))
    }

    /// A client's lane, which makes a new connection by `dial` when `link` breaks, for `grace` at most.
    pub fn client(link: Link, dial: Dial, grace: Duration) -> Lane {
        Lane(Kind::Resumable(Box::new(Resumable::new(Role::Client(dial), grace, link))))
    }

    /// A worker's lane, which waits for a new connection when `link` breaks, for `grace` at most. `tell` is called when
    /// a connection comes or goes.
    pub fn worker(link: Link, grace: Duration, tell: Box<dyn Fn() + Send + Sync>) -> Lane {
        Lane(Kind::Resumable(Box::new(Resumable::new(Role::Worker(tell), grace, link))))
    }

    /// Whether a broken connection is not its end.
    pub fn is_resumable(&self) -> bool {
        matches!(self.0, Kind::Resumable(_))
    }

    /// Sends all parts, in order; they may be reused when this returns.
    pub fn send_all(&self, parts: &[&[u8]]) -> io::Result<()> {
        match &self.0 {
            Kind::Bare(socket) => socket.send_all(parts),
            Kind::Resumable(lane) => lane.send_all(parts),
        }
    }

    /// Sends `front` and behind it the bytes of `loan` from `skip` on, and keeps it until nothing of it may have to be sent again or
    /// [`Lane::repay`] asks for it.
    pub fn send_loan(&self, front: &[u8], loan: Loan, skip: usize) -> io::Result<()> {
        match &self.0 {
            Kind::Bare(socket) => {
                socket.send_all(&[front, loan.as_ref().as_ref().get(skip..).unwrap_or(&[])])
            }
            Kind::Resumable(lane) => lane.send_loan(front, loan, skip),
        }
    }

    /// Gives all loans back, and copies what may have to be sent again.
    pub fn repay(&self) -> io::Result<()> {
        match &self.0 {
            Kind::Bare(_) => Ok(()),
            Kind::Resumable(lane) => lane.repay(),
        }
    }

    /// Takes over what can be sent without waiting, and says how much that was; [`Lane::has_backlog`] tells whether all of
    /// it has left.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Kind::Bare(socket) => socket.send_now(bytes),
            Kind::Resumable(lane) => lane.send_now(bytes),
        }
    }

    /// Whether bytes that were taken over have not left; [`Lane::flush`] sends them.
    pub fn has_backlog(&self) -> bool {
        match &self.0 {
            Kind::Bare(_) => false,
            Kind::Resumable(lane) => lane.has_backlog(),
        }
    }

    /// Waits until everything has left that was taken over.
    pub fn flush(&self) -> io::Result<()> {
        match &self.0 {
            Kind::Bare(_) => Ok(()),
            Kind::Resumable(lane) => lane.flush(),
        }
    }

    /// Receives some bytes; 0 means that the other end closed.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Kind::Bare(socket) => socket.receive(buffer),
            Kind::Resumable(lane) => lane.receive(buffer),
        }
    }

    /// Like [`Lane::receive`], but `None` instead of waiting: for those who spin before they park.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match &self.0 {
            Kind::Bare(socket) => socket.try_receive(buffer),
            Kind::Resumable(lane) => lane.try_receive(buffer),
        }
    }

    /// Fills the whole buffer; an end before that is an error of kind `UnexpectedEof`.
    pub fn receive_exact(&self, buffer: &mut [u8]) -> io::Result<()> {
        fill(buffer, |rest| self.receive(rest))
    }

    /// Waits until something may have arrived, `time` at most.
    pub fn wait_for_arrival(&self, time: Duration) {
        match &self.0 {
            Kind::Bare(socket) => socket.wait_until_ready(true, false, time),
            Kind::Resumable(lane) if lane.has_ready.load(Ordering::Acquire) => {}
            Kind::Resumable(lane) => match lane.link() {
                Some(link) => link.socket().wait_until_ready(true, false, time),
                None => std::thread::sleep(time.min(Duration::from_millis(10))),
            },
        }
    }

    /// Waits until something may have arrived or `other` can be read. Answers whether it may be the former. Whoever owns
    /// `other` makes it readable when a connection comes or goes.
    pub fn wait_with(&self, other: BorrowedFd<'_>) -> io::Result<bool> {
        let link;
        let descriptor = match &self.0 {
            Kind::Bare(socket) => Some(socket.as_fd()),
            Kind::Resumable(lane) => {
                if lane.has_ready.load(Ordering::Acquire) {
                    return Ok(true);
                }
                link = lane.link();
                link.as_ref().map(|link| link.socket().as_fd())
            }
        };
        let mut descriptors = vec![PollFd::from_borrowed_fd(other, PollFlags::IN)];
        descriptors.extend(descriptor.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN)));
        match poll(&mut descriptors, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(descriptors.get(1).is_some_and(|descriptor| !descriptor.revents().is_empty()))
    }

    /// Waits until the other end of the present connection closed, `readable` can be read, or `time` is over.
    pub fn wait_for_end(&self, readable: BorrowedFd<'_>, time: Duration) -> io::Result<Waited> {
        let link = self.resumable_link();
        let descriptor = self.descriptor(link.as_deref());
        let mut descriptors = vec![PollFd::from_borrowed_fd(readable, PollFlags::IN)];
        descriptors
            .extend(descriptor.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::RDHUP)));
        let time = Timespec::try_from(time).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut descriptors, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |place: usize| descriptors.get(place).is_some_and(|one| !one.revents().is_empty());
        let (is_readable, is_closed) = (is_ready(0), is_ready(1));
        drop(descriptors);
        Ok(Waited { closed: is_closed.then_some(Closed(link)), is_readable })
    }

    /// Whether something has arrived that nobody has read yet.
    pub fn has_unread(&self) -> bool {
        let link = self.resumable_link();
        self.descriptor(link.as_deref())
            .is_some_and(|socket| rustix::io::ioctl_fionread(socket).is_ok_and(|count| count > 0))
    }

    /// The present connection of a lane that can have another one.
    fn resumable_link(&self) -> Option<Arc<Link>> {
        match &self.0 {
            Kind::Bare(_) => None,
            Kind::Resumable(lane) => lane.link(),
        }
    }

    /// The socket that bytes come from now; `link` is the lane's.
    fn descriptor<'a>(&'a self, link: Option<&'a Link>) -> Option<BorrowedFd<'a>> {
        match &self.0 {
            Kind::Bare(socket) => Some(socket.as_fd()),
            Kind::Resumable(_) => link.map(|link| link.socket().as_fd()),
        }
    }

    /// Gives a connection up whose other end closed, unless another one took its place. What it brought should have been
    /// read before.
    pub fn give_up(&self, closed: &Closed) {
        if let (Kind::Resumable(lane), Closed(Some(link))) = (&self.0, closed) {
            lane.broken(link, &io::ErrorKind::UnexpectedEof.into());
        }
    }

    /// Whether nothing more will come: the other end closed in order, or did not come back in time.
    pub fn is_over(&self) -> bool {
        match &self.0 {
            Kind::Bare(_) => false,
            Kind::Resumable(lane) => lane.is_over(),
        }
    }

    /// A client connects anew: gives the old connection up, and answers how far its stream was read. `None` where
    /// nothing can be resumed.
    pub fn detach(&self) -> Option<u64> {
        match &self.0 {
            Kind::Resumable(lane) if !lane.is_over() => Some(lane.detach()),
            _ => None,
        }
    }

    /// Goes on with another connection, whose other end has read this one's stream up to `peer_received`.
    pub fn attach(&self, link: Link, peer_received: u64) {
        if let Kind::Resumable(lane) = &self.0 {
            lane.attach(link, peer_received);
        }
    }

    /// Looks whether the other end still lives, and connects anew where there is no connection. Called about every second.
    pub fn look(&self) {
        if let Kind::Resumable(lane) = &self.0 {
            lane.look();
        }
    }

    /// Takes what has arrived at a worker's end, unless another thread receives, and answers the client's question whether
    /// this end still lives. Called about every half second.
    pub fn listen(&self) {
        if let Kind::Resumable(lane) = &self.0 {
            lane.listen();
        }
    }

    /// From now on a send that makes no progress for `time` is an error.
    pub fn limit_sending(&self, time: Duration) {
        match &self.0 {
            Kind::Bare(socket) => socket.limit_sending(time),
            Kind::Resumable(lane) => {
                if let Some(link) = lane.link()
                    && link.socket().is_delayed()
                {
                    link.socket().limit_sending(time);
                }
                lane.send_limit.store(milliseconds(time), Ordering::Relaxed);
            }
        }
    }

    /// From now on a receive that gets nothing for `time` is an error of kind `WouldBlock`; `None` for no limit.
    pub fn limit_receiving(&self, time: Option<Duration>) {
        match &self.0 {
            Kind::Bare(socket) => socket.limit_receiving(time),
            Kind::Resumable(lane) => {
                lane.receive_limit.store(time.map_or(0, milliseconds), Ordering::Relaxed);
            }
        }
    }

    /// Ends both directions for good; threads blocked in the lane return.
    pub fn shutdown(&self) {
        match &self.0 {
            Kind::Bare(socket) => socket.shutdown(),
            Kind::Resumable(lane) => lane.shutdown(),
        }
    }
}

impl From<Socket> for Lane {
    fn from(socket: Socket) -> Self {
        Lane(Kind::Bare(socket))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests;
