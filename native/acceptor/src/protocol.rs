//! The control protocol's requests and answers (agent ⇄ acceptor), as JSON; workers are in
//! [`crate::worker_protocol`].
//!
//! A request is one line, `{"id": …, "op": "…", …parameters}`; its answer is one line with the same `id`
//! and either `"ok": true` beside the results or `"error": {"code", "message"}`.

use std::collections::BTreeSet;
use std::fmt;

use crate::route::from_hex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use wire::preface::SESSION_ID_BYTES;

/// Most GPUs of one session.
pub const MAX_GPUS: usize = 64;
/// Longest uuid that is accepted; the longest there is (`MIG-GPU-…/n/n`) has less than 60 bytes.
const MAX_UUID_BYTES: usize = 80;

/// A session's id: 1 to 32 bytes, no control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SessionId(String);

impl SessionId {
    /// Checks an id.
    pub fn parse(text: &str) -> Result<SessionId, ControlError> {
        if text.is_empty() || text.len() > SESSION_ID_BYTES || text.chars().any(char::is_control) {
            return Err(ControlError::invalid(format!(
                "a session id has 1 to {SESSION_ID_BYTES} bytes and no control characters, given {} bytes",
                text.len()
            )));
        }
        Ok(SessionId(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A session's secret. Never printed; compared in constant time.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    pub(crate) fn parse(text: &str) -> Result<Secret, ControlError> {
        let invalid = || ControlError::invalid("a secret is 64 hexadecimal digits".to_owned());
        from_hex(text).map(Secret).ok_or_else(invalid)
    }

    /// Its bytes, for tokens.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `given` is this secret.
    pub fn matches(&self, given: &[u8; 32]) -> bool {
        subtle::ConstantTimeEq::ct_eq(&self.0[..], &given[..]).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// One GPU of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// As `CUDA_VISIBLE_DEVICES` takes it.
    pub uuid: String,
    /// The slice's size; `null` for a whole GPU. Must be there: a misspelt limit would mean no limit.
    #[serde(deserialize_with = "Option::deserialize")]
    pub memory_limit_bytes: Option<u64>,
}

/// A session as the agent describes it, checked.
#[derive(Debug, Clone)]
pub struct SessionSpec {
    /// The id.
    pub id: SessionId,
    /// The secret.
    pub secret: Secret,
    /// The GPUs, in the session's order.
    pub gpus: Vec<Gpu>,
    /// Seconds that a client may be without a connection.
    pub grace_seconds: u64,
    /// What grants are checked with, for the workers; null where none are asked for.
    pub trust: Value,
}

/// Seconds that a client may be without a connection, unless the agent says otherwise.
const USUAL_GRACE_SECONDS: u64 = 120;
/// More than a day holds GPUs for somebody who is not coming back.
const MOST_GRACE_SECONDS: u64 = 24 * 60 * 60;

impl SessionSpec {
    /// Whether `other` describes the same session.
    pub fn is_same_as(&self, other: &SessionSpec) -> bool {
        self.id == other.id && self.secret.matches(&other.secret.0) && self.gpus == other.gpus
    }

    /// Takes over what may change of a session that is open.
    pub(crate) fn renew(&mut self, other: SessionSpec) {
        self.grace_seconds = other.grace_seconds;
        self.trust = other.trust;
    }

    fn parse(value: Value) -> Result<SessionSpec, ControlError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            id: String,
            secret: String,
            gpus: Vec<Gpu>,
            #[serde(default)]
            grace_seconds: Option<u64>,
            #[serde(default)]
            trust: Value,
        }
        let raw: Raw = serde_json::from_value(value)
            .map_err(|error| ControlError::invalid(format!("the session cannot be read: {error}")))?;
        let (id, secret) = (SessionId::parse(&raw.id)?, Secret::parse(&raw.secret)?);
        if raw.gpus.is_empty() || raw.gpus.len() > MAX_GPUS {
            let count = raw.gpus.len();
            return Err(ControlError::invalid(format!("a session has 1 to {MAX_GPUS} GPUs, given {count}")));
        }
        let mut seen = BTreeSet::new();
        for gpu in &raw.gpus {
            let uuid = gpu.uuid.as_str();
            // A comma would make two devices of one in CUDA_VISIBLE_DEVICES.
            let is_plain = uuid.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
            if uuid.is_empty() || uuid.len() > MAX_UUID_BYTES || !is_plain {
                return Err(ControlError::invalid(format!("{uuid:?} is not the uuid of a GPU")));
            }
            if !seen.insert(uuid) {
                return Err(ControlError::invalid(format!("GPU {uuid} is listed twice")));
            }
        }
        let grace_seconds = raw.grace_seconds.unwrap_or(USUAL_GRACE_SECONDS);
        if grace_seconds > MOST_GRACE_SECONDS {
            return Err(ControlError::invalid(format!(
                "graceSeconds is {grace_seconds}, expected at most {MOST_GRACE_SECONDS}"
            )));
        }
        if !raw.trust.is_null() && !raw.trust.is_object() {
            return Err(ControlError::invalid("trust is an object or null".to_owned()));
        }
        Ok(SessionSpec { id, secret, gpus: raw.gpus, grace_seconds, trust: raw.trust })
    }
}

/// What an agent wants.
#[derive(Debug)]
pub enum Operation {
    /// Who are you?
    Hello,
    /// Let clients of a session in.
    OpenSession(SessionSpec),
    /// End a session and its workers.
    CloseSession {
        /// Which.
        session: SessionId,
        /// Why, for the log and for clients that come too late.
        reason: String,
    },
    /// Everything that is known.
    Status,
    /// The manager knows of the end of these workers.
    Forget {
        /// Their connection ids.
        workers: Vec<String>,
    },
    /// Send events from now on.
    Subscribe,
}

/// One line of an agent, with the `id` to answer to (`null` when none could be read).
#[derive(Debug)]
pub struct Request {
    /// To be repeated in the answer.
    pub id: Value,
    /// What is wanted, or what is wrong with the line.
    pub operation: Result<Operation, ControlError>,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// A word for programs: `badRequest`, `unknownOp`, `invalidSession`, `sessionConflict`,
    /// `unknownSession`, `closing`, `internal`.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
}

impl ControlError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> ControlError {
        ControlError { code, message: message.into() }
    }

