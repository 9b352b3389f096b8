//! What sockets alone can do: the measure of everything else.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::options::SocketKind;
use crate::peer::{Command, Plain, Task};
use crate::place::{End, Place};

/// A launch as it is on the wire, about.
const RECORD_BYTES: usize = 128;

/// A raw connection to a child of this process.
pub struct Raw {
    socket: Plain,
    child: Child,
}

impl Raw {
    pub fn connect(kind: SocketKind) -> anyhow::Result<Raw> {
        let mut child = std::process::Command::new(std::env::current_exe()?)
            .args(["peer", kind.name()])
            .stdout(Stdio::piped())
            .spawn()
            .context("start the peer")?;
        let output = child.stdout.take().context("the peer's output")?;
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address)?;
        let address = address.trim_end();
        let socket = match kind {
            SocketKind::Tcp => Plain::tcp(TcpStream::connect(address)?),
            SocketKind::Unix => Plain::unix(UnixStream::connect(address)?),
        };
        Ok(Raw { socket, child })
    }

    /// Seconds of a round trip of 64 bytes; `gap` lets both ends park between two.
    pub fn ping(&self, count: u32, spins: bool, gap: Duration) -> anyhow::Result<f64> {
        self.exchange(Exchange { count, request: 64, answer: 64, spins, gap })
    }

    /// Seconds from asking for so many bytes until they are here.
    pub fn fetch(&self, bytes: usize, count: u32, spins: bool) -> anyhow::Result<f64> {
        self.exchange(Exchange { count, request: 64, answer: bytes, spins, gap: Duration::ZERO })
    }

    fn exchange(&self, exchange: Exchange) -> anyhow::Result<f64> {
        let Exchange { count, request, answer, spins, gap } = exchange;
        let question = vec![1; request];
        let mut reply = vec![0; answer];
        let rounds = u64::from(count) + 1;
        let _place = spins.then(|| Place::take(End::First)).transpose()?;
        self.tell(Task::Exchange, rounds, (request, answer), spins)?;
        let mut total = Duration::ZERO;
        for round in 0..rounds {
            if !gap.is_zero() {
                std::thread::sleep(gap);
            }
            let started = Instant::now();
            self.socket.send(&question)?;
            self.socket.receive_exact(&mut reply, spins)?;
            // The first waits for the command to be read.
            if round > 0 {
                total += started.elapsed();
            }
        }
        Ok(total.as_secs_f64() / f64::from(count))
    }

    /// Seconds that a record costs its sender, with so many of them in each send.
    pub fn records(&self, count: u32, per_send: u32) -> anyhow::Result<f64> {
        let template = [7; RECORD_BYTES];
        let sends = count.div_ceil(per_send);
        self.tell(Task::Sink, u64::from(sends) * u64::from(per_send), (RECORD_BYTES, 0), false)?;
        let mut batch = Vec::with_capacity(RECORD_BYTES * per_send as usize);
        let started = Instant::now();
        for _ in 0..sends {
            batch.clear();
            for _ in 0..per_send {
                batch.extend_from_slice(std::hint::black_box(&template));
            }
            self.socket.send(&batch)?;
        }
        let elapsed = started.elapsed();
        self.acknowledged()?;
        Ok(elapsed.as_secs_f64() / f64::from(sends * per_send))
    }

    /// Seconds that a send of so many bytes costs its sender.
    pub fn small_sends(&self, bytes: &[u8], count: u32) -> anyhow::Result<f64> {
        self.tell(Task::Sink, u64::from(count), (bytes.len(), 0), false)?;
        let started = Instant::now();
        for _ in 0..count {
            self.socket.send(bytes)?;
        }
        let elapsed = started.elapsed();
        self.acknowledged()?;
        Ok(elapsed.as_secs_f64() / f64::from(count))
    }

    /// Seconds until the peer has everything and has said so.
    pub fn bulk_out(&self, bytes: &[u8]) -> anyhow::Result<f64> {
        self.tell(Task::Sink, 1, (bytes.len(), 0), false)?;
        let started = Instant::now();
        self.socket.send(bytes)?;
        self.acknowledged()?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Seconds until everything has come.
    pub fn bulk_in(&self, buffer: &mut [u8]) -> anyhow::Result<f64> {
        self.tell(Task::Exchange, 1, (1, buffer.len()), false)?;
        let started = Instant::now();
        self.socket.send(&[1])?;
        self.socket.receive_exact(buffer, false)?;
        Ok(started.elapsed().as_secs_f64())
    }

    fn tell(&self, task: Task, count: u64, sizes: (usize, usize), spins: bool) -> anyhow::Result<()> {
        let command = Command { task, count, request: sizes.0 as u64, answer: sizes.1 as u64, spins };
        Ok(self.socket.send(&command.encode())?)
    }

    fn acknowledged(&self) -> anyhow::Result<()> {
        Ok(self.socket.receive_exact(&mut [0], false)?)
    }
}

struct Exchange {
    count: u32,
    request: usize,
    answer: usize,
    spins: bool,
    gap: Duration,
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
