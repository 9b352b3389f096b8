//! Received bytes that nobody has looked at yet.

use std::io;
use std::time::{Duration, Instant};

use transport::Lane;

/// How long a waiting thread looks for its answer before it sleeps: about what waking it costs.
const PATIENCE: Duration = Duration::from_micros(50);

/// Bytes asked from the socket at once when no payload is known to be larger.
const RECEIVE_BYTES: usize = 64 << 10;

/// Received bytes that nobody has looked at yet.
#[derive(Debug)]
pub struct ReceiveBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for ReceiveBuffer {
    fn default() -> Self {
        ReceiveBuffer { bytes: vec![0; RECEIVE_BYTES], start: 0, end: 0 }
    }
}

impl ReceiveBuffer {
    /// Fills `target` from what was received before, then from the socket.
    pub fn read(&mut self, lane: &Lane, mut target: &mut [u8]) -> io::Result<()> {
        loop {
            let ready = (self.end - self.start).min(target.len());
            let (now, later) = target.split_at_mut(ready);
            now.copy_from_slice(&self.bytes[self.start..self.start + ready]);
            self.start += ready;
            target = later;
            if target.is_empty() {
                return Ok(());
            }
            if target.len() >= self.bytes.len() {
                return lane.receive_exact(target);
            }
            (self.start, self.end) = (0, 0);
            self.end = receive(lane, &mut self.bytes)?;
            if self.end == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Whether there is anything to read, without waiting for it.
    pub fn has_arrived(&mut self, lane: &Lane) -> io::Result<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            // The end of the connection is there to be read, too.
            match lane.try_receive(&mut self.bytes)? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(count) => self.end = count,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Receives some bytes. Before it sleeps it looks for a while: waking costs more than most answers take.
fn receive(lane: &Lane, bytes: &mut [u8]) -> io::Result<usize> {
    let started = Instant::now();
    loop {
        if let Some(count) = lane.try_receive(bytes)? {
            return Ok(count);
        }
        if started.elapsed() >= PATIENCE {
            return lane.receive(bytes);
        }
        // Others who could run must: looking is only cheap when nobody else wants the processor.
        std::thread::yield_now();
    }
}
