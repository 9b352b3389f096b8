//! What a worker tells of itself: to an acceptor that takes it over, and to one that finds only its file, because the
//! worker ended while there was no acceptor.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::counters::Report;

/// The account, in the file that the acceptor left open for it and in the message to a new acceptor.
#[derive(Debug)]
pub struct Account {
    file: File,
    entries: Mutex<Entries>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entries {
    #[serde(rename = "type")]
    kind: &'static str,
    pid: u32,
    client_pid: Option<u32>,
    program: Option<String>,
    sandbox: Option<Vec<String>>,
    report: Option<Report>,
    /// The code with which the worker leaves.
    exit: Option<i32>,
}

impl Account {
    /// An account that names this process and nothing else yet.
    pub fn begin(file: File) -> Account {
        let pid = std::process::id();
        let entries = Entries {
            kind: "adopted",
            pid,
            client_pid: None,
            program: None,
            sandbox: None,
            report: None,
            exit: None,
        };
        let account = Account { file, entries: Mutex::new(entries) };
        account.write(&account.entries());
        account
    }

    /// Who the client process is.
    pub fn started(&self, client_pid: u32, program: &str, sandbox: &[String]) {
        let mut entries = self.entries();
        entries.client_pid = Some(client_pid);
        entries.program = Some(program.to_owned());
        entries.sandbox = Some(sandbox.to_vec());
        self.write(&entries);
    }

    /// The latest counts, and with them the exit code when they are the last.
    pub fn report(&self, report: &Report, exit: Option<i32>) {
        let mut entries = self.entries();
        entries.report = Some(report.clone());
        entries.exit = exit;
        self.write(&entries);
    }

    /// The message to a new acceptor.
    pub fn message(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&*self.entries())
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One line; what is left behind it of a longer one before means nothing.
    fn write(&self, entries: &Entries) {
        let line = serde_json::to_vec(entries).map_err(std::io::Error::from).map(|mut line| {
            line.push(b'\n');
            line
        });
        if let Err(error) = line.and_then(|line| self.file.write_all_at(&line, 0)) {
            tracing::warn!("this worker's account cannot be written: {error}");
        }
    }
}
