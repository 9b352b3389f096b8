//! `--format=csv`.

use crate::fields::{AppField, GpuField, Value};
use crate::gather::Report;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    pub has_header: bool,
    pub has_units: bool,
}

pub fn gpus(report: &Report, columns: &[&GpuField], format: Format, is_first: bool) -> String {
    let mut text = header(columns.iter().map(|column| (column.name, column.unit)), format, is_first);
    for gpu in &report.gpus {
        text.push_str(&row(columns.iter().map(|column| ((column.value)(report, gpu), column.unit)), format));
    }
    text
}

pub fn processes(report: &Report, columns: &[&AppField], format: Format, is_first: bool) -> String {
    let mut text = header(columns.iter().map(|column| (column.name, column.unit)), format, is_first);
    for gpu in &report.gpus {
        for process in &gpu.processes {
            text.push_str(&row(
                columns.iter().map(|column| ((column.value)(gpu, process), column.unit)),
                format,
            ));
        }
    }
    text
}

/// Units stand in the header, also where `nounits` takes them from the values.
fn header<'a>(columns: impl Iterator<Item = (&'a str, &'a str)>, format: Format, is_first: bool) -> String {
    if !format.has_header || !is_first {
        return String::new();
    }
    let titles: Vec<String> = columns
        .map(|(name, unit)| if unit.is_empty() { name.to_owned() } else { format!("{name} [{unit}]") })
        .collect();
    format!("{}\n", titles.join(", "))
}

fn row<'a>(values: impl Iterator<Item = (Value, &'a str)>, format: Format) -> String {
    let cells: Vec<String> = values
        .map(|(value, unit)| match value {
            None => "[N/A]".to_owned(),
            Some(value) if format.has_units && !unit.is_empty() => format!("{value} {unit}"),
            Some(value) => value,
        })
        .collect();
    format!("{}\n", cells.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::{app_fields, gpu_fields};
    use crate::gather::{Gpu, Memory, Process};

    fn report() -> Report {
        let memory =
            Memory { total: 4 << 30, reserved: 0, used: (1 << 20) + 1, free: (4 << 30) - (1 << 20) - 1 };
        let process = Process { pid: 77, name: Some("train".into()), memory_used: Some(64 << 20) };
        let gpu = Gpu {
            name: "NVIDIA H200".into(),
            memory: Some(memory),
            busy: Some(61),
            processes: vec![process],
            ..Gpu::default()
        };
        Report { gpus: vec![gpu], ..Report::default() }
    }

    const WHOLE: Format = Format { has_header: true, has_units: true };

    #[test]
    fn values_have_their_units_and_what_nobody_tells_says_so() {
        let columns =
            gpu_fields("gpu_name, memory.total,memory.used,utilization.gpu,fan.speed").expect("columns");
        assert_eq!(
            gpus(&report(), &columns, WHOLE, true),
            "name, memory.total [MiB], memory.used [MiB], utilization.gpu [%], fan.speed [%]\n\
             NVIDIA H200, 4096 MiB, 2 MiB, 61 %, [N/A]\n"
        );
        let bare = Format { has_header: false, has_units: false };
        assert_eq!(gpus(&report(), &columns, bare, true), "NVIDIA H200, 4096, 2, 61, [N/A]\n");
    }

    #[test]
    fn processes_are_listed_and_a_repeated_query_has_one_header() {
        let columns = app_fields("pid,name,used_memory").expect("columns");
        assert_eq!(
            processes(&report(), &columns, WHOLE, true),
            "pid, process_name, used_gpu_memory [MiB]\n77, train, 64 MiB\n"
        );
        assert_eq!(processes(&report(), &columns, WHOLE, false), "77, train, 64 MiB\n");
    }
}
