//! `-q`: everything that is known, section by section.

use crate::fields::{compute_mode, enabled, mebibytes, watts};
use crate::gather::{Gpu, Report};

/// One line, or a section with its lines.
enum Entry {
    Line(&'static str, Option<String>),
    Section(&'static str, Vec<Entry>),
}

use Entry::{Line, Section};

pub fn render(report: &Report, sections: &[String]) -> String {
    let mut text = "\n==============NVSMI LOG==============\n\n".to_owned();
    let driver = report.driver_version.as_deref().unwrap_or("N/A");
    for (name, value) in [
        ("Timestamp", report.at.spoken.as_str()),
        ("Driver Version", driver),
        ("CUDA Version", &report.cuda_version),
    ] {
        text.push_str(&line(0, name, value));
    }
    text.push_str(&format!("\n{:<42}: {}\n", "Attached GPUs", report.count));
    for gpu in &report.gpus {
        text.push_str(&format!("GPU {}\n", gpu.address.text));
        for entry in entries(gpu) {
            if is_wanted(&entry, sections) {
                print(&mut text, 1, &entry);
            }
        }
        text.push('\n');
    }
    text
}

/// With `-d` only the sections that it names.
fn is_wanted(entry: &Entry, sections: &[String]) -> bool {
    let names: &[&str] = match entry {
        Line(..) => &[],
        Section(title, _) => match *title {
            "FB Memory Usage" => &["MEMORY"],
            "Utilization" => &["UTILIZATION"],
            "ECC Mode" | "ECC Errors" => &["ECC"],
            "Temperature" => &["TEMPERATURE"],
            "GPU Power Readings" => &["POWER"],
            "Clocks" | "Max Clocks" => &["CLOCK"],
            "Processes" => &["PIDS"],
            "Clocks Event Reasons" => &["PERFORMANCE"],
            _ => &[],
        },
    };
    let is_mode = matches!(entry, Line("Compute Mode", _));
    let is_state = matches!(entry, Line("Performance State", _));
    sections.is_empty()
        || sections.iter().any(|section| {
            names.contains(&section.as_str())
                || (is_mode && section == "COMPUTE")
                || (is_state && section == "PERFORMANCE")
        })
}

fn entries(gpu: &Gpu) -> Vec<Entry> {
    let number = |value: Option<u32>, unit: &str| value.map(|value| format!("{value} {unit}"));
    let mib = |bytes: Option<u64>| bytes.map(|bytes| format!("{} MiB", mebibytes(bytes)));
    let clock = |value: Option<u32>| number(value, "MHz");
    let clocks = |values: [Option<u32>; 4]| {
        let titles = ["Graphics", "SM", "Memory", "Video"];
        titles.into_iter().zip(values).map(|(title, value)| Line(title, clock(value))).collect()
    };
    let memory = gpu.memory;
    let address = &gpu.address;
    vec![
        Line("Product Name", Some(gpu.name.clone())),
        Line("Display Mode", enabled(gpu.has_display)),
        Line("Display Active", enabled(gpu.is_display_active)),
        Line("Persistence Mode", enabled(gpu.is_persistent)),
        Section(
            "MIG Mode",
            vec![Line("Current", enabled(gpu.has_mig)), Line("Pending", enabled(gpu.has_mig))],
        ),
        Line("Accounting Mode", enabled(gpu.has_accounting)),
        Line("Serial Number", gpu.serial.clone()),
        Line("GPU UUID", Some(gpu.uuid.clone())),
        Line("Minor Number", Some(gpu.index.to_string())),
        Line("VBIOS Version", gpu.vbios.clone()),
        Section(
            "PCI",
            vec![
                Line("Bus", Some(format!("0x{:02X}", address.bus))),
                Line("Device", Some(format!("0x{:02X}", address.device))),
                Line("Domain", Some(format!("0x{:04X}", address.domain))),
                Line("Bus Id", Some(address.text.clone())),
                Section(
                    "GPU Link Info",
                    vec![
                        Section(
                            "PCIe Generation",
                            vec![Line("Current", gpu.link_generation.map(|it| it.to_string()))],
                        ),
                        Section(
                            "Link Width",
                            vec![Line("Current", gpu.link_width.map(|it| format!("{it}x")))],
                        ),
                    ],
                ),
            ],
        ),
        Line("Fan Speed", number(gpu.fan, "%")),
        Line("Performance State", gpu.performance_state.map(|state| format!("P{state}"))),
        Section("Clocks Event Reasons", reasons(gpu.throttling)),
        Section(
            "FB Memory Usage",
            vec![
                Line("Total", mib(memory.map(|it| it.total))),
                Line("Reserved", mib(memory.map(|it| it.reserved))),
                Line("Used", mib(memory.map(|it| it.used))),
                Line("Free", mib(memory.map(|it| it.free))),
            ],
        ),
        Line("Compute Mode", gpu.compute_mode.map(compute_mode)),
        Section(
            "Utilization",
            vec![
                Line("GPU", number(gpu.busy, "%")),
                Line("Memory", number(gpu.memory_busy, "%")),
                Line("Encoder", number(gpu.encoder_busy, "%")),
                Line("Decoder", number(gpu.decoder_busy, "%")),
            ],
        ),
        Section(
            "ECC Mode",
            vec![Line("Current", enabled(gpu.has_ecc)), Line("Pending", enabled(gpu.has_ecc))],
        ),
        Section(
            "ECC Errors",
            vec![Section(
                "Volatile",
                vec![
                    Line("Correctable", gpu.ecc_corrected.map(|it| it.to_string())),
                    Line("Uncorrectable", gpu.ecc_uncorrected.map(|it| it.to_string())),
                ],
            )],
        ),
        Section("Temperature", vec![Line("GPU Current Temp", number(gpu.temperature, "C"))]),
        Section(
            "GPU Power Readings",
            vec![
                Line("Instantaneous Power Draw", gpu.power_milliwatts.map(|it| format!("{} W", watts(it)))),
                Line("Current Power Limit", gpu.power_limit_milliwatts.map(|it| format!("{} W", watts(it)))),
            ],
        ),
        Section("Clocks", clocks(gpu.clocks)),
        Section("Max Clocks", clocks(gpu.most_clocks)),
        processes(gpu),
    ]
}

fn processes(gpu: &Gpu) -> Entry {
    if gpu.processes.is_empty() {
        return Line("Processes", Some("None".to_owned()));
    }
    let mut lines = Vec::new();
    for process in &gpu.processes {
        let used = process.memory_used.map(|used| format!("{} MiB", mebibytes(used)));
        lines.extend([
            Line("Process ID", Some(process.pid.to_string())),
            Line("Type", Some("C".to_owned())),
            Line("Name", process.name.clone()),
            Line("Used GPU Memory", used),
        ]);
    }
    Section("Processes", lines)
}

fn reasons(active: Option<u64>) -> Vec<Entry> {
    let names = [
        ("Idle", 0x01),
        ("SW Power Cap", 0x04),
        ("HW Slowdown", 0x08),
        ("HW Thermal Slowdown", 0x40),
        ("HW Power Brake Slowdown", 0x80),
        ("SW Thermal Slowdown", 0x20),
    ];
    let state =
        |bit: u64| active.map(|active| (if active & bit == 0 { "Not Active" } else { "Active" }).to_owned());
    names.into_iter().map(|(name, bit)| Line(name, state(bit))).collect()
}

fn print(text: &mut String, depth: usize, entry: &Entry) {
    match entry {
        Line(name, value) => text.push_str(&line(depth, name, value.as_deref().unwrap_or("N/A"))),
        Section(title, entries) => {
            text.push_str(&format!("{}{title}\n", "    ".repeat(depth)));
            entries.iter().for_each(|entry| print(text, depth + 1, entry));
        }
    }
}

fn line(depth: usize, name: &str, value: &str) -> String {
    let label = format!("{}{name}", "    ".repeat(depth));
    format!("{label:<42}: {value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::Memory;

    fn report() -> Report {
        let memory = Memory { total: 4 << 30, reserved: 0, used: 0, free: 4 << 30 };
        let gpu = Gpu {
            name: "NVIDIA H200".into(),
            memory: Some(memory),
            throttling: Some(0x20),
            ..Gpu::default()
        };
        Report { count: 1, cuda_version: "13.0".into(), gpus: vec![gpu], ..Report::default() }
    }

    #[test]
    fn all_sections_are_there_and_what_nobody_tells_says_so() {
        let text = render(&report(), &[]);
        for expected in [
            "    Product Name                          : NVIDIA H200\n",
            "        Total                             : 4096 MiB\n",
            "        SW Thermal Slowdown               : Active\n",
            "        GPU Current Temp                  : N/A\n",
            "    Processes                             : None\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn sections_can_be_chosen() {
        let text = render(&report(), &["MEMORY".to_owned()]);
        assert!(
            text.contains("FB Memory Usage") && !text.contains("Product Name") && !text.contains("Clocks"),
            "{text}"
        );
    }
}
