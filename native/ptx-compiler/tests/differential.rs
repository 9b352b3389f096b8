//! Random programs, run by the interpreter and by compiled code: the same memory in the end. The seeds are fixed.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::result_large_err,
    reason = "values are made to fit, and a fault is what the tests look at"
)]

mod generator;

use generator::Generator;
use ptx::{Fault, LaunchConfig, LaunchStats, Module};
use ptx_compiler::Effort;
use ptx_testing::Host;

type Launch<'a> = &'a dyn Fn(&LaunchConfig<'_>, &Host) -> Result<LaunchStats, Fault>;

const GRID: u32 = 3;

type Outcome = (Result<(), ptx::FaultKind>, Vec<u32>);

/// The memory after a launch.
fn outcome(block: [u32; 3], launch: Launch<'_>) -> Outcome {
    let host = Host::new(ptx::launch);
    let threads = (GRID * block.iter().product::<u32>()) as usize;
    let input: Vec<u8> = (0..1024u32)
        .flat_map(|index| {
            match index % 8 {
                0 => index.wrapping_mul(0x9e37_79b9),
                1 => (index as f32 * 0.37 - 100.0).to_bits(),
                2 => index,
                3 => [0, 0x8000_0000, 0x7fff_ffff, 0xffff_ffff, 0x7f80_0000, 0xff80_0000, 0x7fc0_1234, 1]
                    [(index / 8 % 8) as usize],
                _ => (1.0f32 / (index as f32 + 1.0)).to_bits() ^ (index & 3),
            }
            .to_le_bytes()
        })
        .collect();
    let input = host.filled(&input);
    let output = host.buffer(threads * generator::OUTPUT_BYTES, true);
    let counters = host.buffer(64, true);
    let params: Vec<u8> = [input, output, counters].iter().flat_map(|value| value.to_le_bytes()).collect();
    let config = LaunchConfig {
        grid: [GRID, 1, 1],
        block,
        dynamic_shared_bytes: 0,
        params: &params,
        cooperative: false,
        max_workers: 1,
    };
    let result = launch(&config, &host).map(|_| ()).map_err(|fault| fault.kind);
    let mut words = host.words(output, threads * generator::OUTPUT_BYTES / 4);
    words.extend(host.words(counters, 16));
    (result, words)
}

fn compare(seed: u64) {
    let mut generator = Generator::new(seed);
    let text = generator.program();
    let module = Module::parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
    let function = module.entry("k").expect("the kernel");
    assert!(function.unsupported.is_none(), "{:?}", function.unsupported);
    let block = generator.block();
    let expected = outcome(block, &|config, host| ptx::launch(&module, function, config, host));
    for effort in [Effort::Quick, Effort::Thorough] {
        let kernel = ptx_compiler::Kernel::new(function).eagerly(effort);
        let found = outcome(block, &|config, host| kernel.launch(&module, function, config, host));
        let refusals = kernel.take_refusals();
        assert!(refusals.is_empty(), "seed {seed}: {refusals:?}\n{text}");
        if expected != found {
            differ(&format!("seed {seed}, block {block:?}, {effort:?}"), &expected, &found, &text);
        }
    }
}

fn differ(what: &str, expected: &Outcome, found: &Outcome, text: &str) -> ! {
    let at = expected.1.iter().zip(&found.1).position(|(expected, found)| expected != found);
    let thread = at.map(|at| (at * 4 / generator::OUTPUT_BYTES, at * 4 % generator::OUTPUT_BYTES));
    let row = at.map_or(0, |at| at * 4 / generator::OUTPUT_BYTES * generator::OUTPUT_BYTES / 4);
    let rows = [&expected.1, &found.1].map(|words| words.get(row..row + 36).map(|row| format!("{row:x?}")));
    let values = at.map(|at| (format!("{:#x}", expected.1[at]), format!("{:#x}", found.1[at])));
    panic!(
        "{what}: {:?} and {:?}; thread and byte {thread:?}: expected and found {values:?}, {rows:#?}\n{text}",
        expected.0, found.0
    );
}

/// The rules for what is worth compiling change nothing but the time.
#[test]
fn launches_again_and_again_end_alike() {
    for seed in 7000..7010 {
        let mut generator = Generator::new(seed);
        let text = generator.program();
        let module = Module::parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        let function = module.entry("k").expect("the kernel");
        let block = generator.block();
        let expected = outcome(block, &|config, host| ptx::launch(&module, function, config, host));
        let kernel = ptx_compiler::Kernel::new(function);
        for launch in 0..20 {
            let found = outcome(block, &|config, host| kernel.launch(&module, function, config, host));
            assert_eq!(found, expected, "seed {seed}, launch {launch}\n{text}");
        }
    }
}

#[test]
fn random_programs_end_alike() {
    let begin = std::time::Instant::now();
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let mut done = 0;
    for seed in first..first + 250 {
        compare(seed);
        done += 1;
        // Slow machines do what they can.
        if begin.elapsed().as_secs() > 30 {
            break;
        }
    }
    assert!(done >= 10, "only {done} programs");
}
