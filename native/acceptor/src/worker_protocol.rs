//! What is said about and by workers, as JSON: their entry in the control protocol, their first message, and
//! their reports.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::options::SandboxPolicy;
use crate::protocol::Gpu;

/// Longest program name that is kept.
const MAX_PROGRAM_CHARS: usize = 256;
/// Most layers of a sandbox that are kept, and the longest name of one.
const MAX_LAYERS: usize = 16;
const MAX_LAYER_BYTES: usize = 40;
/// Longest reason of a refusal that is kept.
const MAX_REASON_CHARS: usize = 1024;
/// Largest count that is passed on: beyond it, a JSON number is not exact in JavaScript.
const MAX_COUNT: u64 = (1 << 53) - 1;

/// A worker, living or ended, as agents see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerView {
    /// Process id on the server; 0 while an earlier acceptor's worker has not said it.
    pub pid: i32,
    /// The connection id, 32 hexadecimal digits.
    pub connection_id: String,
    /// Process id on the client; `null` until the worker has shaken hands with its client.
    pub client_pid: Option<u32>,
    /// The client's program; `null` until then.
    pub program: Option<String>,
    /// The layers of its sandbox; `null` until then, or when it does not tell.
    pub sandbox: Option<Vec<String>>,
    /// When the worker was started.
    pub started_at: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// How it ended. Not known of a worker that an earlier acceptor had started, whose child it was, unless it has written
    /// with which code it leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Its latest report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

/// How a worker ended: `{"code": 0}` or `{"signal": 9}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    /// It exited.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

/// What a worker counts. Fields that a worker leaves out are zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the names are those of the protocol")]
pub struct Report {
    pub calls: u64,
    pub round_trips: u64,
    pub local_calls: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub kernel_launches: u64,
    pub busy_ms: u64,
    pub memory_peak_bytes: u64,
    pub per_gpu: Vec<GpuReport>,
}

impl Report {
    /// Cuts counts to what a JSON number holds exactly. Agents check what they read, and one worker's
    /// nonsense must not make the whole connection unreadable for them.
    fn bound(&mut self) {
        let counts = [
            &mut self.calls,
            &mut self.round_trips,
            &mut self.local_calls,
            &mut self.bytes_received,
            &mut self.bytes_sent,
            &mut self.kernel_launches,
            &mut self.busy_ms,
            &mut self.memory_peak_bytes,
        ];
        let memory = self.per_gpu.iter_mut().map(|gpu| &mut gpu.memory_used_bytes);
        counts.into_iter().chain(memory).for_each(|count| *count = (*count).min(MAX_COUNT));
    }

    /// Keeps one entry for each of `gpus`, in their order.
    pub(crate) fn restrict_to(&mut self, gpus: &[Gpu]) {
        let given = std::mem::take(&mut self.per_gpu);
        let entry = |gpu: &Gpu| given.iter().find(|entry| entry.uuid == gpu.uuid).cloned();
        self.per_gpu = gpus.iter().filter_map(entry).collect();
    }
}

/// What a worker counts per GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are those of the protocol")]
pub struct GpuReport {
    pub uuid: String,
    pub memory_used_bytes: u64,
}

/// What a worker says of itself, in a message and in its file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Account {
    /// Its process id. In a message the kernel's word counts.
    pub pid: Option<u32>,
    /// Process id on the client, once it has shaken hands.
    pub client_pid: Option<u32>,
    /// The client's program.
    pub program: Option<String>,
    /// The layers of its sandbox.
    pub sandbox: Option<Vec<String>>,
    /// Its latest report.
    pub report: Option<Report>,
    /// The code with which it left by itself.
    pub exit: Option<i32>,
}

impl Account {
    /// Reads and bounds an account.
    pub fn parse(line: &[u8]) -> Option<Account> {
        let mut account: Account = serde_json::from_slice(line).ok()?;
        account.bound();
        Some(account)
    }

    fn bound(&mut self) {
        if let Some(program) = &mut self.program {
            cut(program, MAX_PROGRAM_CHARS);
        }
        if let Some(layers) = &mut self.sandbox {
            bound_layers(layers);
        }
        if let Some(report) = &mut self.report {
            report.bound();
        }
    }
}

fn cut(text: &mut String, most: usize) {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
    }
}

fn bound_layers(layers: &mut Vec<String>) {
    layers.retain(|layer| is_layer(layer));
    layers.truncate(MAX_LAYERS);
}

