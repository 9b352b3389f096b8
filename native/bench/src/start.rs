//! How long it takes a new process to attach, and to its first finished kernel.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use crate::calls::Calls;
use crate::cuda::Cuda;

/// Memory of the first kernel, in bytes.
const MEMORY: usize = 1 << 20;

/// Seconds of one start.
#[derive(Clone, Copy)]
pub struct Start {
    /// `cuInit`: finding the session, connecting, greeting.
    pub init: f64,
    /// From before `cuInit` until a kernel is done.
    pub first_kernel: f64,
}

/// In a process of its own: prints both times.
pub fn child() -> anyhow::Result<()> {
    let cuda = Cuda::load()?;
    let started = Instant::now();
    cuda.init()?;
    let init = started.elapsed();
    Calls::prepare(cuda, MEMORY)?;
    let first_kernel = started.elapsed();
    println!("{} {}", init.as_secs_f64(), first_kernel.as_secs_f64());
    Ok(())
}

pub fn measure() -> anyhow::Result<Start> {
    let output = Command::new(std::env::current_exe()?)
        .arg("start")
        .stderr(Stdio::inherit())
        .output()
        .context("start a child")?;
    if !output.status.success() {
        bail!("the child that attaches ended with {}", output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().context("the child said too little")?.context("the child's times");
    Ok(Start { init: next()?, first_kernel: next()? })
}
