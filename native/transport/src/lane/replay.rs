//! What was sent and the other end has not acknowledged: sent again when the lane is resumed.

use std::collections::VecDeque;

use super::packet::PacketError;

/// Bytes that are kept at first.
const FIRST_LIMIT: usize = 16 << 20;

/// Bytes that are kept at most: twice what is under way on a link of 10 Gbit/s and 100 ms.
pub const LAST_LIMIT: usize = 256 << 20;

/// Memory comes in pieces of this size.
const CHUNK: usize = 256 << 10;

/// Pieces without use that are kept. The last one that became free is used first: it is still in the processor's cache.
const MOST_SPARE: usize = 16;

/// The stream's bytes from the first that is not acknowledged.
#[derive(Debug)]
pub struct Replay {
    chunks: VecDeque<Box<[u8]>>,
    spare: Vec<Box<[u8]>>,
    /// Place in the stream of the first byte of the first chunk.
    base: u64,
    /// Place of the first byte that is kept.
    start: u64,
    end: u64,
    /// Place of the first byte that was not given to the present connection.
    written: u64,
    limit: usize,
}

impl Default for Replay {
    fn default() -> Self {
        Replay {
            chunks: VecDeque::new(),
            spare: Vec::new(),
            base: 0,
            start: 0,
            end: 0,
            written: 0,
            limit: FIRST_LIMIT,
        }
    }
}

impl Replay {
    /// Bytes that there is room for.
    pub fn room(&self) -> usize {
        self.limit - distance(self.start, self.end).min(self.limit)
    }

    /// Adds bytes to the stream; there must be room.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = distance(self.base, self.end);
            if used == self.chunks.len() * CHUNK {
                let chunk = self.spare.pop().unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice());
                self.chunks.push_back(chunk);
            }
            let at = used % CHUNK;
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - at));
            let last = &mut self.chunks[used / CHUNK];
            last[at..at + now.len()].copy_from_slice(now);
            self.end += now.len() as u64;
            bytes = later;
        }
    }

    /// Where what is kept begins.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// What was not given to the present connection, `most` bytes of it at most and no more than a chunk has, in two
    /// pieces.
    pub fn unwritten(&self, most: usize) -> (&[u8], &[u8]) {
        let length = distance(self.written, self.end).min(most).min(CHUNK);
        let skip = distance(self.base, self.written);
        let (chunk, at) = (skip / CHUNK, skip % CHUNK);
        let piece = |chunk: usize, from: usize, to: usize| {
            self.chunks.get(chunk).and_then(|bytes| bytes.get(from..to)).unwrap_or(&[])
        };
        let first = length.min(CHUNK - at);
        (piece(chunk, at, at + first), piece(chunk + 1, 0, length - first))
    }

    /// Bytes that were not given to the present connection.
    pub fn backlog(&self) -> u64 {
        self.end - self.written
    }

    /// The next `count` bytes were given to the present connection.
    pub fn advance(&mut self, count: usize) {
        self.written = (self.written + count as u64).min(self.end);
    }

    /// The other end has read everything before `offset`. An older word than the last one changes nothing.
    pub fn acknowledge(&mut self, offset: u64) -> Result<(), PacketError> {
        if offset > self.written {
            return Err(PacketError::Offset { given: offset, from: self.start, to: self.written });
        }
        self.start = self.start.max(offset);
        while distance(self.base, self.start) >= CHUNK {
            self.base += CHUNK as u64;
            let chunk = self.chunks.pop_front();
            self.spare.extend(chunk.filter(|_| self.spare.len() < MOST_SPARE));
        }
        if self.start == self.end {
            self.base = self.start;
            let rest = self.chunks.drain(..).take(MOST_SPARE - self.spare.len());
            self.spare.extend(rest);
        }
        Ok(())
    }

    /// A new connection begins; the other end has read everything before `offset` and nothing behind.
    pub fn rewind(&mut self, offset: u64) -> Result<(), PacketError> {
        if offset < self.start || offset > self.end {
            return Err(PacketError::Offset { given: offset, from: self.start, to: self.end });
        }
        self.written = offset;
        self.acknowledge(offset)
    }

    /// Keeps more from now on, for a link that has `bytes` under way; answers whether it does.
    pub fn grow_for(&mut self, bytes: u64) -> bool {
        let wanted = usize::try_from(bytes.saturating_mul(2)).unwrap_or(usize::MAX);
        if self.limit >= LAST_LIMIT || wanted <= self.limit {
            return false;
        }
        self.limit = (2 * self.limit).min(LAST_LIMIT);
        true
    }
}

