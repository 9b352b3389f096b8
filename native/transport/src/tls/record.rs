//! TLS 1.3's protection of records (RFC 8446, 5.2 and 5.3).

use std::io;

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;

use super::TlsError;

/// Bytes before each record's ciphertext.
pub const RECORD_HEAD_BYTES: usize = 5;

/// Plaintext of one record at most.
pub const MOST_PLAINTEXT: usize = 1 << 14;

/// Bytes of the tag behind each ciphertext; the same in all suites.
const TAG_BYTES: usize = 16;

/// Ciphertext of one record at most, the type's byte and the tag with it.
const MOST_CIPHERTEXT: usize = MOST_PLAINTEXT + 256;

/// Records under one key: RFC 8446 (5.5) allows AES-GCM 2^24.5 full ones. The lane is resumed with new keys before.
const MOST_RECORDS: u64 = 1 << 23;

const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;
/// Type of a change of cipher specification, which has no meaning and may come during the handshake.
const CHANGE_CIPHER_SPEC: u8 = 20;

/// One direction's key, and how many records it has seen.
struct Half {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
    first: u64,
}

impl Half {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Half, TlsError> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(TlsError::Suite),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| TlsError::Suite)?;
        let iv = iv.as_ref().try_into().map_err(|_| TlsError::Suite)?;
        Ok(Half { key: LessSafeKey::new(key), iv, sequence, first: sequence })
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, count) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    fn is_worn(&self) -> bool {
        self.sequence - self.first >= MOST_RECORDS
    }
}

/// Seals what this end sends.
pub struct Sealer(Half);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Sealer")
    }
}

impl Sealer {
    /// The sealer for these secrets.
    pub(super) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Sealer, TlsError> {
        Half::new(secrets).map(Sealer)
    }

    /// Whether the key has sealed as many records as it may.
    pub fn is_worn(&self) -> bool {
        self.0.is_worn()
    }

    /// Appends one record with `parts`, at most [`MOST_PLAINTEXT`] bytes together, to `out`.
    pub fn seal(&mut self, parts: &[&[u8]], out: &mut Vec<u8>) -> io::Result<()> {
        let start = out.len();
        let length = parts.iter().map(|part| part.len()).sum::<usize>() + 1 + TAG_BYTES;
        let [high, low] = u16::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?.to_be_bytes();
        let head = [APPLICATION_DATA, 3, 3, high, low];
        out.extend_from_slice(&head);
        for part in parts {
            out.extend_from_slice(part);
        }
        out.push(APPLICATION_DATA);
        let nonce = self.0.next_nonce();
        let body = &mut out[start + RECORD_HEAD_BYTES..];
        let tag = self
            .0
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(head), body)
            .map_err(|_| io::Error::other("a record cannot be sealed"))?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

/// Opens what this end receives.
pub struct Opener(Half);

impl std::fmt::Debug for Opener {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Opener")
    }
}

/// What [`Opener::open`] finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<'a> {
    /// The record is not all there.
    Partial,
    /// Bytes of the stream, and how many bytes the record took.
    Data(&'a [u8], usize),
    /// The other end says that it sends no more.
    End,
}

impl Opener {
    /// The opener for these secrets.
    pub(super) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Opener, TlsError> {
        Half::new(secrets).map(Opener)
    }

    /// Opens the record at the beginning of `bytes` in place.
    ///
    /// Errors: it is malformed, or was sealed by somebody else.
    pub fn open<'a>(&mut self, bytes: &'a mut [u8]) -> Result<Opened<'a>, TlsError> {
        let Some(head) = bytes.first_chunk::<RECORD_HEAD_BYTES>().copied() else {
            return Ok(Opened::Partial);
        };
        let [kind, 3, 3, high, low] = head else { return Err(TlsError::Record) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MOST_CIPHERTEXT {
            return Err(TlsError::Record);
        }
        let whole = RECORD_HEAD_BYTES + length;
        let Some(body) = bytes.get_mut(RECORD_HEAD_BYTES..whole) else { return Ok(Opened::Partial) };
        match kind {
            CHANGE_CIPHER_SPEC if *body == [1] && self.0.sequence == self.0.first => {
                return Ok(Opened::Data(&[], whole));
            }
            APPLICATION_DATA => {}
            _ => return Err(TlsError::Record),
        }
        if self.0.is_worn() {
            return Err(TlsError::Worn);
        }
        let nonce = self.0.next_nonce();
        let plain = self.0.key.open_in_place(nonce, Aad::from(head), body).map_err(|_| TlsError::Seal)?;
        // Zeros behind the type's byte are padding.
        let end = plain.iter().rposition(|byte| *byte != 0).ok_or(TlsError::Record)?;
        let (content, kind) = (&plain[..end], plain[end]);
        match kind {
            APPLICATION_DATA => Ok(Opened::Data(content, whole)),
            ALERT => Ok(Opened::End),
            // Tickets are not asked for, and keys are not updated: the lane is resumed with new ones.
            _ => Err(TlsError::Record),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::aead::Algorithm;

    fn half(algorithm: &'static Algorithm) -> Half {
        let key = UnboundKey::new(algorithm, &vec![7; algorithm.key_len()]).expect("a key");
        Half { key: LessSafeKey::new(key), iv: [9; NONCE_LEN], sequence: 0, first: 0 }
    }

    fn pair() -> (Sealer, Opener) {
        (Sealer(half(&AES_128_GCM)), Opener(half(&AES_128_GCM)))
    }

    #[test]
    fn records_round_trip_in_order_only() {
        let (mut sealer, mut opener) = pair();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        sealer.seal(&[b"hel", b"lo"], &mut first).expect("sealed");
        sealer.seal(&[b"world"], &mut second).expect("sealed");
        let mut both = [first.clone(), second.clone()].concat();
        assert_eq!(opener.open(&mut both), Ok(Opened::Data(b"hello", first.len())));
        assert_eq!(opener.open(&mut first), Err(TlsError::Seal), "the same again");
        let (_, mut other) = pair();
        assert_eq!(other.open(&mut second), Err(TlsError::Seal), "the second first");
    }

    #[test]
    fn a_changed_bit_anywhere_and_any_truncation_is_noticed() {
        let (mut sealer, _) = pair();
        let mut record = Vec::new();
        sealer.seal(&[b"payload"], &mut record).expect("sealed");
        for index in 0..record.len() {
            let mut changed = record.clone();
            changed[index] ^= 1;
            let opened = pair().1.open(&mut changed).map(|found| matches!(found, Opened::Data(..)));
            assert_ne!(opened, Ok(true), "byte {index}");
        }
        for length in 0..record.len() {
            assert_eq!(pair().1.open(&mut record[..length].to_vec()), Ok(Opened::Partial), "{length} bytes");
        }
    }

    #[test]
    fn a_worn_key_opens_no_more() {
        let (mut sealer, mut opener) = pair();
        sealer.0.sequence = MOST_RECORDS;
        opener.0.sequence = MOST_RECORDS;
        let mut record = Vec::new();
        sealer.seal(&[b"x"], &mut record).expect("sealed");
        assert!(sealer.is_worn());
        assert_eq!(opener.open(&mut record), Err(TlsError::Worn));
    }
}
