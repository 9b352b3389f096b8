//! The command line.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

/// What `--help` prints.
pub const USAGE: &str = "\
usage: farpool-acceptor --control PATH --worker PATH --driver PATH [options]

  --control PATH             Unix socket for the agent (mode 0600)
  --worker PATH              the farpool-worker program
  --driver PATH              the libcuda.so.1 that workers load
  --listen ADDRESS:PORT      data port (default 127.0.0.1:7445; port 0 picks one)
  --unix PATH                data socket for clients on this machine
  --unix-mode MODE           its mode, octal (default 600)
  --server-name NAME         what clients are told they are connected to (default: the host's name)
  --worker-identity PATH     file with the certificate and key that workers use for TLS (PEM)
  --plain-tcp                let clients in over TCP without TLS: for tests, and networks where you trust everyone
  --workers-per-session N    workers a session can have at once (default 256)
  --workers DIR              where an acceptor finds the workers of an earlier one (default: workers, beside the control
                             socket)
  --keep-workers             SIGTERM ends the acceptor only: the next one takes its workers over
  --orphan-seconds N         how long a worker goes on without an acceptor (default 300)
  --worker-sandbox POLICY    strict: workers close a sandbox around themselves; off: they do not
                             (default: FARPOOL_WORKER_SANDBOX, else strict)
  --help, --version

Listening sockets may be passed: by systemd, with FileDescriptorName= data-tcp, data-unix or control, or by another
supervisor that sets FARPOOL_LISTEN_FDS to their names (NAME:NAME…, from descriptor 3 on).
";

/// How the acceptor runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Unix socket for the agent.
    pub control: PathBuf,
    /// The `farpool-worker` program.
    pub worker: PathBuf,
    /// The `libcuda.so.1` that workers load.
    pub driver: PathBuf,
    /// Data port.
    pub listen: SocketAddr,
    /// Data socket for clients on this machine.
    pub unix: Option<PathBuf>,
    /// Mode of the data socket.
    pub unix_mode: u32,
    /// What clients are told they are connected to.
    pub server_name: String,
    /// Workers that a session can have at once.
    pub workers_per_session: u32,
    /// The file with the certificate and key that workers use for TLS.
    pub worker_identity: Option<PathBuf>,
    /// Whether clients may come over TCP without TLS.
    pub is_plain_tcp_allowed: bool,
    /// Whether workers close a sandbox around themselves.
    pub worker_sandbox: SandboxPolicy,
    /// Where workers wait for another acceptor.
    pub workers: PathBuf,
    /// Whether workers and sessions outlive SIGTERM.
    pub keeps_workers: bool,
    /// Seconds that a worker may be without an acceptor.
    pub orphan_seconds: u64,
}

/// A day without an acceptor is no restart.
const MOST_ORPHAN_SECONDS: u64 = 24 * 60 * 60;

/// Whether workers close a sandbox around themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxPolicy {
    /// Of every layer that the kernel has.
    #[default]
    Strict,
    /// They do not.
    Off,
}

/// What stands for `--worker-sandbox` where that is not given.
pub const SANDBOX_VARIABLE: &str = "FARPOOL_WORKER_SANDBOX";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// Run.
    Run(Box<Options>),
    /// Print the usage.
    Help,
    /// Print the version.
    Version,
}

/// What is wrong with a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// There is no such option.
    #[error("{0} is not an option")]
    Unknown(String),
    /// An option stands without its value.
    #[error("{0} needs a value")]
    MissingValue(String),
    /// An option that must be given is not.
    #[error("{0} is required")]
    Required(&'static str),
    /// A value cannot be understood.
    #[error("{option} is {given:?}, expected {expected}")]
    Value {
        /// The option.
        option: String,
        /// What was given.
        given: String,
        /// What a value looks like.
        expected: &'static str,
    },
}

