//! Asks the broker for a way to a worker: session, secret and addresses (ARCHITECTURE 4.4).

use std::time::Duration;

use transport::{Endpoint, Socket};

/// Bytes of an answer that are read at most; a real one has a few hundred.
const ANSWER_LIMIT: usize = 64 << 10;

/// How long the broker may take to answer: it holds the session already when it starts the program.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the broker hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The session's id.
    pub session_id: String,
    /// Its secret.
    pub secret: [u8; 32],
    /// Where its server's data port is, best first.
    pub endpoints: Vec<Endpoint>,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// Nobody answers on the socket.
    #[error("the session's broker at `{path}` does not answer ({reason}): the session has probably ended")]
    Unreachable {
        /// The socket.
        path: String,
        /// Why.
        reason: String,
    },
    /// The program uses all the descriptors that it may have.
    #[error(
        "this process has no descriptor left for the connection to its GPU server ({reason}); hint: `ulimit -n` shows how many it may have"
    )]
    NoDescriptor {
        /// Why.
        reason: String,
    },
    /// The broker says no.
    #[error("{sentence}")]
    Refused {
        /// Exit code that goes with the refusal.
        exit_code: i32,
        /// Name of the `CUresult` for `cuInit`.
        result: String,
        /// The sentence for the user.
        sentence: String,
    },
    /// The answer is not one.
    #[error("the session's broker at `{path}` answered `{line}`, expected {expected}")]
    Malformed {
        /// The socket.
        path: String,
        /// The line that is wrong.
        line: String,
        /// What was expected.
        expected: &'static str,
    },
}

/// Asks the broker behind the Unix socket `path`.
pub fn admission(path: &str) -> Result<Admission, BrokerError> {
    let unreachable = |error: std::io::Error| match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => BrokerError::NoDescriptor { reason: error.to_string() },
        _ => BrokerError::Unreachable { path: path.to_owned(), reason: error.to_string() },
    };
    let endpoint = Endpoint::Unix(path.into());
    let socket = Socket::connect(&endpoint, ANSWER_TIMEOUT, |descriptor| descriptor).map_err(unreachable)?;
    socket.limit_receiving(Some(ANSWER_TIMEOUT));
    let request =
        format!("farpool-broker 1\npid {}\nprogram {}\n\n", std::process::id(), crate::program::name());
    socket.send_all(&[request.as_bytes()]).map_err(unreachable)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with(b"\n\n") && answer.len() < ANSWER_LIMIT {
        match socket.receive(&mut buffer).map_err(unreachable)? {
            0 => break,
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let lines: Vec<String> = answer.lines().take_while(|line| !line.is_empty()).map(str::to_owned).collect();
    parse(path, &lines)
}

fn parse(path: &str, lines: &[String]) -> Result<Admission, BrokerError> {
    let malformed = |line: &str, expected| BrokerError::Malformed {
        path: path.to_owned(),
        line: line.to_owned(),
        expected,
    };
    match lines.first().map(String::as_str) {
        Some("ok") => {}
        Some(line) => {
            let mut words = line.splitn(4, ' ');
            return match (words.next(), words.next().map(str::parse), words.next(), words.next()) {
                (Some("error"), Some(Ok(exit_code)), Some(result), Some(sentence)) => {
                    Err(BrokerError::Refused {
                        exit_code,
                        result: result.to_owned(),
                        sentence: sentence.to_owned(),
                    })
                }
                _ => Err(malformed(line, "`ok` or `error CODE NAME sentence`")),
            };
        }
        None => return Err(malformed("", "`ok` or `error CODE NAME sentence`")),
    }
    let mut session_id = None;
    let mut secret = None;
    let mut endpoints = Vec::new();
    for line in &lines[1..] {
        match line.split_once(' ') {
            Some(("session", id)) => session_id = Some(id.to_owned()),
            Some(("secret", text)) => {
                secret = Some(from_hex(text).ok_or_else(|| malformed("secret …", "64 hexadecimal digits"))?);
            }
            Some(("endpoint", text)) => {
                endpoints.push(text.parse().map_err(|_| malformed(line, "`tcp HOST:PORT` or `unix PATH`"))?);
            }
            // A newer broker may say more than this shim knows.
            _ => {}
        }
    }
    match (session_id, secret) {
        (Some(session_id), Some(secret)) if !endpoints.is_empty() => {
            Ok(Admission { session_id, secret, endpoints })
        }
        _ => Err(malformed("ok", "a session, a secret and an endpoint after it")),
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (value, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *value = u8::try_from(high << 4 | low).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn an_admission_is_read_and_unknown_lines_are_left_alone() {
        let text = format!(
            "ok\nsession s-1\nsecret {}\nfuture thing\nendpoint unix /run/x\nendpoint tcp h:1",
            "0f".repeat(32)
        );
        let admission = parse("/b", &lines(&text)).expect("an admission");
        assert_eq!(admission.session_id, "s-1");
        assert_eq!(admission.secret, [15; 32]);
        assert_eq!(admission.endpoints, [Endpoint::Unix("/run/x".into()), Endpoint::Tcp("h:1".into())]);
    }

    #[test]
    fn a_refusal_keeps_its_code_and_sentence() {
        let error = parse("/b", &lines("error 75 CUDA_ERROR_NO_DEVICE no GPU came free in 10 min"));
        assert_eq!(
            error,
            Err(BrokerError::Refused {
                exit_code: 75,
                result: "CUDA_ERROR_NO_DEVICE".into(),
                sentence: "no GPU came free in 10 min".into()
            })
        );
    }

    #[test]
    fn half_an_answer_is_malformed() {
        for text in ["", "maybe", "ok", "ok\nsession s-1\nsecret zz", "ok\nsession s\nendpoint tcp 1"] {
            assert!(matches!(parse("/b", &lines(text)), Err(BrokerError::Malformed { .. })), "{text}");
        }
    }
}
