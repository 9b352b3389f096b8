//! Where a server's data port is, as text and parsed.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// An address of a data port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `tls HOST:PORT`: TCP with TLS
    Tls(String),
    /// `tcp HOST:PORT`: TCP in clear
    Tcp(String),
    /// `unix PATH`
    Unix(PathBuf),
}

/// A text that is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not an endpoint, expected `tls HOST:PORT`, `tcp HOST:PORT` or `unix PATH`")]
pub struct EndpointError {
    given: String,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(' ') {
            Some(("tls", address)) if address.contains(':') => Ok(Endpoint::Tls(address.to_owned())),
            Some(("tcp", address)) if address.contains(':') => Ok(Endpoint::Tcp(address.to_owned())),
            Some(("unix", path)) if path.starts_with('/') => Ok(Endpoint::Unix(PathBuf::from(path))),
            _ => Err(EndpointError { given: text.to_owned() }),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tls(address) => write!(formatter, "tls {address}"),
            Endpoint::Tcp(address) => write!(formatter, "tcp {address}"),
            Endpoint::Unix(path) => write!(formatter, "unix {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_round_trip_as_text_and_others_are_refused() {
        for text in ["tls gpu-03:7445", "tcp 127.0.0.1:7445", "tcp [::1]:7445", "unix /run/farpool/data.sock"]
        {
            assert_eq!(text.parse::<Endpoint>().expect(text).to_string(), text);
        }
        for text in ["", "tcp", "tcp localhost", "unix data.sock", "udp 1:2"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
