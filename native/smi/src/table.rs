//! The summary: what `nvidia-smi` shows without arguments.

use crate::fields::{compute_mode, mebibytes};
use crate::gather::{Gpu, Process, Report};

const WIDTH: usize = 89;
/// Widths of the three columns, between their bars.
const COLUMNS: [usize; 3] = [41, 24, 22];

pub fn render(report: &Report) -> String {
    let whole = format!("+{}+\n", "-".repeat(WIDTH));
    let columns = format!("+{}+\n", COLUMNS.map(|width| "-".repeat(width)).join("+"));
    let mut text = format!("{}\n{whole}", report.at.spoken);
    let driver = report.driver_version.as_deref().unwrap_or("N/A");
    text.push_str(&line(&format!(
        " {:<33} Driver Version: {driver:<14} CUDA Version: {:<8}",
        format!("NVIDIA-SMI (Farpool {})", env!("CARGO_PKG_VERSION")),
        report.cuda_version
    )));
    text.push_str(&columns);
    text.push_str(&cells([
        " GPU  Name                 Persistence-M ",
        " Bus-Id          Disp.A ",
        " Volatile Uncorr. ECC ",
    ]));
    text.push_str(&cells([
        " Fan  Temp   Perf          Pwr:Usage/Cap ",
        "           Memory-Usage ",
        " GPU-Util  Compute M. ",
    ]));
    text.push_str(&cells(["", "", "               MIG M. "]));
    text.push_str(&format!("|{}|\n", COLUMNS.map(|width| "=".repeat(width)).join("+")));
    for gpu in &report.gpus {
        text.push_str(&rows(gpu));
        text.push_str(&columns);
    }
    text.push('\n');
    text.push_str(&whole);
    for title in [
        " Processes:",
        "  GPU   GI   CI              PID   Type   Process name                        GPU Memory",
        "        ID   ID                                                               Usage",
    ] {
        text.push_str(&line(title));
    }
    text.push_str(&format!("|{}|\n", "=".repeat(WIDTH)));
    let processes: Vec<String> = report
        .gpus
        .iter()
        .flat_map(|gpu| gpu.processes.iter().map(|process| process_row(gpu.index, process)))
        .collect();
    if processes.is_empty() {
        text.push_str(&line("  No running processes found"));
    }
    processes.iter().for_each(|row| text.push_str(row));
    text.push_str(&whole);
    text
}

fn rows(gpu: &Gpu) -> String {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "N/A".to_owned());
    let on = |state: Option<bool>| or_none(state.map(|state| (if state { "On" } else { "Off" }).to_owned()));
    let name = cut(&gpu.name, 27);
    let power = |milliwatts: Option<u32>| or_none(milliwatts.map(|power| format!("{}W", power / 1000)));
    let memory = gpu.memory.map_or_else(
        || "N/A".to_owned(),
        |memory| format!("{:>7}MiB / {:>6}MiB", mebibytes(memory.used), mebibytes(memory.total)),
    );
    let percent = |value: Option<u32>| or_none(value.map(|value| format!("{value}%")));
    let mode = or_none(gpu.compute_mode.map(|mode| compute_mode(mode).replace("Exclusive_", "E. ")));
    [
        [
            format!(" {:>3}  {name:<27}{:>7} ", gpu.index, on(gpu.is_persistent)),
            format!(" {:>18} {:>3} ", gpu.address.text, on(gpu.is_display_active)),
            format!(" {:>20} ", or_none(gpu.ecc_uncorrected.map(|count| count.to_string()))),
        ],
        [
            format!(
                " {:<4} {:>4}    {:<4}      {:>6} / {:>6} ",
                percent(gpu.fan),
                or_none(gpu.temperature.map(|celsius| format!("{celsius}C"))),
                or_none(gpu.performance_state.map(|state| format!("P{state}"))),
                power(gpu.power_milliwatts),
                power(gpu.power_limit_milliwatts)
            ),
            format!("{memory:>23} "),
            format!(" {:>7}  {mode:>11} ", percent(gpu.busy)),
        ],
        [String::new(), String::new(), format!(" {:>20} ", or_none(crate::fields::enabled(gpu.has_mig)))],
    ]
    .iter()
    .map(|row| cells([&row[0], &row[1], &row[2]]))
    .collect()
}

fn process_row(index: usize, process: &Process) -> String {
    let memory =
        process.memory_used.map_or_else(|| "N/A".to_owned(), |used| format!("{}MiB", mebibytes(used)));
    let name = end_of(process.name.as_deref().unwrap_or("[Not Found]"), 34);
    line(&format!("  {index:>3}   N/A  N/A {:>16}      C   {name:<34} {memory:>10} ", process.pid))
}

fn line(text: &str) -> String {
    format!("|{}|\n", pad(text, WIDTH))
}

fn cells(texts: [&str; 3]) -> String {
    let [first, second, third] = texts;
    format!("|{}|{}|{}|\n", pad(first, COLUMNS[0]), pad(second, COLUMNS[1]), pad(third, COLUMNS[2]))
}

fn pad(text: &str, width: usize) -> String {
    format!("{:<width$}", cut(text, width))
}

/// The beginning of a long text, with dots.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(3)).chain("...".chars()).collect()
}

/// The end of a long path, which is what tells programs apart.
fn end_of(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    "...".chars().chain(text.chars().skip(length - (width - 3))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::{Address, Memory};

    #[test]
    fn every_line_has_the_same_width_whatever_the_values() {
        let long = Gpu {
            index: 12,
            name: "NVIDIA GeForce RTX 4090 Laptop GPU With A Long Name".into(),
            address: Address { text: "00000000:C1:00.0".into(), ..Address::default() },
            memory: Some(Memory { total: 141 << 30, used: 140 << 30, free: 1 << 30, reserved: 0 }),
            busy: Some(100),
            fan: Some(100),
            temperature: Some(104),
            power_milliwatts: Some(699_000),
            power_limit_milliwatts: Some(700_000),
            performance_state: Some(12),
            compute_mode: Some(3),
            has_mig: Some(false),
            ecc_uncorrected: Some(12_345_678),
            processes: vec![Process {
                pid: 4_194_304,
                name: Some("/a/very/long/path/to/some/program/that/trains/models".into()),
                memory_used: Some(140 << 30),
            }],
            ..Gpu::default()
        };
        let report = Report { gpus: vec![Gpu::default(), long], ..Report::default() };
        let text = render(&report);
        for line in text.lines().filter(|line| line.starts_with(['|', '+'])) {
            assert_eq!(line.chars().count(), WIDTH + 2, "{line}");
        }
        assert!(text.contains("143360MiB / 144384MiB"), "{text}");
        assert!(text.contains("C1:00.0"), "{text}");
        assert!(text.contains("   100%   E. Process |"), "{text}");
        assert!(text.contains("...some/program/that/trains/models  143360MiB |"), "{text}");
    }

    #[test]
    fn an_idle_gpu_says_that_nobody_uses_it() {
        let text = render(&Report { gpus: vec![Gpu::default()], ..Report::default() });
        assert!(text.contains("No running processes found"), "{text}");
    }
}
