//! Bytes for a connection that it did not take yet.

use std::io;

use crate::tls::{RECORD_EXTRA_BYTES, Sealer};

/// A buffer that is filled at its end, emptied from its beginning and used again.
#[derive(Debug, Default)]
pub struct Unsent {
    /// Longer than what is in use: bytes are not set to zero again.
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Unsent {
    /// Forgets everything.
    pub fn clear(&mut self) {
        (self.from, self.to) = (0, 0);
    }

    /// What was added and not taken.
    pub fn left(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    /// The next `count` bytes, to be filled. What is in them means nothing.
    pub fn add(&mut self, count: usize) -> &mut [u8] {
        let from = self.to;
        self.to += count;
        if self.bytes.len() < self.to {
            self.bytes.resize(self.to, 0);
        }
        &mut self.bytes[from..self.to]
    }

    /// Adds one record of `parts`, sealed.
    ///
    /// Errors: they are longer than one record.
    pub fn add_sealed(&mut self, sealer: &mut Sealer, parts: &[&[u8]]) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        sealer.seal(parts, self.add(length + RECORD_EXTRA_BYTES))
    }

    /// The connection took `count` bytes; answers how many of them were not from here.
    pub fn took(&mut self, count: usize) -> usize {
        let here = count.min(self.to - self.from);
        self.from += here;
        count - here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_their_order_and_room_is_used_again() {
        let mut unsent = Unsent::default();
        unsent.add(3).copy_from_slice(b"abc");
        unsent.add(2).copy_from_slice(b"de");
        assert_eq!((unsent.took(4), unsent.left()), (0, &b"e"[..]));
        assert_eq!((unsent.took(4), unsent.left()), (3, &b""[..]));
        unsent.clear();
        unsent.add(1).copy_from_slice(b"x");
        assert_eq!((unsent.left(), unsent.bytes.len()), (&b"x"[..], 5));
    }
}
