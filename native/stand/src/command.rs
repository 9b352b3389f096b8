//! The command, in the session.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::server::Programs;

/// What a shell adds to a signal's number.
const SIGNALLED: i32 = 128;

/// Runs `words` to their end with our libcuda before any other; answers their status as a shell tells it.
pub fn run(words: &[String], broker: &Path, programs: &Programs) -> anyhow::Result<u8> {
    let (program, arguments) = words.split_first().context("a command")?;
    let others = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = std::iter::once(programs.shim.to_string_lossy().into_owned())
        .chain(others.split(':').filter(|folder| !folder.is_empty()).map(str::to_owned));
    let status = Command::new(program)
        .args(arguments)
        .env("LD_LIBRARY_PATH", folders.collect::<Vec<_>>().join(":"))
        .env("FARPOOL_SESSION", broker)
        .status()
        .with_context(|| format!("run {program}"))?;
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}