    fn invalid(message: String) -> ControlError {
        ControlError::new("invalidSession", message)
    }
}

impl Request {
    /// Reads one line.
    pub fn parse(line: &[u8]) -> Request {
        let mut fields = match serde_json::from_slice::<Value>(line) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Request::bad(Value::Null, "a request is a JSON object"),
            Err(error) => return Request::bad(Value::Null, format!("the line is not JSON: {error}")),
        };
        let id = fields.remove("id").unwrap_or(Value::Null);
        if !matches!(id, Value::Null | Value::Number(_) | Value::String(_)) {
            return Request::bad(Value::Null, "an id is a number or a string");
        }
        match fields.remove("op") {
            Some(Value::String(op)) => Request { id, operation: Operation::parse(&op, fields) },
            _ => Request::bad(id, "a request names its op"),
        }
    }

    fn bad(id: Value, message: impl Into<String>) -> Request {
        Request { id, operation: Err(ControlError::new("badRequest", message)) }
    }
}

impl Operation {
    fn parse(op: &str, mut fields: Map<String, Value>) -> Result<Operation, ControlError> {
        match op {
            "hello" => Ok(Operation::Hello),
            "status" => Ok(Operation::Status),
            "subscribe" => Ok(Operation::Subscribe),
            "forget" => match serde_json::from_value(fields.remove("workers").unwrap_or(Value::Null)) {
                Ok(workers) => Ok(Operation::Forget { workers }),
                Err(error) => {
                    let message = format!("forget needs a list of connection ids, workers: {error}");
                    Err(ControlError::new("badRequest", message))
                }
            },
            "openSession" => {
                let session = fields.remove("session").unwrap_or(Value::Null);
                SessionSpec::parse(session).map(Operation::OpenSession)
            }
            "closeSession" => {
                let Some(Value::String(id)) = fields.remove("sessionId") else {
                    return Err(ControlError::new("badRequest", "closeSession needs a sessionId"));
                };
                let reason = match fields.remove("reason") {
                    None | Some(Value::Null) => "no reason given".to_owned(),
                    Some(Value::String(reason)) => reason.chars().take(256).collect(),
                    Some(_) => return Err(ControlError::new("badRequest", "a reason is a string")),
                };
                Ok(Operation::CloseSession { session: SessionId::parse(&id)?, reason })
            }
            other => {
                let shown: String = other.chars().take(64).collect();
                Err(ControlError::new("unknownOp", format!("there is no op {shown:?}")))
            }
        }
    }
}

/// The line that answers `id`: `results` must be an object.
pub(crate) fn answer(id: Value, result: Result<Value, ControlError>) -> Value {
    match result {
        Ok(Value::Object(results)) => {
            let mut line = Map::from_iter([("id".to_owned(), id), ("ok".to_owned(), Value::Bool(true))]);
            line.extend(results);
            Value::Object(line)
        }
        Ok(_) => json!({"id": id, "ok": true}),
        Err(error) => json!({"id": id, "error": {"code": error.code, "message": error.message}}),
    }
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
