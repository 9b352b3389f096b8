//! The other end of the raw sockets: a child process that does what it is told.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::Context;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, sockopt};

use crate::options::SocketKind;
use crate::place::{End, Place};

/// What the peer reads and writes at once.
pub const CHUNK: usize = 1 << 20;

/// Bytes of a [`Command`] on the wire.
const COMMAND_BYTES: usize = 40;

/// What the peer shall do next.
#[derive(Clone, Copy)]
pub struct Command {
    pub task: Task,
    /// How often.
    pub count: u64,
    /// Bytes that come in each time.
    pub request: u64,
    /// Bytes that go back each time.
    pub answer: u64,
    /// Spins for what comes in.
    pub spins: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Receives and answers, one after the other.
    Exchange,
    /// Receives everything, then answers one byte.
    Sink,
}

impl Command {
    pub fn encode(&self) -> Vec<u8> {
        let task = u64::from(self.task == Task::Sink);
        [task, self.count, self.request, self.answer, u64::from(self.spins)]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect()
    }

    fn decode(bytes: &[u8; COMMAND_BYTES]) -> Command {
        let at = |index: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[index * 8..index * 8 + 8]);
            u64::from_le_bytes(number)
        };
        Command {
            task: if at(0) == 0 { Task::Exchange } else { Task::Sink },
            count: at(1),
            request: at(2),
            answer: at(3),
            spins: at(4) == 1,
        }
    }
}

/// A plain socket, tuned as Farpool's are: raw means without our protocol, not without these two options.
pub struct Plain {
    descriptor: OwnedFd,
}

impl Plain {
    pub fn tcp(stream: TcpStream) -> Plain {
        let _ = sockopt::set_tcp_nodelay(&stream, true);
        let _ = sockopt::set_tcp_congestion(&stream, "cubic");
        Plain { descriptor: stream.into() }
    }

    pub fn unix(stream: UnixStream) -> Plain {
        Plain { descriptor: stream.into() }
    }

    pub fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::net::send(self.descriptor.as_fd(), bytes, SendFlags::NOSIGNAL) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub fn receive(&self, buffer: &mut [u8], spins: bool) -> io::Result<usize> {
        let flags = if spins { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
        loop {
            match rustix::net::recv(self.descriptor.as_fd(), &mut *buffer, flags) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((count, _)) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if spins => std::hint::spin_loop(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub fn receive_exact(&self, mut buffer: &mut [u8], spins: bool) -> io::Result<()> {
        while !buffer.is_empty() {
            let count = self.receive(buffer, spins)?;
            buffer = &mut buffer[count..];
        }
        Ok(())
    }
}

/// Prints where it listens, serves one connection, and ends with it.
pub fn serve(kind: &SocketKind) -> anyhow::Result<()> {
    let socket = match kind {
        SocketKind::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
            println!("{}", listener.local_addr()?);
            Plain::tcp(listener.accept()?.0)
        }
        SocketKind::Unix => {
            let path = std::env::temp_dir().join(format!("farpool-bench-{}", std::process::id()));
            let listener = UnixListener::bind(&path).context("listen")?;
            println!("{}", path.display());
            let accepted = listener.accept();
            std::fs::remove_file(&path)?;
            Plain::unix(accepted?.0)
        }
    };
    let mut buffer = vec![0; CHUNK];
    loop {
        let mut command = [0; COMMAND_BYTES];
        match socket.receive_exact(&mut command, false) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        obey(&socket, Command::decode(&command), &mut buffer)?;
    }
}

fn obey(socket: &Plain, command: Command, buffer: &mut [u8]) -> anyhow::Result<()> {
    let Command { task, count, request, answer, spins } = command;
    let (request, answer) = (usize::try_from(request)?, usize::try_from(answer)?);
    match task {
        Task::Exchange => {
            let _place = spins.then(|| Place::take(End::Last)).transpose()?;
            for _ in 0..count {
                pass(request, buffer, |part| socket.receive_exact(part, spins))?;
                pass(answer, buffer, |part| socket.send(part))?;
            }
        }
        Task::Sink => {
            let mut left = request * usize::try_from(count)?;
            while left > 0 {
                let most = left.min(buffer.len());
                left -= socket.receive(&mut buffer[..most], spins)?;
            }
            socket.send(&[1])?;
        }
    }
    Ok(())
}

/// Moves `bytes` through the buffer.
fn pass(
    mut bytes: usize,
    buffer: &mut [u8],
    mut step: impl FnMut(&mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    while bytes > 0 {
        let here = bytes.min(buffer.len());
        step(&mut buffer[..here])?;
        bytes -= here;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_round_trip() {
        let command = Command { task: Task::Sink, count: 3, request: 128, answer: 7, spins: true };
        let mut bytes = [0; COMMAND_BYTES];
        bytes.copy_from_slice(&command.encode());
        assert_eq!(Command::decode(&bytes).encode(), command.encode());
    }
}
