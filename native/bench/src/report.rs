//! The table for people and the JSON for `bench/run.ts`.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::rounds::{Case, Spread};

#[derive(Serialize)]
pub struct Report {
    pub device: String,
    pub raw: &'static str,
    pub rounds: usize,
    pub cases: Vec<Case>,
}

/// One case as it is known.
pub fn print_case(case: &Case) {
    println!("{} ({})", case.name, case.unit);
    for series in &case.series {
        println!("  {:<22} {}", series.way, spread(&series.spread));
    }
    for ratio in &case.ratios {
        println!("  {:<22} {}", format!("ratio to {}", ratio.over), spread(&ratio.spread));
    }
}

pub fn write_json(report: &Report, path: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn spread(spread: &Spread) -> String {
    let Spread { median, low, high, min, max } = *spread;
    let [median, low, high, min, max] = [median, low, high, min, max].map(number);
    format!("{median:>10}   quartiles {low} to {high}   extremes {min} to {max}")
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.1 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    }
}
