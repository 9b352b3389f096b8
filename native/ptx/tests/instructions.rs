//! Runs the tables in `tests/instructions`: a line `instructions : input types -> output types` at the
//! margin, then indented lines `inputs = outputs`. Inputs are `%i0`…, outputs `%o0`…. Expected values come
//! from the PTX specification's definitions or hand computation, never from this interpreter.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::result_large_err,
    reason = "values are made to fit, and a fault is what the test looks at"
)]

mod common;

// The compiler's tests include this file and have a `launch` of their own.
#[allow(unused_imports, reason = "used where this file is the whole program")]
use ptx::launch;

use std::fmt::Write as _;

use common::Host;
use ptx::{LaunchConfig, Module};

fn value(text: &str) -> u64 {
    let negative = text.starts_with('-');
    let digits = text.trim_start_matches('-');
    let sign = |value: u64| if negative { value.wrapping_neg() } else { value };
    if let Some(hex) = digits.strip_prefix("0x") {
        return sign(
            u64::from_str_radix(&hex.replace('_', ""), 16).unwrap_or_else(|_| panic!("bad value {text}")),
        );
    }
    if let Some(float) = text.strip_suffix('f') {
        return u64::from(float.parse::<f32>().unwrap_or_else(|_| panic!("bad value {text}")).to_bits());
    }
    if let Some(float) = text.strip_suffix('d') {
        return float.parse::<f64>().unwrap_or_else(|_| panic!("bad value {text}")).to_bits();
    }
    sign(digits.parse().unwrap_or_else(|_| panic!("bad value {text}")))
}

fn width(ty: &str) -> u32 {
    match ty {
        "pred" => 1,
        _ => ty[1..].parse().unwrap_or_else(|_| panic!("bad type {ty}")),
    }
}

fn source(body: &str, inputs: &[&str], outputs: &[&str]) -> String {
    let mut text = String::from(
        ".version 8.0\n.target sm_80\n.address_size 64\n.entry k(.param .u64 p0, .param .u64 p1) {\n\
         .reg .b64 %a<9>; .reg .b32 %t<9>; .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<9>; .reg .b64 %rd<9>;\n",
    );
    for (kind, types) in [("i", inputs), ("o", outputs)] {
        for (index, ty) in types.iter().enumerate() {
            let _ = writeln!(text, ".reg .{} %{kind}{index};", if *ty == "pred" { ty } else { &ty[..] });
        }
    }
    let _ = writeln!(text, "ld.param.u64 %a0, [p0]; ld.param.u64 %a1, [p1]; mov.u32 %t0, %tid.x;");
    let _ = writeln!(text, "mad.wide.u32 %a0, %t0, {}, %a0;", 8 * inputs.len());
    let _ = writeln!(text, "mad.wide.u32 %a1, %t0, {}, %a1;", 8 * outputs.len());
    for (index, ty) in inputs.iter().enumerate() {
        let _ = match width(ty) {
            1 => writeln!(text, "ld.global.u32 %t1, [%a0+{}]; setp.ne.u32 %i{index}, %t1, 0;", 8 * index),
            bits => writeln!(text, "ld.global.b{bits} %i{index}, [%a0+{}];", 8 * index),
        };
    }
    text.push_str(body);
    text.push('\n');
    for (index, ty) in outputs.iter().enumerate() {
        let _ = match width(ty) {
            1 => writeln!(text, "selp.u32 %t1, 1, 0, %o{index}; st.global.u32 [%a1+{}], %t1;", 8 * index),
            bits => writeln!(text, "st.global.b{bits} [%a1+{}], %o{index};", 8 * index),
        };
    }
    text.push_str("ret;\n}\n");
    text
}

#[test]
fn instructions_match_their_tables() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../ptx/tests/instructions");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut failures = String::new();
    let mut vectors = 0;
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<(usize, &str)> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
            .collect();
        let mut at = 0;
        while at < lines.len() {
            let (number, header) = lines[at];
            at += 1;
            let cases: Vec<_> =
                lines[at..].iter().take_while(|(_, line)| line.starts_with(' ')).copied().collect();
            at += cases.len();
            vectors += cases.len();
            let place = format!("{}:{}", file.file_name().unwrap().to_string_lossy(), number + 1);
            let (body, types) = header.rsplit_once(" : ").unwrap_or_else(|| panic!("{place}: no types"));
            let (inputs, outputs) = types.split_once("->").unwrap_or_else(|| panic!("{place}: no ->"));
            let (inputs, outputs): (Vec<_>, Vec<_>) =
                (inputs.split_whitespace().collect(), outputs.split_whitespace().collect());
            let source = source(body, &inputs, &outputs);
            check(&place, &source, &cases, inputs.len(), &outputs, &mut failures);
        }
    }
    assert!(vectors > 100, "only {vectors} vectors found");
    assert!(failures.is_empty(), "\n{failures}");
}

fn check(
    place: &str,
    source: &str,
    cases: &[(usize, &str)],
    inputs: usize,
    outputs: &[&str],
    failures: &mut String,
) {
    let module = match Module::parse(source) {
        Ok(module) => module,
        Err(error) => {
            let _ = writeln!(failures, "{place}: {error}");
            return;
        }
    };
    let host = Host::default();
    let mut bytes = Vec::new();
    for (number, case) in cases {
        let given = case.split_once('=').unwrap_or_else(|| panic!("{place}: line {} has no =", number + 1)).0;
        let given: Vec<u64> = given.split_whitespace().map(value).collect();
        assert_eq!(given.len(), inputs, "{place}: inputs of line {}", number + 1);
        bytes.extend(given.iter().flat_map(|value| value.to_le_bytes()));
    }
    let input = host.filled(&bytes);
    let output = host.buffer(8 * outputs.len() * cases.len(), true);
    let params: Vec<u8> = [input, output].iter().flat_map(|value| value.to_le_bytes()).collect();
    let config = LaunchConfig {
        grid: [1; 3],
        block: [cases.len() as u32, 1, 1],
        dynamic_shared_bytes: 0,
        params: &params,
        cooperative: false,
        max_workers: 1,
    };
    if let Err(fault) = crate::launch(&module, module.entry("k").unwrap(), &config, &host) {
        let _ = writeln!(failures, "{place}: {fault}");
        return;
    }
    for (index, (number, case)) in cases.iter().enumerate() {
        let expected = case.split_once('=').unwrap().1.split_whitespace();
        for (column, (expected, ty)) in expected.zip(outputs).enumerate() {
            let bits = width(ty);
            let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            let expected = value(expected) & mask;
            let at = output + 8 * (index * outputs.len() + column) as u64;
            let found = u64::from_le_bytes(host.read(at, 8).try_into().unwrap()) & mask;
            if found != expected {
                let _ = writeln!(
                    failures,
                    "{place}, line {}: output {column} is {found:#x}, expected {expected:#x}: {}",
                    number + 1,
                    case.trim()
                );
            }
        }
    }
}