/// Reads the arguments after the program's name; `--name value` and `--name=value` are the same.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, OptionsError> {
    let mut arguments = arguments.into_iter();
    let (mut control, mut worker, mut driver, mut unix) = (None, None, None, None);
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 7445));
    let mut unix_mode = 0o600;
    let mut server_name = None;
    let mut workers_per_session = 256;
    let mut worker_identity = None;
    let mut is_plain_tcp_allowed = false;
    let mut worker_sandbox = SandboxPolicy::default();
    let (mut workers, mut keeps_workers, mut orphan_seconds) = (None, false, 300);
    while let Some(argument) = arguments.next() {
        let (name, inline) = split(&argument);
        let mut value = || {
            inline
                .clone()
                .or_else(|| arguments.next())
                .ok_or_else(|| OptionsError::MissingValue(name.clone()))
        };
        let invalid = |given: &OsStr, expected| OptionsError::Value {
            option: name.clone(),
            given: given.to_string_lossy().into_owned(),
            expected,
        };
        match name.as_str() {
            "--help" | "-h" => return Ok(Parsed::Help),
            "--version" | "-V" => return Ok(Parsed::Version),
            "--control" => control = Some(PathBuf::from(value()?)),
            "--worker" => worker = Some(PathBuf::from(value()?)),
            "--driver" => driver = Some(PathBuf::from(value()?)),
            "--worker-identity" => worker_identity = Some(PathBuf::from(value()?)),
            "--plain-tcp" => is_plain_tcp_allowed = true,
            "--unix" => unix = Some(PathBuf::from(value()?)),
            "--listen" => {
                let given = value()?;
                listen = given
                    .to_str()
                    .and_then(|text| text.parse().ok())
                    .ok_or_else(|| invalid(&given, "ADDRESS:PORT, for example 0.0.0.0:7445"))?;
            }
            "--unix-mode" => {
                let given = value()?;
                unix_mode = given
                    .to_str()
                    .and_then(|text| u32::from_str_radix(text, 8).ok())
                    .filter(|mode| *mode <= 0o777)
                    .ok_or_else(|| invalid(&given, "an octal mode up to 777"))?;
            }
            "--server-name" => {
                let given = value()?;
                let text = given.to_str().filter(|text| (1..=253).contains(&text.len()));
                server_name = Some(text.ok_or_else(|| invalid(&given, "1 to 253 bytes"))?.to_owned());
            }
            "--workers-per-session" => {
                let given = value()?;
                workers_per_session = given
                    .to_str()
                    .and_then(|text| text.parse().ok())
                    .filter(|count| (1..=ledger::MAX_SLOTS).contains(count))
                    .ok_or_else(|| invalid(&given, "1 to 4096"))?;
            }
            "--workers" => workers = Some(PathBuf::from(value()?)),
            "--keep-workers" => keeps_workers = true,
            "--orphan-seconds" => {
                let given = value()?;
                orphan_seconds = given
                    .to_str()
                    .and_then(|text| text.parse().ok())
                    .filter(|seconds| (1..=MOST_ORPHAN_SECONDS).contains(seconds))
                    .ok_or_else(|| invalid(&given, "1 to 86400"))?;
            }
            "--worker-sandbox" => {
                let given = value()?;
                worker_sandbox = match given.to_str() {
                    Some("strict") => SandboxPolicy::Strict,
                    Some("off") => SandboxPolicy::Off,
                    _ => return Err(invalid(&given, "strict or off")),
                };
            }
            _ => return Err(OptionsError::Unknown(name)),
        }
    }
    let control: PathBuf = control.ok_or(OptionsError::Required("--control"))?;
    Ok(Parsed::Run(Box::new(Options {
        workers: workers.unwrap_or_else(|| control.with_file_name("workers")),
        keeps_workers,
        orphan_seconds,
        control,
        worker: worker.ok_or(OptionsError::Required("--worker"))?,
        driver: driver.ok_or(OptionsError::Required("--driver"))?,
        listen,
        unix,
        unix_mode,
        server_name: server_name.unwrap_or_else(host_name),
        workers_per_session,
        worker_identity,
        is_plain_tcp_allowed,
        worker_sandbox,
    })))
}

fn split(argument: &OsStr) -> (String, Option<OsString>) {
    match argument.to_str().and_then(|text| text.split_once('=')) {
        Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.into())),
        _ => (argument.to_string_lossy().into_owned(), None),
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Parsed, OptionsError> {
        parse(words.split_whitespace().map(OsString::from))
    }

    #[test]
    fn defaults_apply_and_both_ways_of_giving_a_value_work() {
        let Ok(Parsed::Run(options)) = parse_words("--control /c --worker=/w --driver /d --server-name=a")
        else {
            panic!("the options are right");
        };
        assert_eq!(
            *options,
            Options {
                control: "/c".into(),
                worker: "/w".into(),
                driver: "/d".into(),
                listen: SocketAddr::from(([127, 0, 0, 1], 7445)),
                unix: None,
                unix_mode: 0o600,
                server_name: "a".into(),
                workers_per_session: 256,
                worker_identity: None,
                is_plain_tcp_allowed: false,
                worker_sandbox: SandboxPolicy::Strict,
                workers: "/workers".into(),
                keeps_workers: false,
                orphan_seconds: 300,
            }
        );
    }

    #[test]
    fn the_last_word_on_the_sandbox_counts() {
        let given = "--control /c --worker /w --driver /d --worker-sandbox strict --worker-sandbox=off";
        let Ok(Parsed::Run(options)) = parse_words(given) else { panic!("the options are right") };
        assert_eq!(options.worker_sandbox, SandboxPolicy::Off);
    }

    #[test]
    fn mistakes_are_named() {
        let message = |words: &str| parse_words(words).unwrap_err().to_string();
        assert_eq!(message("--worker /w"), "--control is required");
        assert_eq!(message("--control"), "--control needs a value");
        assert_eq!(message("--colour x"), "--colour is not an option");
        assert_eq!(
            message("--listen localhost"),
            "--listen is \"localhost\", expected ADDRESS:PORT, for example 0.0.0.0:7445"
        );
        assert_eq!(message("--unix-mode 888"), "--unix-mode is \"888\", expected an octal mode up to 777");
        assert_eq!(
            message("--worker-sandbox maybe"),
            "--worker-sandbox is \"maybe\", expected strict or off"
        );
        assert_eq!(message("--workers-per-session 0"), "--workers-per-session is \"0\", expected 1 to 4096");
    }
}
