//! TLS 1.3's protection of records (RFC 8446, 5.2 and 5.3).

use std::io;

use aws_lc_rs::aead::{
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

/// Bytes that a record has more than its plaintext: the head, the type's byte, the tag.
pub const RECORD_EXTRA_BYTES: usize = RECORD_HEAD_BYTES + 1 + TAG_BYTES;

/// Ciphertext of one record at most, the type's byte and the tag with it.
const MOST_CIPHERTEXT: usize = MOST_PLAINTEXT + 256;

/// Records under one key: RFC 8446 (5.5) allows AES-GCM 2^24.5 full ones. The lane is resumed with new keys before.
const MOST_RECORDS: u64 = 1 << 23;

/// Plaintext from here on is worth a place of its own: a record that was opened in place is copied from there.
const PLACED_FROM: usize = 1 << 10;

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

    /// Makes one record of `parts`, at most [`MOST_PLAINTEXT`] bytes together, in `out`, which has [`RECORD_EXTRA_BYTES`]
    /// more. One part is sealed from where it is; several are put together first.
    ///
    /// Errors: one of the lengths is another.
    pub fn seal(&mut self, parts: &[&[u8]], out: &mut [u8]) -> io::Result<()> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if length > MOST_PLAINTEXT || out.len() != length + RECORD_EXTRA_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let behind_head = u16::try_from(length + 1 + TAG_BYTES).map_err(|_| io::ErrorKind::InvalidInput)?;
        let [high, low] = behind_head.to_be_bytes();
        let head = [APPLICATION_DATA, 3, 3, high, low];
        let (place, sealed) = out.split_at_mut(RECORD_HEAD_BYTES);
        place.copy_from_slice(&head);
        let (sealed, end) = sealed.split_at_mut(length);
        let (nonce, aad, kind) = (self.0.next_nonce(), Aad::from(head), &[APPLICATION_DATA]);
        let done = if let [plain] = parts {
            self.0.key.seal_out_of_place_scatter(nonce, aad, plain, sealed, kind, end)
        } else {
            let mut rest = &mut *sealed;
            for part in parts {
                let (place, behind) = rest.split_at_mut(part.len());
                place.copy_from_slice(part);
                rest = behind;
            }
            self.0.key.seal_in_place_scatter(nonce, aad, sealed, kind, end)
        };
        done.map_err(|_| io::Error::other("a record cannot be sealed"))
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
    /// So many bytes of the stream at the beginning of the place that was given, and how many bytes the record took.
    Placed(usize, usize),
    /// The other end says that it sends no more.
    End,
}

impl Opener {
    /// The opener for these secrets.
    pub(super) fn new(secrets: (u64, ConnectionTrafficSecrets)) -> Result<Opener, TlsError> {
        Half::new(secrets).map(Opener)
    }

    /// Opens the record at the beginning of `bytes`: in place, or to the beginning of `place` where that has room for
    /// all of a long record and for the type's byte behind it. An error leaves there what nobody may use.
    ///
    /// Errors: it is malformed, or was sealed by somebody else.
    pub fn open<'a>(&mut self, bytes: &'a mut [u8], place: &mut [u8]) -> Result<Opened<'a>, TlsError> {
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
        let plain_length = length.checked_sub(TAG_BYTES).ok_or(TlsError::Record)?;
        let (sealed, tag) = body.split_at(plain_length);
        if let Some(place) = place.get_mut(..plain_length)
            && plain_length >= PLACED_FROM
        {
            let opened = self.0.key.open_separate_gather(nonce, Aad::from(head), sealed, tag, place);
            opened.map_err(|_| TlsError::Seal)?;
            return match content(place)? {
                Some(content) => Ok(Opened::Placed(content.len(), whole)),
                None => Ok(Opened::End),
            };
        }
        let plain = self.0.key.open_in_place(nonce, Aad::from(head), body).map_err(|_| TlsError::Seal)?;
        Ok(content(plain)?.map_or(Opened::End, |content| Opened::Data(content, whole)))
    }
}

