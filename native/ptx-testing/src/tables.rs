//! Tables of single instructions: a line `instructions : input types -> output types` at the margin, then indented
//! lines `inputs = outputs`, one per thread. Inputs are `%i0`…, outputs `%o0`…; `%h`, `%r`, `%rd`, `%p`, `%f`, `%fd`
//! are for use in between. `#` begins a comment. An output of `*` may be anything, `a..b` anything between the two
//! as floating-point numbers (of the type's width), and `nan` any NaN.

use std::fmt::Write as _;
use std::path::Path;

use ptx::{LaunchConfig, Module};

use crate::text::{files, value, width};
use crate::{Engine, Host, Report};

/// Runs every table of a folder.
pub fn check_tables(folder: &str, engine: Engine) -> Report {
    let mut report = Report::default();
    for file in files(folder, "ptx-test") {
        check_file(&file, engine, &mut report);
    }
    report
}

fn check_file(file: &Path, engine: Engine, report: &mut Report) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
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
        report.run += cases.len();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let place = format!("{name}:{}", number + 1);
        let (body, types) = header.rsplit_once(" : ").unwrap_or_else(|| panic!("{place}: no types"));
        let (inputs, outputs) = types.split_once("->").unwrap_or_else(|| panic!("{place}: no ->"));
        let (inputs, outputs): (Vec<_>, Vec<_>) =
            (inputs.split_whitespace().collect(), outputs.split_whitespace().collect());
        let source = source(body, &inputs, &outputs);
        check(&place, &source, &cases, inputs.len(), &outputs, engine, &mut report.failures);
    }
}

fn source(body: &str, inputs: &[&str], outputs: &[&str]) -> String {
    let mut text = String::from(
        ".version 8.0\n.target sm_80\n.address_size 64\n.entry k(.param .u64 p0, .param .u64 p1) {\n\
         .reg .b64 %a<9>; .reg .b32 %t<9>; .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<9>; .reg .b64 %rd<9>;\n\
         .reg .f32 %f<9>; .reg .f64 %fd<9>;\n",
    );
    for (kind, types) in [("i", inputs), ("o", outputs)] {
        for (index, ty) in types.iter().enumerate() {
            let _ = writeln!(text, ".reg .{ty} %{kind}{index};");
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

/// As a number, of a type of that many bits.
fn number(bits: u32, pattern: u64) -> f64 {
    match bits {
        32 => f64::from(f32::from_bits(pattern as u32)),
        64 => f64::from_bits(pattern),
        _ => panic!("ranges are for f32 and f64"),
    }
}

fn is_nan(bits: u32, pattern: u64) -> bool {
    match bits {
        16 => pattern & 0x7fff > 0x7c00,
        _ => number(bits, pattern).is_nan(),
    }
}

/// Does `found` meet the expectation? Otherwise what was expected.
fn meets(expected: &str, bits: u32, found: u64) -> Result<(), String> {
    let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    if expected == "*" || expected == "nan" && is_nan(bits, found) {
        return Ok(());
    }
    if let Some((low, high)) = expected.split_once("..") {
        let (low, high) = (number(bits, value(low)), number(bits, value(high)));
        return if (low..=high).contains(&number(bits, found)) {
            Ok(())
        } else {
            Err(format!("{low:e}..{high:e}"))
        };
    }
    if expected == "nan" {
        return Err("NaN".to_owned());
    }
    let expected = value(expected) & mask;
    if expected == found & mask { Ok(()) } else { Err(format!("{expected:#x}")) }
}

fn check(
    place: &str,
    source: &str,
    cases: &[(usize, &str)],
    inputs: usize,
    outputs: &[&str],
    engine: Engine,
    failures: &mut Vec<String>,
) {
    let module = match Module::parse(source) {
        Ok(module) => module,
        Err(error) => return failures.push(format!("{place}: {error}")),
    };
    let host = Host::new(engine);
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
    if let Err(fault) = host.launch_module(&module, &config) {
        return failures.push(format!("{place}: {fault}"));
    }
    for (index, (number, case)) in cases.iter().enumerate() {
        let expected: Vec<&str> = case.split_once('=').unwrap_or_default().1.split_whitespace().collect();
        assert_eq!(expected.len(), outputs.len(), "{place}: outputs of line {}", number + 1);
        for (column, (expected, ty)) in expected.into_iter().zip(outputs).enumerate() {
            let bits = width(ty);
            let at = output + 8 * (index * outputs.len() + column) as u64;
            let found = host.read(at, 8).iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
            let found = found & if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            if let Err(expected) = meets(expected, bits, found) {
                let (line, case) = (number + 1, case.trim());
                failures.push(format!(
                    "{place}, line {line}: output {column} is {found:#x}, expected {expected}: {case}"
                ));
            }
        }
    }
}
