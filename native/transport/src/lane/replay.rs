//! What was sent and the other end has not acknowledged: sent again when the lane is resumed.

use std::collections::VecDeque;

use super::packet::PacketError;

/// Bytes that are kept at first.
const FIRST_LIMIT: usize = 16 << 20;

/// Bytes that are kept at most: twice what is under way on a link of 10 Gbit/s and 100 ms.
pub const LAST_LIMIT: usize = 256 << 20;

/// The stream's bytes from the first that is not acknowledged.
#[derive(Debug)]
pub struct Replay {
    bytes: VecDeque<u8>,
    /// Place of the first byte in the stream.
    start: u64,
    /// Place of the first byte that was not given to the present connection.
    written: u64,
    limit: usize,
}

impl Default for Replay {
    fn default() -> Self {
        Replay { bytes: VecDeque::new(), start: 0, written: 0, limit: FIRST_LIMIT }
    }
}

impl Replay {
    /// Bytes that there is room for.
    pub fn room(&self) -> usize {
        self.limit - self.bytes.len().min(self.limit)
    }

    /// Adds bytes to the stream; there must be room.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Where what is kept begins.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Where the stream ends.
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// What was not given to the present connection, `most` bytes of it at most, in two pieces.
    pub fn unwritten(&self, most: usize) -> (&[u8], &[u8]) {
        // Within the memory of this process.
        let skip = usize::try_from(self.written - self.start).unwrap_or(usize::MAX);
        let (first, second) = self.bytes.as_slices();
        let (first, second) = if skip < first.len() {
            (&first[skip..], second)
        } else {
            (&second[(skip - first.len()).min(second.len())..], &[][..])
        };
        if first.len() >= most {
            (&first[..most], &[])
        } else {
            (first, &second[..second.len().min(most - first.len())])
        }
    }

    /// Bytes that were not given to the present connection.
    pub fn backlog(&self) -> u64 {
        self.end() - self.written
    }

    /// The next `count` bytes were given to the present connection.
    pub fn advance(&mut self, count: usize) {
        self.written = (self.written + count as u64).min(self.end());
    }

    /// The other end has read everything before `offset`. An older word than the last one changes nothing.
    pub fn acknowledge(&mut self, offset: u64) -> Result<(), PacketError> {
        if offset > self.written {
            return Err(PacketError::Offset { given: offset, from: self.start, to: self.written });
        }
        let count = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.bytes.drain(..count);
        self.start += count as u64;
        Ok(())
    }

    /// A new connection begins; the other end has read everything before `offset` and nothing behind.
    pub fn rewind(&mut self, offset: u64) -> Result<(), PacketError> {
        if offset < self.start || offset > self.end() {
            return Err(PacketError::Offset { given: offset, from: self.start, to: self.end() });
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
        assert_eq!((replay.backlog(), replay.end()), (3, 6));
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
            let read = replay.end() - replay.backlog();
            replay.acknowledge(read.saturating_sub(5).max(replay.start)).expect("read");
        }
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
