//! Who the two ends are: a client process by a key made in its memory, a worker by a certificate of its pool.

use std::io;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::randomness;

/// Bytes of an Ed25519 public key as SubjectPublicKeyInfo.
pub const SPKI_BYTES: usize = 44;

/// What stands before the 32 bytes of the key (RFC 8410).
const SPKI_HEAD: [u8; SPKI_BYTES - 32] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a TLS connection does not come about or ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A record that no honest peer sends.
    #[error("a TLS record is malformed")]
    Record,
    /// A record was changed on its way, or sealed by somebody else.
    #[error("a TLS record was changed on its way")]
    Seal,
    /// As many records as one key may open.
    #[error("a TLS key has been used for too many records")]
    Worn,
    /// A cipher suite that is not known here.
    #[error("the TLS cipher suite is not known")]
    Suite,
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(String),
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// It cannot be read, or is not what it should be.
    #[error("cannot read the worker's identity: {reason}")]
    Read {
        /// Why.
        reason: String,
    },
    /// The kernel gave no random bytes, or the library refuses the key.
    #[error("cannot make or use a key: {0}")]
    Key(String),
}

/// The key pair of a client process. It never leaves the process's memory.
#[derive(Debug, Clone)]
pub struct ClientKey {
    pub(super) certified: Arc<CertifiedKey>,
    spki: [u8; SPKI_BYTES],
}

impl ClientKey {
    /// A new one.
    pub fn generate() -> Result<ClientKey, IdentityError> {
        let unusable = |reason: String| IdentityError::Key(reason);
        randomness::prepare().map_err(|error| unusable(error.to_string()))?;
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|error| unusable(error.to_string()))?;
        let pair =
            Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|error| unusable(error.to_string()))?;
        let mut spki = [0; SPKI_BYTES];
        spki[..SPKI_HEAD.len()].copy_from_slice(&SPKI_HEAD);
        spki[SPKI_HEAD.len()..].copy_from_slice(pair.public_key().as_ref());
        let der = PrivatePkcs8KeyDer::from(document.as_ref().to_vec());
        let key = rustls::crypto::aws_lc_rs::sign::any_eddsa_type(&der)
            .map_err(|error| unusable(error.to_string()))?;
        let certified = CertifiedKey::new(vec![CertificateDer::from(spki.to_vec())], key);
        Ok(ClientKey { certified: Arc::new(certified), spki })
    }

    /// The public key as SubjectPublicKeyInfo (DER).
    pub fn spki(&self) -> &[u8; SPKI_BYTES] {
        &self.spki
    }
}

/// What a worker proves to be a server of its pool with: its certificate's chain and key.
#[derive(Debug)]
pub struct WorkerIdentity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl WorkerIdentity {
    /// Reads PEM with certificates, the worker's first, and one PKCS#8 key.
    pub fn read_from(mut source: impl io::Read) -> Result<WorkerIdentity, IdentityError> {
        let refused = |reason: String| IdentityError::Read { reason };
        let mut pem = Vec::new();
        source.read_to_end(&mut pem).map_err(|error| refused(error.to_string()))?;
        let chain = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| refused(format!("{error:?}")))?;
        if chain.is_empty() {
            return Err(refused("it holds no certificate".into()));
        }
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| refused(format!("{error:?}")))?;
        Ok(WorkerIdentity { chain, key })
    }
}
