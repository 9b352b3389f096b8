//! Compact JSON Web Signatures, as far as grants need them.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;

use crate::claims::Header;
use crate::error::{Document, GrantError, shown};

/// Length of an Ed25519 public key.
pub(crate) const KEY_BYTES: usize = 32;

/// A document whose signature has not been checked: its header says by which key it should be.
pub(crate) struct Unverified<'text> {
    document: Document,
    pub(crate) header: Header,
    /// What is signed: header and payload as they were written.
    signed: &'text str,
    payload: &'text str,
    signature: Vec<u8>,
}

impl<'text> Unverified<'text> {
    /// Takes a document apart, and refuses what is not of its kind.
    pub(crate) fn parse(text: &'text str, document: Document) -> Result<Unverified<'text>, GrantError> {
        let malformed = |problem: &str| GrantError::Malformed { document, problem: problem.to_owned() };
        let mut parts = text.split('.');
        let (Some(header_text), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("it does not have three parts with points between them"));
        };
        let header: Header = decode_json(header_text, document, "header")?;
        if header.alg != "EdDSA" {
            return Err(GrantError::Algorithm { document, given: shown(&header.alg) });
        }
        let expected = match document {
            Document::Session => "farpool-session+jwt",
            Document::Process => "farpool-process+jwt",
        };
        if header.typ != expected {
            return Err(GrantError::Type { document, given: shown(&header.typ), expected });
        }
        if header.crit.is_some() {
            return Err(GrantError::Critical { document });
        }
        let signature = decode(signature).ok_or_else(|| malformed("its signature is not base64url"))?;
        let signed = &text[..header_text.len() + 1 + payload.len()];
        Ok(Unverified { document, header, signed, payload, signature })
    }

    /// What it says, once its signature is that of `key`, whose thumbprint is `name`.
    pub(crate) fn verify<T: DeserializeOwned>(
        self,
        key: &[u8; KEY_BYTES],
        name: &str,
    ) -> Result<T, GrantError> {
        let document = self.document;
        UnparsedPublicKey::new(&ED25519, key)
            .verify(self.signed.as_bytes(), &self.signature)
            .map_err(|_| GrantError::Signature { document, key: shown(name) })?;
        decode_json(self.payload, document, "payload")
    }
}

fn decode_json<T: DeserializeOwned>(text: &str, document: Document, part: &str) -> Result<T, GrantError> {
    let malformed = |problem: String| GrantError::Malformed { document, problem };
    let bytes = decode(text).ok_or_else(|| malformed(format!("its {part} is not base64url")))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| malformed(format!("its {part} is not understood: {error}")))
}

/// Without padding and without spare bits: there is one text for the same bytes.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// The points whose order is 1, 2, 4 or 8, without the sign bit: for those as public keys there are signatures that
/// fit every message, and `ring` takes them.
const POINTS_OF_SMALL_ORDER: [[u8; KEY_BYTES]; 7] = [
    near_zero(0),
    near_zero(1),
    near_prime(0xec),
    near_prime(0xed),
    near_prime(0xee),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

const fn near_zero(first: u8) -> [u8; KEY_BYTES] {
    let mut point = [0; KEY_BYTES];
    point[0] = first;
    point
}

const fn near_prime(first: u8) -> [u8; KEY_BYTES] {
    let mut point = [0xff; KEY_BYTES];
    point[0] = first;
    point[KEY_BYTES - 1] = 0x7f;
    point
}

/// The public key of a JWK's `x`, unless everybody can sign for it.
pub(crate) fn decode_key(x: &str) -> Option<[u8; KEY_BYTES]> {
    let key: [u8; KEY_BYTES] = decode(x)?.try_into().ok()?;
    let mut point = key;
    point[KEY_BYTES - 1] &= 0x7f;
    (!POINTS_OF_SMALL_ORDER.contains(&point)).then_some(key)
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// The name of an Ed25519 key: RFC 7638, base64url.
pub fn thumbprint(key: &[u8; 32]) -> String {
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(key));
    URL_SAFE_NO_PAD.encode(sha256(canonical.as_bytes()))
}