/// The bytes of the stream in a record that was opened; `None` where it says that no more come.
fn content(plain: &[u8]) -> Result<Option<&[u8]>, TlsError> {
    // Zeros behind the type's byte are padding.
    let end = plain.iter().rposition(|byte| *byte != 0).ok_or(TlsError::Record)?;
    match plain[end] {
        APPLICATION_DATA => Ok(Some(&plain[..end])),
        ALERT => Ok(None),
        // Tickets are not asked for, and keys are not updated: the lane is resumed with new ones.
        _ => Err(TlsError::Record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::aead::Algorithm;

    fn half(algorithm: &'static Algorithm) -> Half {
        let key = UnboundKey::new(algorithm, &vec![7; algorithm.key_len()]).expect("a key");
        Half { key: LessSafeKey::new(key), iv: [9; NONCE_LEN], sequence: 0, first: 0 }
    }

    fn pair() -> (Sealer, Opener) {
        (Sealer(half(&AES_128_GCM)), Opener(half(&AES_128_GCM)))
    }

    fn sealed(sealer: &mut Sealer, plain: &[u8]) -> Vec<u8> {
        let mut record = vec![0; plain.len() + RECORD_EXTRA_BYTES];
        sealer.seal(&[plain], &mut record).expect("sealed");
        record
    }

    #[test]
    fn records_round_trip_in_order_only() {
        let (mut sealer, mut opener) = pair();
        let (mut first, mut second) = (vec![0; 5 + RECORD_EXTRA_BYTES], sealed(&mut pair().0, b"world"));
        sealer.seal(&[b"hel", b"lo"], &mut first).expect("sealed");
        sealer.seal(&[b"world"], &mut second).expect("sealed");
        let mut both = [first.clone(), second.clone()].concat();
        assert_eq!(opener.open(&mut both, &mut []), Ok(Opened::Data(b"hello", first.len())));
        assert_eq!(opener.open(&mut first, &mut []), Err(TlsError::Seal), "the same again");
        let (_, mut other) = pair();
        assert_eq!(other.open(&mut second, &mut []), Err(TlsError::Seal), "the second first");
    }

    #[test]
    fn a_changed_bit_anywhere_and_any_truncation_is_noticed() {
        let (mut sealer, _) = pair();
        for plain in [&b"payload"[..], &[7; PLACED_FROM]] {
            let record = sealed(&mut pair().0, plain);
            let mut place = vec![0; plain.len() + 1];
            for index in 0..record.len() {
                let mut changed = record.clone();
                changed[index] ^= 1;
                let opened = pair().1.open(&mut changed, &mut place);
                assert!(
                    !matches!(opened, Ok(Opened::Data(..) | Opened::Placed(..))),
                    "byte {index} of {}: {opened:?}",
                    record.len()
                );
            }
            for length in 0..record.len() {
                let opened = pair().1.open(&mut record[..length].to_vec(), &mut place) == Ok(Opened::Partial);
                assert!(opened, "{length} bytes of {}", record.len());
            }
        }
        assert!(sealer.seal(&[&[0; MOST_PLAINTEXT + 1]], &mut vec![0; 1 << 15]).is_err(), "too long");
    }

    #[test]
    fn a_long_record_is_opened_where_its_bytes_are_wanted() {
        let plain: Vec<u8> = (0..=u8::MAX).cycle().take(MOST_PLAINTEXT).collect();
        let mut record = sealed(&mut pair().0, &plain);
        let whole = record.len();
        let mut place = vec![0; plain.len() + 1];
        assert_eq!(pair().1.open(&mut record.clone(), &mut place), Ok(Opened::Placed(plain.len(), whole)));
        assert_eq!(place[..plain.len()], plain);
        let (narrow, mut opener) = (&mut vec![0; plain.len()], pair().1);
        assert_eq!(opener.open(&mut record, narrow), Ok(Opened::Data(&plain, whole)), "no room for the type");
        let mut short = sealed(&mut pair().0, b"short");
        assert!(matches!(pair().1.open(&mut short, &mut place), Ok(Opened::Data(b"short", _))));
    }

    #[test]
    fn a_worn_key_opens_no_more() {
        let (mut sealer, mut opener) = pair();
        sealer.0.sequence = MOST_RECORDS;
        opener.0.sequence = MOST_RECORDS;
        let mut record = sealed(&mut sealer, b"x");
        assert!(sealer.is_worn());
        assert_eq!(opener.open(&mut record, &mut []), Err(TlsError::Worn));
    }
}
