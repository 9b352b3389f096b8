//! What travels on a resumable lane: packets of data, and the few words that the two ends have for each other.

/// Bytes of a packet's head.
pub const HEAD_BYTES: usize = 8;

/// Data of one packet at most.
pub const MOST_DATA: usize = 1 << 20;

/// Bytes of the longest packet that is no data: an opening with a grant.
pub const MOST_WORDS: usize = 20 << 10;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The next bytes of the stream.
    Data = 1,
    /// How far the other end's stream has been read (u64).
    Acknowledge = 2,
    /// Asks for a [`Kind::Pong`].
    Ping = 3,
    /// Answers a [`Kind::Ping`].
    Pong = 4,
    /// The stream ends here, and nothing is to be resumed.
    Close = 5,
    /// First packet of a client: [`super::Opening`].
    Open = 6,
    /// First packet of a worker: how far the client's stream has been read (u64).
    Opened = 7,
    /// Only packet of a worker that refuses: [`super::Refusal`].
    Refused = 8,
}

/// The head of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub kind: Kind,
    /// Bytes that follow.
    pub length: usize,
}

/// A packet that no honest peer sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// The first byte names no kind, or the next three are not zero.
    #[error("a packet begins with {0:02x?}, expected a kind from 1 to 8 and three zeros")]
    Kind([u8; 4]),
    /// More bytes than the kind has.
    #[error("a {kind:?} packet has {length} bytes, expected {expected}")]
    Length {
        /// The kind.
        kind: Kind,
        /// What was given.
        length: usize,
        /// What is allowed.
        expected: &'static str,
    },
    /// A packet at the wrong place.
    #[error("a {0:?} packet came where there must be none")]
    Misplaced(Kind),
    /// The other end has read what was never sent, or forgot what it had read.
    #[error("the other end has read {given} bytes, expected {from} to {to}")]
    Offset {
        /// What was given.
        given: u64,
        /// Least possible.
        from: u64,
        /// Most possible.
        to: u64,
    },
}

impl Head {
    /// The 8 bytes.
    pub fn encode(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0] = self.kind as u8;
        bytes[4..].copy_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_le_bytes());
        bytes
    }

    /// Reads and checks the 8 bytes.
    pub fn decode(bytes: [u8; HEAD_BYTES]) -> Result<Head, PacketError> {
        let [kind, zeros @ .., a, b, c, d] = bytes;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let kind = match (kind, zeros) {
            (1, [0, 0, 0]) => Kind::Data,
            (2, [0, 0, 0]) => Kind::Acknowledge,
            (3, [0, 0, 0]) => Kind::Ping,
            (4, [0, 0, 0]) => Kind::Pong,
            (5, [0, 0, 0]) => Kind::Close,
            (6, [0, 0, 0]) => Kind::Open,
            (7, [0, 0, 0]) => Kind::Opened,
            (8, [0, 0, 0]) => Kind::Refused,
            _ => return Err(PacketError::Kind([bytes[0], bytes[1], bytes[2], bytes[3]])),
        };
        let (allowed, expected) = match kind {
            Kind::Data => (1..=MOST_DATA, "1 to 1048576"),
            Kind::Acknowledge | Kind::Opened => (8..=8, "8"),
            Kind::Ping | Kind::Pong | Kind::Close => (0..=0, "0"),
            Kind::Open | Kind::Refused => (0..=MOST_WORDS, "at most 20480"),
        };
        if !allowed.contains(&length) {
            return Err(PacketError::Length { kind, length, expected });
        }
        Ok(Head { kind, length })
    }
}

/// Appends a packet that is no data.
pub fn put_words(buffer: &mut Vec<u8>, kind: Kind, words: &[u8]) {
    buffer.extend_from_slice(&Head { kind, length: words.len() }.encode());
    buffer.extend_from_slice(words);
}

