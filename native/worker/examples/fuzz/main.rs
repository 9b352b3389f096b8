//! Sends damaged records of real programs to real workers on the simulated GPU:
//! `cargo run --release -p worker --example fuzz -- --programs DIR --minutes N [--corpus DIR] [--seed N] [--jobs N] [--case N]`.
//!
//! `--programs` is where the build puts them (`dist`). Each case has a worker of its own, started as the acceptor starts it.
//! First come the attacks that once succeeded. A worker may refuse what it is sent, answer with CUDA errors, or end; it must not die of a signal or panic, must end soon after
//! its client has closed, and must stay within a bound of memory. `--case N` repeats one case and shows the worker's log.

mod attack;
mod case;
mod process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fuzzing::{Options, Random};

use case::{Case, Seeds};
use process::{Ended, Programs};

/// Findings after which the run ends: more would be the same.
const MOST_FINDINGS: usize = 40;

fn main() -> ExitCode {
    fuzzing::end(run())
}

/// What all jobs share.
#[derive(Default)]
struct Tally {
    cases: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    /// How often workers ended how.
    ends: Mutex<BTreeMap<String, u64>>,
    findings: Mutex<Vec<String>>,
}

fn run() -> Result<String, String> {
    let options = Options::read(&["--programs", "--jobs", "--case"])?;
    let folder = PathBuf::from(options.other("--programs").ok_or("--programs DIR is required")?);
    let number = |word: &str| options.other(word).map(|value| value.parse::<u64>()).transpose();
    let jobs = number("--jobs").map_err(|_| "--jobs takes a number")?.unwrap_or(2);
    let only = number("--case").map_err(|_| "--case takes a number")?;
    let programs = Programs::find(&folder)?;
    let seeds = Seeds::of(fuzzing::corpus(&options.corpus)?);
    if let Some(number) = only {
        let case = case_of(&seeds, options.seed, number);
        let ended = process::run(&programs, &case)?;
        println!("{case}\n{}\n{ended:?}", ended.log);
        return ended.finding().map_or(Ok("no finding".into()), Err);
    }
    for case in attack::all() {
        let ended = process::run(&programs, &case)?;
        if let Some(why) = ended.finding() {
            return Err(format!("{case}\n{}\n{why}", ended.log));
        }
        if !ended.log.contains("sandbox layers") {
            return Err(format!("{case}\n{}\nthe worker does not serve", ended.log));
        }
    }
    let (tally, next, until) = (Tally::default(), AtomicU64::new(0), options.deadline());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|_| scope.spawn(|| work(&programs, &seeds, options.seed, &next, until, &tally)))
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a job has panicked")?)
    })?;
    report(&tally)
}

fn case_of(seeds: &Seeds, seed: u64, number: u64) -> Case {
    let mut mix = Random::new(seed);
    let mut random = Random::new(mix.bits() ^ number.wrapping_mul(0xd134_2543_de82_ef95));
    Case::new(seeds, &mut random)
}

fn work(
    programs: &Programs,
    seeds: &Seeds,
    seed: u64,
    next: &AtomicU64,
    until: Instant,
    tally: &Tally,
) -> Result<(), String> {
    while Instant::now() < until {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let case = case_of(seeds, seed, number);
        let ended = process::run(programs, &case)?;
        count(tally, &ended);
        if let Some(why) = ended.finding() {
            let path = keep(number, seed, &case, &ended)?;
            let sentence = format!("case {number} of seed {seed}: {why} ({})", path.display());
            eprintln!("fuzz: {sentence}");
            let mut findings = tally.findings.lock().map_err(|_| "a job has panicked")?;
            findings.push(sentence);
            if findings.len() >= MOST_FINDINGS {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn count(tally: &Tally, ended: &Ended) {
    tally.cases.fetch_add(1, Ordering::Relaxed);
    tally.sent.fetch_add(ended.records_sent, Ordering::Relaxed);
    tally.answered.fetch_add(ended.records_received, Ordering::Relaxed);
    if let Ok(mut ends) = tally.ends.lock() {
        *ends.entry(ended.kind()).or_default() += 1;
    }
}

/// Writes down what was sent and what the worker logged.
fn keep(number: u64, seed: u64, case: &Case, ended: &Ended) -> Result<PathBuf, String> {
    let folder = std::env::temp_dir().join("farpool-fuzz-findings");
    let unwritable = |error| format!("{} cannot be written: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(unwritable)?;
    let path = folder.join(format!("{seed}-{number}.log"));
    std::fs::write(&path, format!("{case}\n{}\n{ended:?}\n", ended.log)).map_err(unwritable)?;
    std::fs::write(Path::new(&path).with_extension("bin"), &case.control).map_err(unwritable)?;
    Ok(path)
}

fn report(tally: &Tally) -> Result<String, String> {
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let ends = tally.ends.lock().map_err(|_| "a job has panicked")?;
    let ends: Vec<String> = ends.iter().map(|(kind, count)| format!("  {count:>8} {kind}")).collect();
    let sentence = format!(
        "{} workers were sent {} damaged records and answered {}; how they ended:\n{}",
        load(&tally.cases),
        load(&tally.sent),
        load(&tally.answered),
        ends.join("\n")
    );
    let findings = tally.findings.lock().map_err(|_| "a job has panicked")?;
    if findings.is_empty() {
        return Ok(sentence);
    }
    Err(format!("{sentence}\n{} findings:\n{}", findings.len(), findings.join("\n")))
}
