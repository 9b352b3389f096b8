//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

pub const USAGE: &str = "\
usage: farpool-bench [--raw tcp|unix] [--direct FOLDER] [--rounds N] [--smoke] [--alone] [--only WORD,…] [--json FILE]
       farpool-bench idle SECONDS

--raw     the kind of socket to compare with (tcp)
--direct  where the libcuda.so.1 is with which launches are compared
--rounds  how often each pair is measured (11)
--smoke   small amounts and 3 rounds: whether everything runs, not how fast
--alone   without the raw sockets and the other things that are compared with
--only    cases whose names contain one of the words
--json    where all samples are written";

/// What to do.
pub struct Options {
    pub mode: Mode,
    pub socket: SocketKind,
    pub direct: Option<PathBuf>,
    pub rounds: usize,
    pub is_smoke: bool,
    pub is_alone: bool,
    pub only: Vec<String>,
    pub json: Option<PathBuf>,
}

pub enum Mode {
    Measure,
    /// An attached process that does nothing for so long, and what that costs.
    Idle(Duration),
    /// The child at the other end of the raw sockets.
    Peer(SocketKind),
    /// The child that launches so many kernels on another libcuda.
    Launches(u32),
    /// The child that measures how long it takes to attach.
    Start,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    Tcp,
    Unix,
}

impl SocketKind {
    pub fn name(self) -> &'static str {
        match self {
            SocketKind::Tcp => "tcp",
            SocketKind::Unix => "unix",
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        match text {
            "tcp" => Ok(SocketKind::Tcp),
            "unix" => Ok(SocketKind::Unix),
            _ => bail!("`{text}` is not a kind of socket"),
        }
    }
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Options> {
        let mut options = Options {
            mode: Mode::Measure,
            socket: SocketKind::Tcp,
            direct: None,
            rounds: 0,
            is_smoke: false,
            is_alone: false,
            only: Vec::new(),
            json: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--raw" => options.socket = SocketKind::parse(&value()?)?,
                "--alone" => options.is_alone = true,
                "--direct" => options.direct = Some(value()?.into()),
                "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--json" => options.json = Some(value()?.into()),
                "--smoke" => options.is_smoke = true,
                "idle" => {
                    options.mode = Mode::Idle(Duration::from_secs_f64(value()?.parse().context("idle")?))
                }
                "peer" => options.mode = Mode::Peer(SocketKind::parse(&value()?)?),
                "launches" => options.mode = Mode::Launches(value()?.parse().context("launches")?),
                "start" => options.mode = Mode::Start,
                _ => bail!("`{argument}` is not an option"),
            }
        }
        if options.rounds == 0 {
            options.rounds = if options.is_smoke { 3 } else { 11 };
        }
        Ok(options)
    }

    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }

    /// `full`, or a small part of it in a smoke test.
    pub fn amount(&self, full: u32) -> u32 {
        if self.is_smoke { (full / 20).max(2) } else { full }
    }
}
