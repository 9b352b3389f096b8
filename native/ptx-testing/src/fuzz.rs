//! Random programs and damaged ones, run with a budget: whatever happens, it is a result or a fault, and memory that
//! was not given stays as it is.

use ptx::{FaultKind, LaunchConfig, Module};

use crate::generator::{POINTERS, comparable_program, pointer_program};
use crate::{Engine, Host, Random, mutated, program};

/// What became of the programs.
#[derive(Debug, Default, Clone, Copy)]
pub struct Fuzz {
    /// Those that were no PTX.
    pub malformed: u64,
    /// Those with instructions that are not executed.
    pub refused: u64,
    /// Those that ended with a fault.
    pub faults: u64,
    /// Those that ended.
    pub ended: u64,
}

/// Questions whether to go on that a launch may ask.
const PATIENCE: u64 = 4;

/// A pointer as a broken program may have it: to the edges of what it was given, into memory that it was not, to the
/// edges of the windows for shared, local and parameter memory and functions, to the ends of the address space, anywhere.
fn pointer(random: &mut Random, given: &[(u64, u64)], secret: u64) -> u64 {
    let (start, size) = given[random.below(given.len())];
    let near = (random.below(80) as u64).wrapping_sub(40);
    match random.below(12) {
        0..=2 => start + 16 * random.below(size as usize / 16) as u64,
        3 => start.wrapping_add(near),
        4 => (start + size).wrapping_add(near),
        5 => secret + random.below(1024) as u64,
        // Shared memory has 1,024 bytes and the 64 of the launch, local memory 256.
        6 | 7 => {
            let window = (1 + random.below(4) as u64) << 48;
            let edge = [0, 64, 256, 1024, 1088, 1 << 32, (1 << 48) - 1, 1 << 47][random.below(8)];
            (window | edge).wrapping_add(near)
        }
        8 => near,
        9 => start ^ 1 << random.below(64),
        10 => [0, 1 << 47, 1 << 48, 5 << 48, 1 << 63, u64::MAX - 3][random.below(6)].wrapping_add(near),
        _ => random.bits() >> random.below(64),
    }
}

/// Fills the table of pointers that [`pointer_program`] takes them from.
fn write_pointers(host: &Host, random: &mut Random, given: &[(u64, u64)], secret: u64) {
    for index in 0..POINTERS.count {
        let value = pointer(random, given, secret);
        host.write(given[0].0 + POINTERS.offset + 8 * index, &value.to_le_bytes());
    }
}

fn run(text: &str, random: &mut Random, engine: Engine, counts: &mut Fuzz) {
    let Ok(module) = Module::parse(text) else {
        counts.malformed += 1;
        return;
    };
    let huge = module.variables().iter().any(|variable| variable.size > 1 << 20);
    if huge {
        counts.refused += 1;
        return;
    }
    let host = Host::new(engine).with_patience(PATIENCE);
    let writable = host.filled(&[7; 4096]);
    let read_only = host.buffer(1024, false);
    host.write(read_only, &1u64.to_le_bytes());
    let secret = host.secret(1024);
    write_pointers(&host, random, &[(writable, 4096), (read_only, 1024)], secret);
    host.load(&module);
    for function in module.entries() {
        if function.unsupported.is_some() {
            counts.refused += 1;
            continue;
        }
        let length = function.params.last().map_or(0, |param| param.offset + param.size) as usize;
        let mut params = vec![0; length.max(16)];
        for (index, cell) in params.chunks_mut(8).enumerate() {
            let value = match random.below(8) {
                0 => random.bits(),
                1 => read_only + random.below(2048) as u64,
                _ if index == 1 => read_only,
                _ => writable,
            };
            cell.copy_from_slice(&value.to_le_bytes()[..cell.len()]);
        }
        let config = LaunchConfig {
            grid: [1 + random.below(2) as u32, 1, 1],
            block: [random.of(&["1", "32", "40", "64"]).parse().unwrap_or(1), 1, 1],
            dynamic_shared_bytes: 64,
            params: &params,
            cooperative: random.below(16) == 0,
            max_workers: 1,
        };
        match engine(&module, function, &config, &host) {
            Ok(_) => counts.ended += 1,
            Err(_) => counts.faults += 1,
        }
    }
    // Constant variables are read-only too.
    let constants: u64 = module
        .variables()
        .iter()
        .filter(|variable| variable.space == ptx::VariableSpace::Const)
        .map(|variable| variable.size)
        .sum();
    assert!(constants > 0 || host.is_intact(1), "memory that was not given was changed by\n{text}");
    assert!(!host.holds_secrets(), "memory that was not given was read by\n{text}");
}

/// Runs a random program.
pub fn run_random_program(random: &mut Random, engine: Engine, counts: &mut Fuzz) {
    let text = program(random);
    run(&text, random, engine, counts);
}

/// Runs a program that goes through random pointers.
pub fn run_random_pointers(random: &mut Random, engine: Engine, counts: &mut Fuzz) {
    let text = pointer_program(random);
    run(&text, random, engine, counts);
}

/// Runs a random program on two engines, in the same memory.
///
/// # Errors
/// What differs: memory and registers, or the fault.
pub fn compare_engines(seed: u64, engines: [Engine; 2]) -> Result<(), String> {
    let mut random = Random::new(seed);
    let text = comparable_program(&mut random);
    let module = Module::parse(&text).map_err(|error| format!("seed {seed}: {error}\n{text}"))?;
    let memory = Host::new(engines[0]);
    let addresses = [memory.buffer(4096, true), memory.buffer(1024, false)];
    let secret = memory.secret(1024);
    let params: Vec<u8> = addresses.iter().flat_map(|address| address.to_le_bytes()).collect();
    let config = LaunchConfig {
        grid: [1; 3],
        block: [1; 3],
        dynamic_shared_bytes: 64,
        params: &params,
        cooperative: false,
        max_workers: 1,
    };
    let [first, second] = engines.map(|engine| {
        memory.write(addresses[0], &[7; 4096]);
        memory.write(addresses[1], &[9; 1024]);
        write_pointers(&memory, &mut random.clone(), &[(addresses[0], 4096), (addresses[1], 1024)], secret);
        memory.be_patient(PATIENCE);
        let function = module.entry("k").expect("the kernel");
        let outcome = engine(&module, function, &config, &memory);
        let fault = outcome.err().map(|fault| (fault.kind, fault.line));
        (fault, memory.read(addresses[0], 4096))
    });
    if memory.holds_secrets() {
        return Err(format!("seed {seed}: memory that was not given was read by\n{text}"));
    }
    let cancelled = |fault: &Option<(FaultKind, u32)>| matches!(fault, Some((FaultKind::Cancelled, _)));
    if cancelled(&first.0) || cancelled(&second.0) || first == second {
        return Ok(());
    }
    if first.0 != second.0 {
        return Err(format!("seed {seed}: {:?} and {:?} of\n{text}", first.0, second.0));
    }
    let at = first.1.iter().zip(&second.1).position(|(first, second)| first != second).unwrap_or_default();
    Err(format!("seed {seed}: byte {at} is {:#x} and {:#x} of\n{text}", first.1[at], second.1[at]))
}

/// Damages a program and runs what comes of it.
pub fn mutate_and_run(text: &str, random: &mut Random, engine: Engine, counts: &mut Fuzz) {
    let text = mutated(text, random);
    run(&text, random, engine, counts);
}
