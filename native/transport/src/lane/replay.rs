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

/// Bytes that are lent at most: their owner has better use for them than a long link has.
const MOST_LENT: usize = 64 << 20;

/// Bytes that their owner lends until the other end has read them.
pub type Loan = Box<dyn AsRef<[u8]> + Send>;

/// The stream's bytes from the first that is not acknowledged.
#[derive(Debug)]
pub struct Replay {
    pieces: VecDeque<Piece>,
    spare: Vec<Box<[u8]>>,
    /// Bytes of lent pieces.
    lent: usize,
    /// Place of the first byte that is kept.
    start: u64,
    end: u64,
    /// Place of the first byte that was not given to the present connection.
    written: u64,
    limit: usize,
}

/// Bytes that follow each other in memory; no piece is empty.
struct Piece {
    memory: Memory,
    /// Their place in the stream.
    from: u64,
    to: u64,
}

enum Memory {
    /// Filled from its beginning.
    Own(Box<[u8]>),
    /// All of it from this byte on.
    Lent(Loan, usize),
}

impl Piece {
    /// The bytes from this place on.
    fn bytes_from(&self, place: u64) -> &[u8] {
        let bytes = match &self.memory {
            Memory::Own(chunk) => &chunk[..distance(self.from, self.to)],
            Memory::Lent(loan, skip) => &loan.as_ref().as_ref()[*skip..],
        };
        &bytes[distance(self.from, place.max(self.from)).min(bytes.len())..]
    }
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_lent = matches!(self.memory, Memory::Lent(..));
        formatter.debug_struct("Piece").field("is_lent", &is_lent).field("from", &self.from).finish()
    }
}