/// How many bytes lie between two places of the stream whose bytes are in the memory of this process.
fn distance(from: u64, to: u64) -> usize {
    usize::try_from(to - from).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwritten(replay: &Replay, most: usize) -> Vec<u8> {
        let (first, second) = replay.unwritten(most);
        [first, second].concat()
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again() {
        let mut replay = Replay::default();
        replay.push(b"abcdef");
        replay.advance(4);
        assert_eq!(unwritten(&replay, 100), b"ef");
        replay.acknowledge(2).expect("read");
        replay.rewind(3).expect("resumed");
        assert_eq!(unwritten(&replay, 100), b"def");
        assert_eq!(unwritten(&replay, 2), b"de");
        assert_eq!((replay.backlog(), replay.end), (3, 6));
    }

    #[test]
    fn an_end_that_forgot_or_invents_is_refused() {
        let mut replay = Replay::default();
        replay.push(b"abcdef");
        replay.advance(6);
        replay.acknowledge(4).expect("read");
        assert!(replay.rewind(3).is_err(), "it had read more");
        assert!(replay.rewind(7).is_err(), "nobody sent that");
        assert!(replay.acknowledge(7).is_err(), "nobody sent that");
        assert!(replay.acknowledge(1).is_ok(), "an old word");
        assert!(replay.rewind(6).is_ok());
    }

    #[test]
    fn pieces_stay_in_order_around_the_end_of_the_memory() {
        let mut replay = Replay::default();
        let mut expected = VecDeque::new();
        let mut next = 0u8;
        for step in 1..200usize {
            let bytes: Vec<u8> = (0..step % 37)
                .map(|_| {
                    next = next.wrapping_add(1);
                    next
                })
                .collect();
            replay.push(&bytes);
            expected.extend(&bytes);
            let count = expected.len().min(step % 31);
            assert_eq!(unwritten(&replay, count), expected.drain(..count).collect::<Vec<u8>>());
            replay.advance(count);
            let read = replay.end - replay.backlog();
            replay.acknowledge(read.saturating_sub(5).max(replay.start)).expect("read");
        }
    }

    #[test]
    fn pieces_longer_than_the_memory_they_come_in_stay_in_order() {
        let mut replay = Replay::default();
        let bytes: Vec<u8> =
            (0..3 * CHUNK + 5).map(|place| u8::try_from(place % 251).expect("small")).collect();
        let mut seen = Vec::new();
        for (round, piece) in bytes.chunks(CHUNK - 7).enumerate() {
            replay.push(piece);
            while replay.backlog() > 0 {
                let piece = unwritten(&replay, CHUNK / 2 + round);
                replay.advance(piece.len());
                seen.extend(piece);
            }
            let read = replay.end.saturating_sub(CHUNK as u64 / 3 * round as u64);
            replay.acknowledge(read.max(replay.start())).expect("read");
        }
        assert_eq!(seen, bytes);
        let last = replay.start();
        replay.rewind(last).expect("resumed");
        let mut again = Vec::new();
        while replay.backlog() > 0 {
            let piece = unwritten(&replay, usize::MAX);
            replay.advance(piece.len());
            again.extend(piece);
        }
        assert_eq!(again, bytes[usize::try_from(last).expect("small")..]);
    }

    #[test]
    fn it_grows_for_a_long_link_and_not_without_bounds() {
        let mut replay = Replay::default();
        assert!(!replay.grow_for(1 << 20));
        assert!(replay.grow_for(1 << 30));
        while replay.grow_for(u64::MAX) {}
        assert_eq!(replay.room(), LAST_LIMIT);
    }
}
