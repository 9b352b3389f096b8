use std::fmt;

/// Which of the two documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// Signed by the manager for a client machine's key.
    Session,
    /// Signed by the client machine's key for one process.
    Process,
}

impl fmt::Display for Document {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Document::Session => "session grant",
            Document::Process => "process grant",
        })
    }
}

/// Why a grant is refused. The sentence says what was given and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// Longer than any real grant.
    #[error("the grant has {given} bytes, {most} are the limit")]
    TooLong {
        /// Bytes that were given.
        given: usize,
        /// Bytes that are read at most.
        most: usize,
    },
    /// Not a compact JWS, or its parts are not what they should be.
    #[error("the {document} cannot be read: {problem}")]
    Malformed {
        /// Which document.
        document: Document,
        /// What is wrong with it.
        problem: String,
    },
    /// Another algorithm than the one there is.
    #[error("the {document} names the algorithm {given:?}, expected \"EdDSA\"")]
    Algorithm {
        /// Which document.
        document: Document,
        /// What its header says, shortened.
        given: String,
    },
    /// A document of another kind: a session grant in place of a process grant, say.
    #[error("the {document} is of the type {given:?}, expected {expected:?}")]
    Type {
        /// Which document.
        document: Document,
        /// What its header says, shortened.
        given: String,
        /// What it should say.
        expected: &'static str,
    },
    /// An extension that must be understood, and is not.
    #[error("the {document} has a header 'crit': extensions are not understood")]
    Critical {
        /// Which document.
        document: Document,
    },
    /// The session grant names a key that this server does not trust.
    #[error("the session grant is signed by the key {given:?}, which is none of the manager's: {trusted}")]
    UnknownManagerKey {
        /// The key it names, shortened.
        given: String,
        /// The keys that are trusted.
        trusted: String,
    },
    /// A key of this server's own configuration is none.
    #[error("the manager's key {kid:?}, as the agent has told it, is not an Ed25519 key")]
    TrustedKey {
        /// Its name.
        kid: String,
    },
    /// The signature does not fit document and key: one of the three was made up or changed.
    #[error("the signature of the {document} is not that of the key {key}")]
    Signature {
        /// Which document.
        document: Document,
        /// Thumbprint of the key that should have signed.
        key: String,
    },
    /// The process grant is signed by another key than the session grant is for.
    #[error(
        "the process grant is signed by the key {given}, but the session was granted to the key {expected}"
    )]
    ForeignKey {
        /// Thumbprint of the key that signed.
        given: String,
        /// Thumbprint of the client machine's key.
        expected: String,
    },
    /// The grant is for another session.
    #[error("the grant is for the session {given:?}, this is {expected:?}")]
    ForeignSession {
        /// The session it names, shortened.
        given: String,
        /// The session that was connected to.
        expected: String,
    },
    /// The grant is for another server.
    #[error("the session was granted on the server {given:?}, this is {expected:?}")]
    ForeignServer {
        /// The server it names, shortened.
        given: String,
        /// This server.
        expected: String,
    },
    /// The grant is for another connection.
    #[error("the grant is for the connection {given:?}, this is {expected:?}")]
    ForeignConnection {
        /// The connection it names, shortened.
        given: String,
        /// This connection.
        expected: String,
    },
    /// Whoever connects does not hold the key that the grant is for.
    #[error("the grant is for a process with another key than the one that connects: it was copied")]
    ForeignPeer,
    /// Another process connects than the one that the grant is for.
    #[error(
        "the grant is for process {given_pid} of user id {given_uid}, but process {pid} of user id {uid} connects"
    )]
    ForeignProcess {
        /// The process the grant is for.
        given_pid: u32,
        /// Its user id.
        given_uid: u32,
        /// The process that connects.
        pid: u32,
        /// Its user id.
        uid: u32,
    },
    /// Too late.
    #[error(
        "the {document} expired {seconds} s ago (valid until {until}, this server's clock says {now}): \
         connect again, and compare the clocks of manager, client and server if that does not help"
    )]
    Expired {
        /// Which document.
        document: Document,
        /// How long ago.
        seconds: u64,
        /// Until when it was valid, in seconds since 1970.
        until: u64,
        /// This machine's clock, in seconds since 1970.
        now: u64,
    },
    /// Too early: a clock is wrong.
    #[error(
        "the {document} becomes valid in {seconds} s only (valid from {from}, this server's clock says {now}): \
         this server's clock is behind, or that of its signer ahead"
    )]
    NotYetValid {
        /// Which document.
        document: Document,
        /// In how long.
        seconds: u64,
        /// From when it is valid, in seconds since 1970.
        from: u64,
        /// This machine's clock, in seconds since 1970.
        now: u64,
    },
    /// A process grant that claims to live longer than they may.
    #[error("the process grant is valid for {given} s, {most} s are the limit")]
    TooLongLived {
        /// Its lifetime.
        given: u64,
        /// The longest there is.
        most: u64,
    },
    /// The client machine's key was revoked.
    #[error("the client with the key {key} was revoked by an administrator")]
    Revoked {
        /// Its thumbprint.
        key: String,
    },
}

impl GrantError {
    /// A word for programs, logs and the audit table; never changed.
    pub fn code(&self) -> &'static str {
        match self {
            GrantError::TooLong { .. } => "tooLong",
            GrantError::Malformed { .. } => "malformed",
            GrantError::Algorithm { .. } => "algorithm",
            GrantError::Type { .. } => "type",
            GrantError::Critical { .. } => "critical",
            GrantError::UnknownManagerKey { .. } => "unknownManagerKey",
            GrantError::TrustedKey { .. } => "trustedKey",
            GrantError::Signature { .. } => "signature",
            GrantError::ForeignKey { .. } => "foreignKey",
            GrantError::ForeignSession { .. } => "foreignSession",
            GrantError::ForeignServer { .. } => "foreignServer",
            GrantError::ForeignConnection { .. } => "foreignConnection",
            GrantError::ForeignPeer => "foreignPeer",
            GrantError::ForeignProcess { .. } => "foreignProcess",
            GrantError::Expired { .. } => "expired",
            GrantError::NotYetValid { .. } => "notYetValid",
            GrantError::TooLongLived { .. } => "tooLongLived",
            GrantError::Revoked { .. } => "revoked",
        }
    }
}

/// What somebody else wrote, short enough for a sentence. `{:?}` takes care of its characters.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 64;
    if text.chars().count() <= MOST {
        text.to_owned()
    } else {
        text.chars().take(MOST).chain(['…']).collect()
    }
}
