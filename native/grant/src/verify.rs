use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::claims::{Jwk, ProcessClaims, SessionClaims};
use crate::error::{Document, GrantError, shown};
use crate::jws::{KEY_BYTES, Unverified, decode, decode_key, sha256, thumbprint};
use crate::{CLOCK_LEEWAY_SECONDS, MAX_GRANT_BYTES, PROCESS_GRANT_SECONDS};

/// A key with which a manager signs session grants, as the agent tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ManagerKey {
    /// Its thumbprint.
    pub kid: String,
    /// The public key, as JWKs write it: base64url.
    pub x: String,
}

/// Who is at the other end, as something that cannot lie says.
#[derive(Debug, Clone, Copy)]
pub enum Peer<'a> {
    /// The public key that the peer proved in the TLS handshake: SPKI, DER.
    Key(&'a [u8]),
    /// What the kernel says about the peer of a Unix socket.
    Process {
        /// Its user id.
        uid: u32,
        /// Its process id.
        pid: u32,
    },
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A new process: its grant was just signed.
    First,
    /// A connection in place of a broken one: the process grant may be old, the session grant may not.
    Resume,
}

/// What a grant has to be for.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The session that was connected to.
    pub session_id: &'a str,
    /// This server.
    pub server_id: &'a str,
    /// The keys that are trusted.
    pub manager_keys: &'a [ManagerKey],
    /// Thumbprints of client machines' keys that are trusted no longer.
    pub revoked: &'a [String],
    /// The connection's id.
    pub connection_id: [u8; 16],
    /// Who connects.
    pub peer: Peer<'a>,
    /// What for.
    pub purpose: Purpose,
}

/// What a good grant says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// When the session grant ends; a connection needs a new one before.
    pub session_expires: SystemTime,
    /// Names the client machine's key.
    pub client_key_thumbprint: String,
    /// SHA-256 of the process's public key (SPKI, DER): a resume must show the same.
    pub key: [u8; 32],
    /// User id of the process on its machine.
    pub uid: u32,
    /// Its process id there.
    pub pid: u32,
    /// When it was started, in clock ticks since that machine's boot: with `pid` it names the process.
    pub start: u64,
    /// The program's name, as the process itself says.
    pub program: String,
    /// Who the manager says that the user is.
    pub user: Option<String>,
    /// What the manager calls the client machine.
    pub client: Option<String>,
}

/// Checks a process grant and the session grant inside it.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn verify(text: &str, now: SystemTime, expected: &Expected<'_>) -> Result<Verified, GrantError> {
    if text.len() > MAX_GRANT_BYTES {
        return Err(GrantError::TooLong { given: text.len(), most: MAX_GRANT_BYTES });
    }
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // Whoever made the document chose this key. It counts once the session grant turns out to be for it.
    let unverified = Unverified::parse(text, Document::Process)?;
    let signer =
        unverified.header.jwk.as_ref().and_then(public_key).ok_or_else(|| GrantError::Malformed {
            document: Document::Process,
            problem: "its header has no Ed25519 key".to_owned(),
        })?;
    let signer_name = thumbprint(&signer);
    let process: ProcessClaims = unverified.verify(&signer, &signer_name)?;
    let session = verify_session(&process.session, now, expected)?;
    if session.confirmation.jkt != signer_name {
        return Err(GrantError::ForeignKey {
            given: signer_name,
            expected: shown(&session.confirmation.jkt),
        });
    }
    let key = check_process(&process, now, expected)?;
    let session_expires =
        UNIX_EPOCH.checked_add(Duration::from_secs(session.until)).ok_or_else(|| GrantError::Malformed {
            document: Document::Session,
            problem: format!("its end, {} s after 1970, is no time", session.until),
        })?;
    Ok(Verified {
        session_expires,
        client_key_thumbprint: signer_name,
        key,
        uid: process.uid,
        pid: process.pid,
        start: process.start,
        program: process.program,
        user: session.user,
        client: session.client,
    })
}

fn public_key(jwk: &Jwk) -> Option<[u8; KEY_BYTES]> {
    (jwk.kty == "OKP" && jwk.crv == "Ed25519").then(|| decode_key(&jwk.x)).flatten()
}

fn verify_session(text: &str, now: u64, expected: &Expected<'_>) -> Result<SessionClaims, GrantError> {
    let document = Document::Session;
    let unverified = Unverified::parse(text, document)?;
    let given = unverified.header.kid.clone().unwrap_or_default();
    let Some(trusted) = expected.manager_keys.iter().find(|key| key.kid == given) else {
        let trusted: Vec<&str> = expected.manager_keys.iter().map(|key| key.kid.as_str()).collect();
        return Err(GrantError::UnknownManagerKey { given: shown(&given), trusted: trusted.join(", ") });
    };
    let key = decode_key(&trusted.x).ok_or_else(|| GrantError::TrustedKey { kid: shown(&trusted.kid) })?;
    let claims: SessionClaims = unverified.verify(&key, &trusted.kid)?;
    let client = &claims.confirmation.jkt;
    if expected.revoked.contains(client) {
        return Err(GrantError::Revoked { key: shown(client) });
    }
    if claims.session != expected.session_id {
        return Err(GrantError::ForeignSession {
            given: shown(&claims.session),
            expected: expected.session_id.to_owned(),
        });
    }
    if claims.server != expected.server_id {
        return Err(GrantError::ForeignServer {
            given: shown(&claims.server),
            expected: expected.server_id.to_owned(),
        });
    }
    if now < claims.from {
        return Err(GrantError::NotYetValid { document, seconds: claims.from - now, from: claims.from, now });
    }
    check_end(document, claims.until, now)?;
    Ok(claims)
}

/// Whether the process grant is for this connection and for whoever is at its other end; the hash of its key.
fn check_process(claims: &ProcessClaims, now: u64, expected: &Expected<'_>) -> Result<[u8; 32], GrantError> {
    let document = Document::Process;
    let connection = hex(expected.connection_id);
    if claims.connection != connection {
        return Err(GrantError::ForeignConnection { given: shown(&claims.connection), expected: connection });
    }
    let lifetime = claims.until.saturating_sub(claims.signed_at);
    if lifetime > PROCESS_GRANT_SECONDS {
        return Err(GrantError::TooLongLived { given: lifetime, most: PROCESS_GRANT_SECONDS });
    }
    let from = claims.signed_at.saturating_sub(CLOCK_LEEWAY_SECONDS);
    if now < from {
        return Err(GrantError::NotYetValid { document, seconds: from - now, from, now });
    }
    if expected.purpose == Purpose::First {
        check_end(document, claims.until, now)?;
    }
    let key: [u8; 32] = decode(&claims.key).and_then(|key| key.try_into().ok()).ok_or_else(|| {
        GrantError::Malformed { document, problem: "its key is not the SHA-256 of one".to_owned() }
    })?;
    match expected.peer {
        Peer::Key(spki) if sha256(spki) != key => Err(GrantError::ForeignPeer),
        Peer::Process { uid, pid } if (uid, pid) != (claims.uid, claims.pid) => {
            Err(GrantError::ForeignProcess { given_pid: claims.pid, given_uid: claims.uid, pid, uid })
        }
        Peer::Key(_) | Peer::Process { .. } => Ok(key),
    }
}

fn check_end(document: Document, until: u64, now: u64) -> Result<(), GrantError> {
    if now < until {
        return Ok(());
    }
    Err(GrantError::Expired { document, seconds: now - until, until, now })
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
