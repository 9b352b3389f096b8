//! The first words on a connection: which lane it is, how far its streams were read, and by what right.

use super::packet::MOST_WORDS;

/// What a client says first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opening {
    /// Whether this is the bulk lane.
    pub is_bulk_lane: bool,
    /// Whether the lane had a connection before.
    pub is_resumed: bool,
    /// How far the client has read the worker's stream.
    pub received: u64,
    /// How long a round trip takes, in microseconds, as far as the client knows: how much is under way on the link.
    pub round_trip_us: u32,
    /// The process grant; empty where none is asked for.
    pub grant: String,
}

/// Why a connection was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// `CUresult` for the caller.
    pub code: i32,
    /// The sentence for the user.
    pub reason: String,
}

/// Words that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other end's first words are malformed, expected format {FORMAT}, flags, an offset and text")]
pub struct OpeningError;

/// The format of these words.
const FORMAT: u32 = 1;

const BULK_LANE: u32 = 1;
const RESUMED: u32 = 2;

impl Opening {
    /// The words.
    pub fn encode(&self) -> Vec<u8> {
        let flags = if self.is_bulk_lane { BULK_LANE } else { 0 } | if self.is_resumed { RESUMED } else { 0 };
        let mut words = Vec::with_capacity(20 + self.grant.len());
        words.extend_from_slice(&FORMAT.to_le_bytes());
        words.extend_from_slice(&flags.to_le_bytes());
        words.extend_from_slice(&self.received.to_le_bytes());
        words.extend_from_slice(&self.round_trip_us.to_le_bytes());
        words.extend_from_slice(self.grant.as_bytes());
        words
    }

    /// Reads and checks them.
    pub fn decode(words: &[u8]) -> Result<Opening, OpeningError> {
        let (format, rest) = words.split_first_chunk::<4>().ok_or(OpeningError)?;
        let (flags, rest) = rest.split_first_chunk::<4>().ok_or(OpeningError)?;
        let (received, rest) = rest.split_first_chunk::<8>().ok_or(OpeningError)?;
        let (round_trip, grant) = rest.split_first_chunk::<4>().ok_or(OpeningError)?;
        let flags = u32::from_le_bytes(*flags);
        if u32::from_le_bytes(*format) != FORMAT || flags & !(BULK_LANE | RESUMED) != 0 {
            return Err(OpeningError);
        }
        Ok(Opening {
            is_bulk_lane: flags & BULK_LANE != 0,
            is_resumed: flags & RESUMED != 0,
            received: u64::from_le_bytes(*received),
            round_trip_us: u32::from_le_bytes(*round_trip),
            grant: std::str::from_utf8(grant).map_err(|_| OpeningError)?.to_owned(),
        })
    }
}

impl Refusal {
    /// The words; a sentence that is too long is cut.
    pub fn encode(&self) -> Vec<u8> {
        let mut words = self.code.to_le_bytes().to_vec();
        words.extend(self.reason.bytes().take(MOST_WORDS - 4));
        words
    }

    /// Reads them.
    pub fn decode(words: &[u8]) -> Result<Refusal, OpeningError> {
        let (code, reason) = words.split_first_chunk::<4>().ok_or(OpeningError)?;
        let reason = String::from_utf8_lossy(reason).into_owned();
        Ok(Refusal { code: i32::from_le_bytes(*code), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_round_trips_and_half_a_one_is_refused() {
        let opening = Opening {
            is_bulk_lane: true,
            is_resumed: true,
            received: u64::MAX,
            round_trip_us: 30_000,
            grant: "a.b.c".into(),
        };
        let words = opening.encode();
        assert_eq!(Opening::decode(&words), Ok(opening));
        assert_eq!(Opening::decode(&Opening::default().encode()), Ok(Opening::default()));
        for length in 0..20 {
            assert_eq!(Opening::decode(&words[..length]), Err(OpeningError));
        }
        let mut other = words.clone();
        other[0] = 2;
        assert_eq!(Opening::decode(&other), Err(OpeningError), "another format");
        let mut other = words;
        other[4] = 4;
        assert_eq!(Opening::decode(&other), Err(OpeningError), "an unknown flag");
    }

    #[test]
    fn a_refusal_round_trips_and_a_long_one_is_cut() {
        let refusal = Refusal { code: 100, reason: "no".into() };
        assert_eq!(Refusal::decode(&refusal.encode()), Ok(refusal));
        let long = Refusal { code: 1, reason: "x".repeat(MOST_WORDS * 2) };
        assert_eq!(long.encode().len(), MOST_WORDS);
        assert!(Refusal::decode(&[1, 2]).is_err());
    }
}
