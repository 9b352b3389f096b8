//! Whole programs: PTX files whose first kernel is launched as comments say, each of its parameters a buffer.
//!
//! - `//! grid 2`, `//! block 64`, `//! shared 1024`, `//! cooperative`
//! - `//! in u32 1 2 3`: the next parameter, a buffer that holds these; it is not looked at afterwards
//! - `//! out u32 1 2 3`: the next parameter, a zeroed buffer that must hold these in the end
//! - `//! fault TEXT`: the launch must fail with a fault whose text contains this
//!
//! A value may be repeated: `7*32`. Lists go on in further lines that begin `//!   `.

use std::path::Path;

use ptx::{LaunchConfig, Module};

use crate::text::{files, value, width};
use crate::{Engine, Host, Report};

struct Buffer {
    address: u64,
    bits: u32,
    expected: Option<Vec<u64>>,
}

/// Runs every program of a folder.
pub fn check_programs(folder: &str, engine: Engine) -> Report {
    let mut report = Report::default();
    for file in files(folder, "ptx") {
        report.run += 1;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        report
            .failures
            .extend(failures(&file, engine).into_iter().map(|failure| format!("{name}: {failure}")));
    }
    report
}

fn values(words: &[&str]) -> Vec<u64> {
    let mut all = Vec::new();
    for word in words {
        match word.split_once('*') {
            Some((word, count)) => {
                let count = count.parse().unwrap_or_else(|_| panic!("bad count {count}"));
                all.extend(std::iter::repeat_n(value(word), count));
            }
            None => all.push(value(word)),
        }
    }
    all
}

fn failures(file: &Path, engine: Engine) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut directives: Vec<Vec<&str>> = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("//!")) {
        match directives.last_mut() {
            Some(last) if line.starts_with("   ") => last.extend(line.split_whitespace()),
            _ => directives.push(line.split_whitespace().collect()),
        }
    }
    let host = Host::new(engine);
    let (mut grid, mut block, mut shared, mut cooperative, mut fault) = (1, 1, 0, false, None);
    let mut buffers = Vec::new();
    for directive in &directives {
        match directive[..] {
            ["grid", count] => grid = value(count) as u32,
            ["block", count] => block = value(count) as u32,
            ["shared", bytes] => shared = value(bytes) as u32,
            ["cooperative"] => cooperative = true,
            ["fault", ref words @ ..] => fault = Some(words.join(" ")),
            [kind @ ("in" | "out"), ty, ref words @ ..] => {
                let (bits, values) = (width(ty), values(words));
                let size = bits as usize / 8;
                let bytes: Vec<u8> =
                    values.iter().flat_map(|value| value.to_le_bytes()[..size].to_vec()).collect();
                let buffer = if kind == "in" {
                    Buffer { address: host.filled(&bytes), bits, expected: None }
                } else {
                    Buffer { address: host.buffer(bytes.len(), true), bits, expected: Some(values) }
                };
                buffers.push(buffer);
            }
            _ => return vec![format!("bad directive {directive:?}")],
        }
    }
    let module = match Module::parse(&text) {
        Ok(module) => module,
        Err(error) => return vec![error.to_string()],
    };
    let params: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.address.to_le_bytes()).collect();
    let config = LaunchConfig {
        grid: [grid, 1, 1],
        block: [block, 1, 1],
        dynamic_shared_bytes: shared,
        params: &params,
        cooperative,
        max_workers: 0,
    };
    match (host.launch_module(&module, &config), fault) {
        (Ok(_), None) => {}
        (Ok(_), Some(fault)) => return vec![format!("no fault, expected '{fault}'")],
        (Err(found), Some(fault)) if found.to_string().contains(&fault) => {}
        (Err(found), _) => return vec![found.to_string()],
    }
    let mut failures = Vec::new();
    for (number, buffer) in buffers.iter().enumerate() {
        let size = buffer.bits as usize / 8;
        for (index, expected) in buffer.expected.iter().flatten().enumerate() {
            let bytes = host.read(buffer.address + (index * size) as u64, size);
            let found = bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
            let expected = expected & if size == 8 { u64::MAX } else { (1 << buffer.bits) - 1 };
            if found != expected && failures.len() < 8 {
                failures
                    .push(format!("parameter {number}, value {index} is {found:#x}, expected {expected:#x}"));
            }
        }
    }
    failures
}
