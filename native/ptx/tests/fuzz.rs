//! Random and damaged programs end in a result or a fault. `cargo run -p ptx --example fuzz -- --minutes 10` goes on
//! for longer.

use ptx_testing::{Fuzz, PROGRAMS, Random, mutate_and_run, program, run_random_program};

#[test]
fn random_programs_end_in_a_result_or_a_fault() {
    let mut counts = Fuzz::default();
    for seed in 0..400 {
        run_random_program(&mut Random::new(seed), ptx::launch, &mut counts);
    }
    assert_eq!(counts.malformed, 0, "{counts:?}");
    assert_eq!(counts.refused, 0, "{counts:?}");
    assert!(counts.ended > 40 && counts.faults > 40, "{counts:?}");
}

#[test]
fn damaged_programs_end_in_a_result_or_a_fault() {
    let mut counts = Fuzz::default();
    let mut random = Random::new(1);
    let mut paths: Vec<_> = std::fs::read_dir(PROGRAMS).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let text = std::fs::read_to_string(path).unwrap();
        let text: Vec<&str> = text.lines().filter(|line| !line.starts_with("//")).collect();
        let text = text.join("\n");
        for _ in 0..6 {
            mutate_and_run(&text, &mut random, ptx::launch, &mut counts);
        }
    }
    for seed in 0..200 {
        let text = program(&mut Random::new(seed));
        mutate_and_run(&text, &mut random, ptx::launch, &mut counts);
    }
    assert!(counts.malformed > 50 && counts.ended + counts.faults > 50, "{counts:?}");
}
