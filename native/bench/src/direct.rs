//! Launches without a pool, by a child with another `libcuda.so.1`: one process cannot load two.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::calls::Calls;
use crate::cuda::Cuda;

const MEMORY: usize = 1 << 20;

/// Seconds of one launch.
#[derive(Clone, Copy)]
pub struct Launches {
    /// What it costs its caller, in bursts.
    pub caller: f64,
    /// One after the other until the last is done.
    pub sustained: f64,
}

/// Prints both times.
pub fn child(count: u32) -> anyhow::Result<()> {
    let cuda = Cuda::load()?;
    cuda.init()?;
    let calls = Calls::prepare(cuda, MEMORY)?;
    // The first ones touch fresh memory and start threads.
    calls.launches(count.min(crate::calls::BURST))?;
    println!("{} {}", calls.launches(count)?, calls.sustained_launches(count)?);
    Ok(())
}

/// Runs the child with the library in `folder`.
pub fn measure(folder: &Path, count: u32) -> anyhow::Result<Launches> {
    let output = Command::new(std::env::current_exe()?)
        .args(["launches", &count.to_string()])
        .env("LD_LIBRARY_PATH", folder)
        .stderr(Stdio::inherit())
        .output()
        .context("start a child")?;
    if !output.status.success() {
        bail!("the child that launches directly ended with {}", output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || numbers.next().context("the child said too little")?.context("the child's times");
    Ok(Launches { caller: next()?, sustained: next()? })
}