/// A message of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum WorkerMessage {
    /// The worker has shaken hands with its client.
    #[serde(rename_all = "camelCase")]
    Started {
        /// Process id on the client.
        client_pid: u32,
        /// The client's program.
        program: String,
        /// The layers of the worker's sandbox.
        #[serde(default)]
        sandbox: Option<Vec<String>>,
    },
    /// Numbers.
    Report(Report),
    /// The first message to an acceptor that has not started the worker.
    Adopted(Account),
    /// The worker has turned a connection away.
    Refused {
        /// Why.
        reason: String,
    },
}

impl WorkerMessage {
    /// Reads a message. Workers execute the calls of strangers, so they are not trusted either: what is
    /// kept of them is bounded.
    pub fn parse(bytes: &[u8]) -> Result<WorkerMessage, serde_json::Error> {
        let mut message = serde_json::from_slice(bytes)?;
        match &mut message {
            WorkerMessage::Started { program, sandbox, .. } => {
                cut(program, MAX_PROGRAM_CHARS);
                if let Some(layers) = sandbox {
                    bound_layers(layers);
                }
            }
            WorkerMessage::Report(report) => report.bound(),
            WorkerMessage::Adopted(account) => account.bound(),
            WorkerMessage::Refused { reason } => cut(reason, MAX_REASON_CHARS),
        }
        Ok(message)
    }
}

/// Whether it could be the name of a layer: `landlock-7`.
fn is_layer(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_LAYER_BYTES).contains(&name.len()) && name.bytes().all(is_plain)
}

/// The first message of a worker's control socket.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FirstMessage<'a> {
    /// The session.
    pub session_id: &'a str,
    /// The connection id, 32 hexadecimal digits.
    pub connection_id: &'a str,
    /// Path of the `libcuda.so.1` to load.
    pub driver: &'a str,
    /// The session's GPUs.
    pub gpus: &'a [Gpu],
    /// The worker's slot in the ledger.
    pub slot: u32,
    /// What the client is told it is connected to.
    pub server_name: &'a str,
    /// Whether the worker closes a sandbox around itself.
    pub sandbox: SandboxPolicy,
    /// What the connection is that comes with this message.
    pub connection: ConnectionKind,
    /// Seconds that the client may be without a connection.
    pub grace_seconds: u64,
    /// What grants are checked with; null where none are asked for.
    pub trust: &'a Value,
    /// Seconds that the worker may be without an acceptor.
    pub orphan_seconds: u64,
}

/// A later message: another connection of the client's comes with it.
#[derive(Debug, Serialize)]
pub struct PassedMessage<'a> {
    /// What the connection is.
    pub connection: ConnectionKind,
    /// What grants are checked with now.
    pub trust: &'a Value,
}

/// What a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionKind {
    /// A Unix socket; its preface was read.
    Unix,
    /// TCP in clear; its preface was read.
    Tcp,
    /// TCP with TLS, of which nothing was read.
    Tls,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn worker_messages_are_read_and_bounded() {
        let long = json!({"type": "started", "clientPid": 7, "program": "é".repeat(300)}).to_string();
        let WorkerMessage::Started { client_pid: 7, program, sandbox: None } =
            WorkerMessage::parse(long.as_bytes()).unwrap()
        else {
            panic!("it is a started message");
        };
        assert_eq!(program.chars().count(), 256);
        let layers = ["seccomp", "landlock-7", "Ünix", "", "a b"];
        let named = json!({"type": "started", "clientPid": 7, "program": "", "sandbox": layers}).to_string();
        let WorkerMessage::Started { sandbox: Some(kept), .. } =
            WorkerMessage::parse(named.as_bytes()).unwrap()
        else {
            panic!("it names layers");
        };
        assert_eq!(kept, ["seccomp", "landlock-7"]);
        let report = json!({"type": "report", "calls": 3, "perGpu": [{"uuid": "a", "memoryUsedBytes": u64::MAX}], "new": 1});
        let WorkerMessage::Report(mut report) = WorkerMessage::parse(report.to_string().as_bytes()).unwrap()
        else {
            panic!("it is a report");
        };
        assert_eq!((report.calls, report.per_gpu[0].memory_used_bytes), (3, MAX_COUNT));
        report.restrict_to(&[Gpu { uuid: "b".into(), memory_limit_bytes: None }]);
        assert_eq!(report.per_gpu, []);
        assert!(WorkerMessage::parse(b"{\"type\":\"dance\"}").is_err());
        assert!(WorkerMessage::parse(b"\xff").is_err());
    }
}
