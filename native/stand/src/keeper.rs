//! A process of its own that runs the acceptor and ends it when the stand has ended, in whichever way: a stand that is killed
//! can do nothing itself.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// The first word of a keeper's command line.
pub const MODE: &str = "--keep";

/// Starts a keeper of `folder`, which runs `acceptor`. It ends with its standard input.
pub fn start(folder: &Path, acceptor: &[String], log: Stdio) -> anyhow::Result<Child> {
    Command::new(std::env::current_exe().context("find this program")?)
        .arg(MODE)
        .arg(folder)
        .args(acceptor)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        // What a terminal sends to the stand is not for the keeper.
        .process_group(0)
        .spawn()
        .context("start the keeper")
}

/// Runs the acceptor until standard input ends or the acceptor does; then `folder` goes.
pub fn keep(folder: &Path, acceptor: &[String]) -> ExitCode {
    let kept = run(acceptor);
    let _ = std::fs::remove_dir_all(folder);
    match kept {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("farpool-stand: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(acceptor: &[String]) -> anyhow::Result<()> {
    let (program, arguments) = acceptor.split_first().context("an acceptor")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    let pid = Pid::from_child(&child);
    std::thread::spawn(move || {
        // Nothing ever comes: the other end is closed when the stand has ended.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        // It ends its workers and then itself.
        let _ = kill_process(pid, Signal::TERM);
    });
    child.wait().context("wait for the acceptor")?;
    Ok(())
}
