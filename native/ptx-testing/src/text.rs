//! Numbers as the test files write them.

use std::path::PathBuf;

/// `12`, `-3`, `0x7f_ff`, `1.5f` (f32), `1.5d` (f64), `nanf`, `-infd`.
pub(crate) fn value(text: &str) -> u64 {
    let bad = || -> ! { panic!("bad value {text}") };
    let negative = text.starts_with('-');
    let digits = text.trim_start_matches('-');
    let sign = |value: u64| if negative { value.wrapping_neg() } else { value };
    if let Some(hex) = digits.strip_prefix("0x") {
        return sign(u64::from_str_radix(&hex.replace('_', ""), 16).unwrap_or_else(|_| bad()));
    }
    if let Some(float) = text.strip_suffix('f') {
        return u64::from(float.parse::<f32>().unwrap_or_else(|_| bad()).to_bits());
    }
    if let Some(float) = text.strip_suffix('d') {
        return float.parse::<f64>().unwrap_or_else(|_| bad()).to_bits();
    }
    sign(digits.parse().unwrap_or_else(|_| bad()))
}

/// Bits of a type such as `u32` or `pred`.
pub(crate) fn width(ty: &str) -> u32 {
    match ty {
        "pred" => 1,
        _ => ty
            .trim_start_matches(|letter: char| letter.is_ascii_alphabetic())
            .parse()
            .unwrap_or_else(|_| panic!("bad type {ty}")),
    }
}

/// The files of a folder with that ending, in order.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|known| known == ending))
        .collect();
    files.sort();
    files
}
