//! The loop of fuzzing programs.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::{
    Engine, Fuzz, Random, compare_engines, mutate_and_run, program, run_random_pointers, run_random_program,
};

/// Runs random programs, programs that go through random pointers, and damaged ones on an engine for as long as the arguments say: `--minutes 10 [--seed N] [FILE…]`. Files
/// are PTX to damage. Random programs are compared with the interpreter. A panic, or a difference, names the seed to
/// begin with.
pub fn fuzz(engine: Engine) -> ExitCode {
    let (mut minutes, mut first, mut texts) = (1, 1_000_000, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|number| number.parse().ok());
        match argument.as_str() {
            "--minutes" => minutes = number().unwrap_or(minutes),
            "--seed" => first = number().unwrap_or(first),
            path => match std::fs::read_to_string(path) {
                Ok(text) => texts.push(text),
                Err(error) => {
                    eprintln!("{path}: {error}");
                    return ExitCode::FAILURE;
                }
            },
        }
    }
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let mut counts = Fuzz::default();
    let mut seed = first;
    while Instant::now() < end {
        let shown = seed;
        let outcome = std::panic::catch_unwind(|| {
            let (mut random, mut counts) = (Random::new(shown), Fuzz::default());
            run_random_program(&mut random, engine, &mut counts);
            run_random_pointers(&mut random, engine, &mut counts);
            mutate_and_run(&program(&mut random), &mut random, engine, &mut counts);
            if !texts.is_empty() {
                let text = &texts[random.below(texts.len())];
                mutate_and_run(text, &mut random, engine, &mut counts);
            }
            if let Err(difference) = compare_engines(shown, [ptx::launch, engine]) {
                panic!("{difference}");
            }
            counts
        });
        match outcome {
            Ok(found) => {
                counts.malformed += found.malformed;
                counts.refused += found.refused;
                counts.faults += found.faults;
                counts.ended += found.ended;
            }
            Err(_) => {
                eprintln!("seed {seed} failed: begin again with --seed {seed}");
                return ExitCode::FAILURE;
            }
        }
        seed += 1;
    }
    println!("{} seeds from {first}: {counts:?}", seed - first);
    ExitCode::SUCCESS
}
