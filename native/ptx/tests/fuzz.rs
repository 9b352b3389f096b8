//! Random and damaged programs end in a result or a fault. `cargo run -p ptx --example fuzz -- --minutes 10` goes on
//! for longer.

// Tests of other engines include this file and have a `launch` of their own.
#[allow(unused_imports, reason = "used where this file is the whole program")]
use ptx::launch;
use ptx_testing::{
    Fuzz, PROGRAMS, Random, compare_engines, mutate_and_run, program, run_random_pointers, run_random_program,
};

#[test]
fn random_programs_end_in_a_result_or_a_fault() {
    let mut counts = Fuzz::default();
    for seed in 0..400 {
        run_random_program(&mut Random::new(seed), crate::launch, &mut counts);
    }
    assert_eq!(counts.malformed, 0, "{counts:?}");
    assert_eq!(counts.refused, 0, "{counts:?}");
    assert!(counts.ended > 40 && counts.faults > 40, "{counts:?}");
}

#[test]
fn random_pointers_reach_nothing_that_was_not_given() {
    let mut counts = Fuzz::default();
    for seed in 0..150 {
        run_random_pointers(&mut Random::new(seed), crate::launch, &mut counts);
    }
    assert_eq!((counts.malformed, counts.refused), (0, 0), "{counts:?}");
    assert!(counts.faults > 75, "{counts:?}");
}

/// What random programs leave does not depend on anything but their text. Other engines are compared so with the
/// interpreter.
#[test]
fn random_programs_leave_the_same_on_every_engine() {
    let differing: Vec<String> =
        (0..300).filter_map(|seed| compare_engines(seed, [ptx::launch, crate::launch]).err()).collect();
    assert!(differing.is_empty(), "{} differ, the first:\n{}", differing.len(), differing[0]);
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
            mutate_and_run(&text, &mut random, crate::launch, &mut counts);
        }
    }
    for seed in 0..200 {
        let text = program(&mut Random::new(seed));
        mutate_and_run(&text, &mut random, crate::launch, &mut counts);
    }
    assert!(counts.malformed > 50 && counts.ended + counts.faults > 50, "{counts:?}");
}
