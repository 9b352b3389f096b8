//! Asks the broker for a way to a worker: session, grant and addresses (ARCHITECTURE 4.4).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use transport::{Endpoint, SPKI_BYTES, Socket};

/// Bytes of an answer that are read at most; a real one has a few hundred.
const ANSWER_LIMIT: usize = 64 << 10;

/// How long a process may be without a connection where the broker says nothing of it.
const USUAL_GRACE: Duration = Duration::from_secs(120);

/// How long the broker may take to answer: it holds the session already when it starts the program.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the broker hands out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admission {
    /// The session's id.
    pub session_id: String,
    /// What this process's connections are called.
    pub connection_id: [u8; 16],
    /// Proves to the acceptor that the broker chose the id.
    pub token: [u8; 32],
    /// The process grant; empty where none is asked for.
    pub grant: String,
    /// Authorities that the server's certificate may be of (DER).
    pub trusted: Vec<Vec<u8>>,
    /// Id of the server, which its certificate names.
    pub server_id: String,
    /// How long this process may be without a connection.
    pub grace: Duration,
    /// Where its server's data port is, best first.
    pub endpoints: Vec<Endpoint>,
}

/// Who asks.
#[derive(Debug)]
pub struct Applicant<'a> {
    /// The public key of this process.
    pub key: &'a [u8; SPKI_BYTES],
    /// Its connections' id, when it has one already.
    pub connection_id: Option<[u8; 16]>,
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
pub fn admission(path: &str, applicant: &Applicant<'_>) -> Result<Admission, BrokerError> {
    let unreachable = |error: std::io::Error| match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => BrokerError::NoDescriptor { reason: error.to_string() },
        _ => BrokerError::Unreachable { path: path.to_owned(), reason: error.to_string() },
    };
    let endpoint = Endpoint::Unix(path.into());
    let socket = Socket::connect(&endpoint, ANSWER_TIMEOUT, |descriptor| descriptor).map_err(unreachable)?;
    socket.limit_receiving(Some(ANSWER_TIMEOUT));
    let again =
        applicant.connection_id.map_or_else(String::new, |id| format!("connection {}\n", to_hex(&id)));
    let request = format!(
        "farpool-broker 2\npid {}\nprogram {}\nkey {}\n{again}\n",
        std::process::id(),
        crate::program::name(),
        URL_SAFE_NO_PAD.encode(applicant.key),
    );
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
    let mut admission = Admission { grace: USUAL_GRACE, ..Admission::default() };
    let (mut has_connection, mut has_token) = (false, false);
    for line in &lines[1..] {
        match line.split_once(' ') {
            Some(("session", id)) => id.clone_into(&mut admission.session_id),
            Some(("connection", text)) => {
                admission.connection_id =
                    from_hex(text).ok_or_else(|| malformed(line, "32 hexadecimal digits"))?;
                has_connection = true;
            }
            Some(("token", text)) => {
                admission.token =
                    from_hex(text).ok_or_else(|| malformed("token …", "64 hexadecimal digits"))?;
                has_token = true;
            }
            Some(("grant", text)) => text.clone_into(&mut admission.grant),
            Some(("trust", text)) => {
                let authority = URL_SAFE_NO_PAD.decode(text);
                admission.trusted.push(authority.map_err(|_| malformed(line, "base64url without padding"))?);
            }
            Some(("server", id)) => id.clone_into(&mut admission.server_id),
            Some(("grace", seconds)) => {
                let seconds = seconds.parse().map_err(|_| malformed(line, "a number of seconds"))?;
                admission.grace = Duration::from_secs(seconds);
            }
            Some(("endpoint", text)) => {
                let endpoint = text.parse();
                let expected = "`tls HOST:PORT`, `tcp HOST:PORT` or `unix PATH`";
                admission.endpoints.push(endpoint.map_err(|_| malformed(line, expected))?);
            }
            // A newer broker may say more than this shim knows.
            _ => {}
        }
    }
    let is_whole =
        has_connection && has_token && !admission.session_id.is_empty() && !admission.endpoints.is_empty();
    if !is_whole {
        return Err(malformed("ok", "a session, a connection, a token and an endpoint after it"));
    }
    Ok(admission)
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = text.as_bytes();
    if bytes.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (value, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *value = u8::try_from(high << 4 | low).ok()?;
    }
    Some(out)
}

/// As the broker's lines spell bytes.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
            "ok\nsession s-1\nconnection {}\ntoken {}\ngrant a.b.c\ntrust AQID\nserver g-1\ngrace 5\nfuture thing\n\
             endpoint unix /run/x\nendpoint tls h:1",
            "07".repeat(16),
            "0f".repeat(32)
        );
        let expected = Admission {
            session_id: "s-1".into(),
            connection_id: [7; 16],
            token: [15; 32],
            grant: "a.b.c".into(),
            trusted: vec![vec![1, 2, 3]],
            server_id: "g-1".into(),
            grace: Duration::from_secs(5),
            endpoints: vec![Endpoint::Unix("/run/x".into()), Endpoint::Tls("h:1".into())],
        };
        assert_eq!(parse("/b", &lines(&text)), Ok(expected));
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
        for text in ["", "maybe", "ok", "ok\nsession s-1\ntoken zz", "ok\nsession s\nendpoint tcp 1"] {
            assert!(matches!(parse("/b", &lines(text)), Err(BrokerError::Malformed { .. })), "{text}");
        }
    }
}
