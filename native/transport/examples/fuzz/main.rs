//! Damages what travels below records, and looks whether a lane's end holds:
//! `cargo run --release -p transport --example fuzz -- --minutes N [--corpus DIR] [--seed N]`.
//!
//! - `packets`: packets, first words, what is kept to be sent again, and TLS records, each by itself;
//! - `lane`: a worker's end of a resumable lane on real sockets, whose client says whatever it likes;
//! - `calls`: the session's sums, beside a simple model of each.
//!
//! A panic ends the run; so do a case that hangs, memory beyond a bound, and bytes that are not those that were sent.

mod calls;
mod lane;
#[path = "../../../wire/examples/fuzz/meter.rs"]
mod meter;
mod packets;

// What is to be tried is not public: it is compiled once more, here.
#[path = "../../src/tls/identity.rs"]
#[allow(dead_code, reason = "TLS needs more of it")]
mod identity;
#[path = "../../src/lane/opening.rs"]
#[allow(dead_code, reason = "the lane needs more of it")]
mod opening;
#[path = "../../src/lane/packet.rs"]
#[allow(dead_code, reason = "the lane needs more of it")]
mod packet;
#[path = "../../src/tls/randomness.rs"]
#[allow(dead_code, reason = "TLS needs it")]
mod randomness;
#[path = "../../src/tls/record.rs"]
#[allow(dead_code, reason = "TLS needs more of it")]
mod record;
#[path = "../../src/lane/replay.rs"]
#[allow(dead_code, reason = "the lane needs more of it")]
mod replay;

pub use identity::TlsError;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fuzzing::{Options, Random, Recording};

/// A case that takes longer than this hangs.
const LONGEST_CASE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    fuzzing::end(run())
}

fn run() -> Result<String, String> {
    let options = Options::read(&[])?;
    let recordings = fuzzing::corpus(&options.corpus)?;
    let cases = Arc::new(AtomicU64::new(0));
    watch(Arc::clone(&cases));
    let mut random = Random::new(options.seed);
    let until = options.deadline();
    let mut counts = [0_u64; 3];
    while Instant::now() < until {
        // A lane takes as long as some hundreds of the others.
        for _ in 0..512 {
            one(&cases, &mut random, |random| packets::one(&recordings, random))?;
            one(&cases, &mut random, calls::one)?;
        }
        counts[0] += 512;
        counts[1] += 512;
        for _ in 0..4 {
            one(&cases, &mut random, |random| lane::one(&recordings, random))?;
            counts[2] += 1;
        }
    }
    let [packets, calls, lanes] = counts;
    Ok(format!(
        "{packets} damaged packets and TLS records, {calls} sessions, {lanes} lanes with a hostile client"
    ))
}

fn one(
    cases: &AtomicU64,
    random: &mut Random,
    case: impl FnOnce(&mut Random) -> Result<(), String>,
) -> Result<(), String> {
    let number = cases.fetch_add(1, Ordering::Relaxed);
    let before = random.clone();
    case(random).map_err(|why| format!("case {number} ({before:?}): {why}"))
}

/// Ends the run when a case hangs.
fn watch(cases: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        let mut seen = (cases.load(Ordering::Relaxed), Instant::now());
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let now = cases.load(Ordering::Relaxed);
            if now != seen.0 {
                seen = (now, Instant::now());
            } else if seen.1.elapsed() > LONGEST_CASE {
                eprintln!("fuzz: case {now} hangs since {} s", LONGEST_CASE.as_secs());
                std::process::exit(2);
            }
        }
    });
}

/// Bytes that programs have sent.
fn bytes_of(recording: &Recording) -> Vec<u8> {
    let mut bytes = recording.opening.clone();
    recording.records.iter().take(64).for_each(|record| record.encode(&mut bytes));
    bytes
}
