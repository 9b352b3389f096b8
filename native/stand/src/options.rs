//! The command line.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

pub const USAGE: &str = "\
usage: farpool-stand --driver PATH [--gpus N] [--memory BYTES] [--transport tcp|unix] [--log FILE]
                     [--record PREFIX] -- COMMAND…

--driver     the libcuda.so.1 that workers load
--gpus       how many of its GPUs the session has (1)
--memory     bytes of each GPU that the session may use (all)
--transport  how programs reach their workers (unix)
--log        where the acceptor and the workers log (nowhere)
--record     begin of the names of files for what the programs send: seeds for fuzzers (none; needs unix)";

/// What to run, and on what.
pub struct Options {
    pub driver: PathBuf,
    pub gpus: usize,
    pub memory: Option<u64>,
    pub transport: Transport,
    pub log: Option<PathBuf>,
    pub record: Option<PathBuf>,
    pub command: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Unix,
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Options> {
        let mut driver = None;
        let mut options = Options {
            driver: PathBuf::new(),
            gpus: 1,
            memory: None,
            transport: Transport::Unix,
            log: None,
            record: None,
            command: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--driver" => driver = Some(value()?),
                "--gpus" => options.gpus = value()?.parse().context("--gpus takes a number")?,
                "--memory" => options.memory = Some(value()?.parse().context("--memory takes bytes")?),
                "--log" => options.log = Some(value()?.into()),
                "--record" => options.record = Some(value()?.into()),
                "--transport" => {
                    options.transport = match value()?.as_str() {
                        "tcp" => Transport::Tcp,
                        "unix" => Transport::Unix,
                        other => bail!("--transport takes tcp or unix, not `{other}`"),
                    }
                }
                "--" => break,
                _ => bail!("`{argument}` is not an option"),
            }
        }
        options.command = arguments.collect();
        options.driver = driver.context("--driver is required")?.into();
        ensure!(!options.command.is_empty(), "a command is required after `--`");
        let is_recordable = options.record.is_none() || options.transport == Transport::Unix;
        ensure!(is_recordable, "--record needs --transport unix, whose records travel as they are");
        Ok(options)
    }
}
