//! What the documents say. Unknown fields are ignored, except a header's `crit`, which asks not to be.

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    pub(crate) typ: String,
    pub(crate) kid: Option<String>,
    pub(crate) jwk: Option<Jwk>,
    pub(crate) crit: Option<IgnoredAny>,
}

/// An Ed25519 public key, as RFC 8037 writes it.
#[derive(Deserialize)]
pub(crate) struct Jwk {
    pub(crate) kty: String,
    pub(crate) crv: String,
    pub(crate) x: String,
}

/// The session grant; times are seconds since 1970.
#[derive(Deserialize)]
pub(crate) struct SessionClaims {
    #[serde(rename = "sub")]
    pub(crate) session: String,
    #[serde(rename = "aud")]
    pub(crate) server: String,
    #[serde(rename = "cnf")]
    pub(crate) confirmation: Confirmation,
    #[serde(rename = "nbf")]
    pub(crate) from: u64,
    #[serde(rename = "exp")]
    pub(crate) until: u64,
    pub(crate) user: Option<String>,
    pub(crate) client: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Confirmation {
    /// Thumbprint of the client machine's key.
    pub(crate) jkt: String,
}

/// The process grant.
#[derive(Deserialize)]
pub(crate) struct ProcessClaims {
    /// The session grant.
    pub(crate) session: String,
    #[serde(rename = "cid")]
    pub(crate) connection: String,
    /// SHA-256 of the process's public key (SPKI, DER).
    pub(crate) key: String,
    pub(crate) uid: u32,
    pub(crate) pid: u32,
    /// In clock ticks since the client machine's boot.
    pub(crate) start: u64,
    pub(crate) program: String,
    #[serde(rename = "iat")]
    pub(crate) signed_at: u64,
    #[serde(rename = "exp")]
    pub(crate) until: u64,
}
