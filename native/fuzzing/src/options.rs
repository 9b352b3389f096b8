//! The command line, the same for all fuzzers.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// `--minutes N --seed N --corpus DIR`.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long to go on.
    pub minutes: f64,
    /// Same seed, same cases.
    pub seed: u64,
    /// Where the seeds are.
    pub corpus: PathBuf,
    /// Words that only some fuzzers know, with their values.
    pub others: Vec<(String, String)>,
}

impl Options {
    /// Reads the command line of this process; `others` are further words that it may have.
    pub fn read(others: &[&str]) -> Result<Options, String> {
        let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
        let mut options = Options { minutes: 1.0, seed: 1, corpus, others: Vec::new() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let refused = || format!("{word} takes a number, not {value:?}");
            match word.as_str() {
                "--minutes" => options.minutes = value.parse().map_err(|_| refused())?,
                "--seed" => options.seed = value.parse().map_err(|_| refused())?,
                "--corpus" => options.corpus = value.into(),
                _ if others.contains(&word.as_str()) => options.others.push((word, value)),
                _ => {
                    let others = others.iter().map(|word| format!(", {word} …")).collect::<String>();
                    return Err(format!(
                        "{word} is not an option: --minutes N, --seed N, --corpus DIR{others}"
                    ));
                }
            }
        }
        Ok(options)
    }

    /// The value of a further word.
    pub fn other(&self, word: &str) -> Option<&str> {
        self.others.iter().rev().find(|(given, _)| given == word).map(|(_, value)| value.as_str())
    }

    /// When to stop.
    pub fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_secs_f64(self.minutes * 60.0)
    }
}

/// Says how a run has ended; its status is the program's.
pub fn end(outcome: Result<String, String>) -> ExitCode {
    match outcome {
        Ok(sentence) => {
            println!("{sentence}");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("fuzz: {sentence}");
            ExitCode::FAILURE
        }
    }
}
