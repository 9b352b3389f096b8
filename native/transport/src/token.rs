//! Proofs for an acceptor that somebody entitled to a session has named a connection: keyed digests of its id.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};

/// Bytes of a token.
pub const TOKEN_BYTES: usize = 32;

/// Lets the process with this connection id in.
pub fn routing_token(secret: &[u8; 32], connection_id: &[u8; 16]) -> [u8; TOKEN_BYTES] {
    token(secret, b"farpool route", connection_id)
}

/// Says that the process with this connection id is dead.
pub fn end_token(secret: &[u8; 32], connection_id: &[u8; 16]) -> [u8; TOKEN_BYTES] {
    token(secret, b"farpool end", connection_id)
}

fn token(secret: &[u8; 32], purpose: &[u8], connection_id: &[u8; 16]) -> [u8; TOKEN_BYTES] {
    let tag = sign(&Key::new(HMAC_SHA256, secret), &[purpose, connection_id].concat());
    let mut token = [0; TOKEN_BYTES];
    token.copy_from_slice(tag.as_ref());
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_one_secret_purpose_and_connection() {
        let token = routing_token(&[1; 32], &[2; 16]);
        assert_eq!(token, routing_token(&[1; 32], &[2; 16]));
        assert_ne!(token, routing_token(&[3; 32], &[2; 16]));
        assert_ne!(token, routing_token(&[1; 32], &[3; 16]));
        assert_ne!(token, end_token(&[1; 32], &[2; 16]));
    }
}