impl Default for Replay {
    fn default() -> Self {
        Replay {
            pieces: VecDeque::new(),
            spare: Vec::new(),
            lent: 0,
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
            let (chunk, piece_end) = match self.pieces.back_mut() {
                Some(Piece { memory: Memory::Own(chunk), from, to }) if distance(*from, *to) < CHUNK => {
                    let filled = distance(*from, *to);
                    (&mut chunk[filled..], to)
                }
                _ => {
                    let chunk = self.spare.pop().unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice());
                    self.pieces.push_back(Piece { memory: Memory::Own(chunk), from: self.end, to: self.end });
                    continue;
                }
            };
            let (now, later) = bytes.split_at(bytes.len().min(chunk.len()));
            chunk[..now.len()].copy_from_slice(now);
            self.end += now.len() as u64;
            *piece_end = self.end;
            bytes = later;
        }
    }

    /// Whether `count` bytes may be lent.
    pub fn borrows(&self, count: usize) -> bool {
        self.lent + count <= MOST_LENT
    }

    /// Adds the bytes of `loan` from `skip` on, at least one, to the stream; there must be room.
    pub fn push_loan(&mut self, loan: Loan, skip: usize) {
        let count = loan.as_ref().as_ref().len() - skip;
        let from = self.end;
        self.end += count as u64;
        self.lent += count;
        self.pieces.push_back(Piece { memory: Memory::Lent(loan, skip), from, to: self.end });
    }

    /// Gives back all that was lent: what is kept of it is copied. Answers whether anything was.
    pub fn repay(&mut self) -> bool {
        if self.lent == 0 {
            return false;
        }
        self.lent = 0;
        let end = self.end;
        for piece in std::mem::take(&mut self.pieces) {
            match piece.memory {
                Memory::Own(_) => self.pieces.push_back(piece),
                Memory::Lent(..) => {
                    // The stream as it was then: what follows is added again.
                    self.end = self.start.max(piece.from);
                    self.push(piece.bytes_from(self.end));
                }
            }
        }
        self.end = end;
        true
    }

    /// Where what is kept begins.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// What was not given to the present connection, `most` bytes of it at most and no more than a chunk has, in two
    /// pieces.
    pub fn unwritten(&self, most: usize) -> (&[u8], &[u8]) {
        let most = most.min(CHUNK);
        let index = self.pieces.partition_point(|piece| piece.to <= self.written);
        let bytes = |index: usize, most: usize| {
            let bytes = self.pieces.get(index).map_or(&[][..], |piece| piece.bytes_from(self.written));
            &bytes[..bytes.len().min(most)]
        };
        let first = bytes(index, most);
        (first, bytes(index + 1, most - first.len()))
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
        while let Some(piece) = self.pieces.pop_front_if(|piece| piece.to <= self.start) {
            match piece.memory {
                Memory::Own(chunk) if self.spare.len() < MOST_SPARE => self.spare.push(chunk),
                Memory::Own(_) => {}
                Memory::Lent(..) => self.lent -= distance(piece.from, piece.to),
            }
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

    /// Everything that is to be written, in pieces of at most `most` bytes.
    fn drained(replay: &mut Replay, most: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while replay.backlog() > 0 {
            let piece = unwritten(replay, most);
            replay.advance(piece.len());
            all.extend(piece);
        }
        all
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
            seen.extend(drained(&mut replay, CHUNK / 2 + round));
            let read = replay.end.saturating_sub(CHUNK as u64 / 3 * round as u64);
            replay.acknowledge(read.max(replay.start())).expect("read");
        }
        assert_eq!(seen, bytes);
        let last = replay.start();
        replay.rewind(last).expect("resumed");
        assert_eq!(drained(&mut replay, usize::MAX), bytes[usize::try_from(last).expect("small")..]);
    }

    /// What was lent says when it is given back.
    struct Noted(Vec<u8>, std::sync::Arc<std::sync::atomic::AtomicUsize>);

    impl AsRef<[u8]> for Noted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Noted {
        fn drop(&mut self) {
            self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }

    #[test]
    fn lent_bytes_stand_in_their_order_and_go_back_when_they_were_read() {
        let given_back = std::sync::Arc::default();
        let lend = |bytes: &[u8]| Box::new(Noted(bytes.to_vec(), std::sync::Arc::clone(&given_back)));
        let count = || given_back.load(std::sync::atomic::Ordering::SeqCst);
        let mut replay = Replay::default();
        replay.push(b"ab");
        replay.push_loan(lend(b"-cd"), 1);
        replay.push(b"ef");
        replay.push_loan(lend(b"gh"), 0);
        assert_eq!(drained(&mut replay, 3), b"abcdefgh");
        replay.acknowledge(3).expect("read");
        assert_eq!(count(), 0, "a byte of it may have to be sent again");
        replay.rewind(3).expect("resumed");
        assert_eq!(unwritten(&replay, 3), b"def", "from the middle of what was lent");
        replay.advance(5);
        replay.acknowledge(4).expect("read");
        assert_eq!(count(), 1);
        assert!(replay.repay());
        assert_eq!(count(), 2, "copied");
        assert!(!replay.repay());
        replay.push(b"i");
        replay.rewind(5).expect("resumed");
        assert_eq!(drained(&mut replay, 100), b"fghi");
        replay.acknowledge(9).expect("read");
        assert_eq!((replay.room(), replay.pieces.len()), (FIRST_LIMIT, 0));
    }

    #[test]
    fn loans_behind_each_other_are_copied_when_they_are_given_back() {
        let lent: Vec<u8> = (0..=u8::MAX).cycle().take(2 * CHUNK).collect();
        let mut replay = Replay::default();
        replay.push(b"ab");
        replay.push_loan(Box::new(lent[..CHUNK].to_vec()), 0);
        replay.push_loan(Box::new(lent[CHUNK..].to_vec()), 0);
        assert_eq!(replay.unwritten(5), (&b"ab"[..], &lent[..3]));
        replay.advance(2 + CHUNK);
        assert_eq!(replay.unwritten(usize::MAX), (&lent[CHUNK..], &b""[..]));
        replay.acknowledge(2 + 5).expect("read");
        assert!(replay.repay());
        replay.rewind(2 + 5).expect("resumed");
        assert_eq!(drained(&mut replay, usize::MAX), lent[5..]);
    }

    #[test]
    fn long_loans_are_copied_whole_and_not_more_is_lent_than_allowed() {
        let bytes: Vec<u8> =
            (0..2 * CHUNK + 3).map(|place| u8::try_from(place % 251).expect("small")).collect();
        let mut replay = Replay::default();
        replay.push_loan(Box::new(bytes.clone()), 0);
        replay.advance(CHUNK);
        replay.acknowledge(7).expect("read");
        assert!(replay.repay());
        replay.rewind(7).expect("resumed");
        assert_eq!(drained(&mut replay, usize::MAX), bytes[7..]);
        assert!(replay.borrows(MOST_LENT) && !replay.borrows(MOST_LENT + 1));
        replay.push_loan(Box::new(vec![1]), 0);
        assert!(!replay.borrows(MOST_LENT));
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
