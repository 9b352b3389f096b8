//! Where a connection is to go: what its preface, or the server name of its TLS handshake, says.

use transport::{TlsError, end_token, routing_token};
use wire::preface::{Preface, PrefaceError, Purpose};

use crate::protocol::Secret;

/// Ends every routing name.
const SUFFIX: &str = ".farpool.internal";

/// Bytes of a token that fit into a server name.
const NAMED_TOKEN_BYTES: usize = 16;

/// Where a connection is to go, and by what right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) session: String,
    pub(crate) connection_id: [u8; 16],
    /// The token, or its first 16 bytes.
    token: Vec<u8>,
    pub(crate) purpose: Purpose,
}

/// A connection whose first bytes name no worker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    #[error(transparent)]
    Preface(#[from] PrefaceError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the server name is not CONNECTION.TOKEN.FLAGS.SESSION{SUFFIX}")]
    Name,
}

impl Route {
    pub(crate) fn of_preface(preface: Preface) -> Route {
        Route {
            session: preface.session_id,
            connection_id: preface.connection_id,
            token: preface.token.to_vec(),
            purpose: preface.purpose,
        }
    }

    pub(crate) fn of_server_name(name: &str) -> Result<Route, RouteError> {
        let rest = name.strip_suffix(SUFFIX).ok_or(RouteError::Name)?;
        let mut labels = rest.splitn(4, '.');
        let mut label = || labels.next().ok_or(RouteError::Name);
        let connection_id = from_hex::<16>(label()?).ok_or(RouteError::Name)?;
        let token = from_hex::<NAMED_TOKEN_BYTES>(label()?).ok_or(RouteError::Name)?;
        let flags =
            label()?.strip_prefix('f').and_then(|flags| flags.parse().ok()).ok_or(RouteError::Name)?;
        let purpose = Purpose::from_flags(flags).filter(|purpose| !purpose.is_end).ok_or(RouteError::Name)?;
        let session = label()?.to_owned();
        Ok(Route { session, connection_id, token: token.to_vec(), purpose })
    }

    /// Whether the token is that of a session with this secret.
    pub(crate) fn is_proved_by(&self, secret: &Secret) -> bool {
        let token = if self.purpose.is_end { end_token } else { routing_token };
        let expected = token(secret.bytes(), &self.connection_id);
        let expected = if self.token.len() == NAMED_TOKEN_BYTES {
            &expected[..NAMED_TOKEN_BYTES]
        } else {
            &expected[..]
        };
        subtle::ConstantTimeEq::ct_eq(expected, &self.token[..]).into()
    }
}

/// The bytes that `text` spells in hexadecimal, if they are so many.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(flags: &str, token: &[u8]) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{}.{}.{flags}.s-7f3.farpool.internal", hex(&[7; 16]), hex(token))
    }

    #[test]
    fn a_server_name_says_what_a_preface_says() {
        let secret = Secret::parse(&"0f".repeat(32)).expect("a secret");
        let token = routing_token(secret.bytes(), &[7; 16]);
        let route = Route::of_server_name(&name("f3", &token[..16])).expect("a route");
        assert_eq!((route.session.as_str(), route.connection_id), ("s-7f3", [7; 16]));
        assert!(route.purpose.is_bulk_lane && route.purpose.is_resumed);
        assert!(route.is_proved_by(&secret));
        let forged = Route::of_server_name(&name("f3", &[1; 16])).expect("a route");
        assert!(!forged.is_proved_by(&secret));
        let purpose = Purpose { is_end: true, ..Purpose::default() };
        let mut preface = Preface { session_id: "s-7f3".into(), connection_id: [7; 16], token, purpose };
        assert!(!Route::of_preface(preface.clone()).is_proved_by(&secret), "a routing token ends nobody");
        preface.token = end_token(secret.bytes(), &[7; 16]);
        assert!(Route::of_preface(preface).is_proved_by(&secret));
    }

    #[test]
    fn other_names_are_refused() {
        for bad in [
            "example.com".to_owned(),
            name("f4", &[1; 16]),
            name("f8", &[1; 16]),
            name("3", &[1; 16]),
            name("f0", &[1; 15]),
            "a.b.f0.s.farpool.internal".to_owned(),
            ".farpool.internal".to_owned(),
        ] {
            assert!(Route::of_server_name(&bad).is_err(), "{bad}");
        }
    }
}