/// What [`Parser::push`] finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// Bytes of the stream.
    Data(&'a [u8]),
    /// A whole packet that is no data.
    Words(Kind, &'a [u8]),
}

/// Takes packets from bytes that arrive in any pieces.
#[derive(Debug, Default)]
pub struct Parser {
    head: [u8; HEAD_BYTES],
    head_filled: usize,
    /// The packet under way, and what is missing of it.
    under_way: Option<(Kind, usize)>,
    words: Vec<u8>,
}

impl Parser {
    /// Bytes of data that are missing of the packet under way.
    pub fn data_left(&self) -> usize {
        match self.under_way {
            Some((Kind::Data, left)) => left,
            _ => 0,
        }
    }

    /// Notes that `count` bytes of data, at most [`Parser::data_left`], went another way.
    pub fn skip_data(&mut self, count: usize) {
        if let Some((Kind::Data, left)) = &mut self.under_way {
            *left -= count.min(*left);
            if *left == 0 {
                self.under_way = None;
            }
        }
    }

    /// Hands what is in `bytes` to `found`, piece by piece.
    pub fn push<E: From<PacketError>>(
        &mut self,
        mut bytes: &[u8],
        mut found: impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            let Some((kind, left)) = &mut self.under_way else {
                let count = bytes.len().min(HEAD_BYTES - self.head_filled);
                self.head[self.head_filled..self.head_filled + count].copy_from_slice(&bytes[..count]);
                self.head_filled += count;
                bytes = &bytes[count..];
                if self.head_filled == HEAD_BYTES {
                    self.head_filled = 0;
                    let Head { kind, length } = Head::decode(self.head)?;
                    self.words.clear();
                    if length == 0 {
                        found(Found::Words(kind, &[]))?;
                    } else {
                        self.under_way = Some((kind, length));
                    }
                }
                continue;
            };
            let (now, later) = bytes.split_at(bytes.len().min(*left));
            bytes = later;
            *left -= now.len();
            let is_over = *left == 0;
            let kind = *kind;
            if is_over {
                self.under_way = None;
            }
            if kind == Kind::Data {
                found(Found::Data(now))?;
                continue;
            }
            self.words.extend_from_slice(now);
            if is_over {
                found(Found::Words(kind, &self.words))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Words = Vec<(Kind, Vec<u8>)>;

    fn packets(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Words), PacketError> {
        let mut parser = Parser::default();
        let (mut data, mut words) = (Vec::new(), Vec::new());
        for part in bytes.chunks(piece) {
            parser.push::<PacketError>(part, |found| {
                match found {
                    Found::Data(bytes) => data.extend_from_slice(bytes),
                    Found::Words(kind, bytes) => words.push((kind, bytes.to_vec())),
                }
                Ok(())
            })?;
        }
        Ok((data, words))
    }

    #[test]
    fn packets_come_out_as_they_went_in_however_the_bytes_arrive() {
        let mut sent = Vec::new();
        put_words(&mut sent, Kind::Ping, &[]);
        put_words(&mut sent, Kind::Data, b"hello ");
        put_words(&mut sent, Kind::Acknowledge, &7u64.to_le_bytes());
        put_words(&mut sent, Kind::Data, b"world");
        put_words(&mut sent, Kind::Close, &[]);
        for piece in [1, 3, 8, 9, sent.len()] {
            let (data, words) = packets(&sent, piece).expect("well-formed");
            assert_eq!(data, b"hello world");
            let expected = [
                (Kind::Ping, vec![]),
                (Kind::Acknowledge, 7u64.to_le_bytes().to_vec()),
                (Kind::Close, vec![]),
            ];
            assert_eq!(words, expected, "pieces of {piece}");
        }
    }

    #[test]
    fn unknown_kinds_and_wrong_lengths_are_refused() {
        for bytes in [
            [0, 0, 0, 0, 1, 0, 0, 0],
            [9, 0, 0, 0, 1, 0, 0, 0],
            [1, 1, 0, 0, 1, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 1, 0, 16, 0],
            [2, 0, 0, 0, 7, 0, 0, 0],
            [3, 0, 0, 0, 1, 0, 0, 0],
            [6, 0, 0, 0, 1, 80, 0, 0],
        ] {
            assert!(Head::decode(bytes).is_err(), "{bytes:?}");
        }
        let head = Head { kind: Kind::Data, length: MOST_DATA };
        assert_eq!(Head::decode(head.encode()), Ok(head));
    }

    #[test]
    fn data_that_went_another_way_is_not_expected_again() {
        let mut parser = Parser::default();
        let head = Head { kind: Kind::Data, length: 100 }.encode();
        parser.push::<PacketError>(&head, |_| Ok(())).expect("a head");
        assert_eq!(parser.data_left(), 100);
        parser.skip_data(100);
        let mut next = Vec::new();
        put_words(&mut next, Kind::Data, b"x");
        let mut data = Vec::new();
        parser
            .push::<PacketError>(&next, |found| {
                if let Found::Data(bytes) = found {
                    data.extend_from_slice(bytes);
                }
                Ok(())
            })
            .expect("a packet");
        assert_eq!(data, b"x");
    }
}
