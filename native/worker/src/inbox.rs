//! What the client has sent and nobody has looked at yet.

use std::io;

use wire::record::HEADER_BYTES;
use wire::{Header, WireError};

/// Bytes that there is room for at least, beside a record that has begun.
const ROOM: usize = 1 << 20;

/// Received bytes, record by record.
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// An empty one.
    pub fn new() -> Inbox {
        Inbox { bytes: vec![0; 2 * ROOM], start: 0, end: 0 }
    }

    /// The next record, if it is wholly there.
    pub fn next(&mut self) -> Result<Option<(Header, &[u8])>, WireError> {
        let unread = &self.bytes[self.start..self.end];
        let Some(header) = unread.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::decode(header)?;
        let length = HEADER_BYTES + header.length as usize;
        if unread.len() < length {
            return Ok(None);
        }
        let payload = self.start + HEADER_BYTES..self.start + length;
        self.start = payload.end;
        Ok(Some((header, &self.bytes[payload])))
    }

    /// Lets `fill` write received bytes behind those that are here; it answers how many.
    pub fn receive<T: Count>(&mut self, fill: impl FnOnce(&mut [u8]) -> io::Result<T>) -> io::Result<T> {
        self.make_room();
        let count = fill(&mut self.bytes[self.end..])?;
        self.end += count.count();
        Ok(count)
    }

    /// Room for the rest of the record that has begun, and for a good deal more.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let unread = &self.bytes[self.start..self.end];
        let record = unread
            .first_chunk::<HEADER_BYTES>()
            .and_then(|header| Header::decode(header).ok())
            .map_or(0, |header| HEADER_BYTES + header.length as usize);
        let wanted = record.max(unread.len()) + ROOM / 4;
        if self.bytes.len() - self.start >= wanted {
            return;
        }
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
    }
}

/// How many bytes were received.
pub trait Count {
    /// The number.
    fn count(&self) -> usize;
}

impl Count for usize {
    fn count(&self) -> usize {
        *self
    }
}

impl Count for Option<usize> {
    fn count(&self) -> usize {
        self.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::CallId;
    use wire::record::encode_record;

    fn record(length: usize, sequence: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_record(&mut bytes, CallId(77), 0, 1, sequence, |writer| {
            writer.put_raw(&vec![u8::try_from(sequence).expect("small"); length]);
        });
        bytes
    }

    #[test]
    fn records_come_out_as_they_went_in_however_the_bytes_arrive() {
        let sizes = [0, 5, 3 << 20, 1, 2 << 20, 40, 40];
        let sent: Vec<u8> = (1..).zip(sizes).flat_map(|(sequence, size)| record(size, sequence)).collect();
        for piece in [1 << 12, (1 << 20) + 1, usize::MAX] {
            let mut inbox = Inbox::new();
            let mut left = sent.as_slice();
            let mut seen = Vec::new();
            loop {
                while let Some((header, payload)) = inbox.next().expect("well-formed") {
                    assert!(payload.iter().all(|byte| u64::from(*byte) == header.sequence));
                    seen.push(payload.len());
                }
                if left.is_empty() {
                    break;
                }
                let count = inbox
                    .receive(|room| {
                        let count = left.len().min(room.len()).min(piece);
                        room[..count].copy_from_slice(&left[..count]);
                        Ok(count)
                    })
                    .expect("received");
                assert!(count > 0, "there is always room");
                left = &left[count..];
            }
            assert_eq!(seen, sizes);
        }
    }
}
