//! What `--query-gpu` and `--query-compute-apps` can ask for.

use crate::gather::{Gpu, Process, Report};
use crate::options::UsageError;

/// A value, or why there is none.
pub type Value = Option<String>;

/// A column of `--query-gpu`.
pub struct GpuField {
    pub name: &'static str,
    /// Another name that means the same.
    pub alias: &'static str,
    /// What follows the number unless `nounits` is given.
    pub unit: &'static str,
    pub value: fn(&Report, &Gpu) -> Value,
}

/// A column of `--query-compute-apps`.
pub struct AppField {
    pub name: &'static str,
    pub alias: &'static str,
    pub unit: &'static str,
    pub value: fn(&Gpu, &Process) -> Value,
}

impl PartialEq for GpuField {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for GpuField {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

impl PartialEq for AppField {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for AppField {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

macro_rules! gpu_fields {
    ($($name:literal $(or $alias:literal)? $([$unit:literal])? => $value:expr;)*) => {
        /// All of them, in the order of the help.
        pub const GPU_FIELDS: &[GpuField] = &[$(
            GpuField { name: $name, alias: concat!("" $(, $alias)?), unit: concat!("" $(, $unit)?), value: $value },
        )*];
    };
}

gpu_fields! {
    "timestamp" => |report, _| Some(report.at.precise.clone());
    "driver_version" => |report, _| report.driver_version.clone();
    "count" => |report, _| Some(report.count.to_string());
    "name" or "gpu_name" => |_, gpu| Some(gpu.name.clone());
    "serial" or "gpu_serial" => |_, gpu| gpu.serial.clone();
    "uuid" or "gpu_uuid" => |_, gpu| Some(gpu.uuid.clone());
    "pci.bus_id" or "gpu_bus_id" => |_, gpu| Some(gpu.address.text.clone());
    "pci.domain" => |_, gpu| Some(format!("0x{:04X}", gpu.address.domain));
    "pci.bus" => |_, gpu| Some(format!("0x{:02X}", gpu.address.bus));
    "pci.device" => |_, gpu| Some(format!("0x{:02X}", gpu.address.device));
    "pci.device_id" => |_, gpu| (gpu.address.device_id != 0).then(|| format!("0x{:08X}", gpu.address.device_id));
    "pcie.link.gen.current" or "pcie.link.gen.gpucurrent" => |_, gpu| text(gpu.link_generation);
    "pcie.link.width.current" => |_, gpu| text(gpu.link_width);
    "index" => |_, gpu| Some(gpu.index.to_string());
    "display_mode" or "display_attached" => |_, gpu| enabled(gpu.has_display);
    "display_active" => |_, gpu| enabled(gpu.is_display_active);
    "persistence_mode" => |_, gpu| enabled(gpu.is_persistent);
    "accounting.mode" => |_, gpu| enabled(gpu.has_accounting);
    "driver_model.current" => |_, _| None;
    "driver_model.pending" => |_, _| None;
    "vbios_version" => |_, gpu| gpu.vbios.clone();
    "fan.speed" ["%"] => |_, gpu| text(gpu.fan);
    "pstate" => |_, gpu| gpu.performance_state.map(|state| format!("P{state}"));
    "clocks_event_reasons.active" or "clocks_throttle_reasons.active" => |_, gpu| {
        gpu.throttling.map(|reasons| format!("0x{reasons:016X}"))
    };
    "memory.total" ["MiB"] => |_, gpu| gpu.memory.map(|memory| mebibytes(memory.total));
    "memory.reserved" ["MiB"] => |_, gpu| gpu.memory.map(|memory| mebibytes(memory.reserved));
    "memory.used" ["MiB"] => |_, gpu| gpu.memory.map(|memory| mebibytes(memory.used));
    "memory.free" ["MiB"] => |_, gpu| gpu.memory.map(|memory| mebibytes(memory.free));
    "compute_mode" => |_, gpu| gpu.compute_mode.map(compute_mode);
    "compute_cap" => |_, gpu| gpu.capability.map(|(major, minor)| format!("{major}.{minor}"));
    "utilization.gpu" ["%"] => |_, gpu| text(gpu.busy);
    "utilization.memory" ["%"] => |_, gpu| text(gpu.memory_busy);
    "utilization.encoder" ["%"] => |_, gpu| text(gpu.encoder_busy);
    "utilization.decoder" ["%"] => |_, gpu| text(gpu.decoder_busy);
    "temperature.gpu" => |_, gpu| text(gpu.temperature);
    "temperature.memory" => |_, _| None;
    "power.management" => |_, gpu| enabled(Some(gpu.power_limit_milliwatts.is_some()));
    "power.draw" ["W"] => |_, gpu| gpu.power_milliwatts.map(watts);
    "power.limit" or "enforced.power.limit" ["W"] => |_, gpu| gpu.power_limit_milliwatts.map(watts);
    "clocks.current.graphics" or "clocks.gr" ["MHz"] => |_, gpu| text(gpu.clocks[0]);
    "clocks.current.sm" or "clocks.sm" ["MHz"] => |_, gpu| text(gpu.clocks[1]);
    "clocks.current.memory" or "clocks.mem" ["MHz"] => |_, gpu| text(gpu.clocks[2]);
    "clocks.current.video" or "clocks.video" ["MHz"] => |_, gpu| text(gpu.clocks[3]);
    "clocks.max.graphics" or "clocks.max.gr" ["MHz"] => |_, gpu| text(gpu.most_clocks[0]);
    "clocks.max.sm" ["MHz"] => |_, gpu| text(gpu.most_clocks[1]);
    "clocks.max.memory" or "clocks.max.mem" ["MHz"] => |_, gpu| text(gpu.most_clocks[2]);
    "ecc.mode.current" => |_, gpu| enabled(gpu.has_ecc);
    "ecc.mode.pending" => |_, gpu| enabled(gpu.has_ecc);
    "ecc.errors.corrected.volatile.total" => |_, gpu| text(gpu.ecc_corrected);
    "ecc.errors.uncorrected.volatile.total" => |_, gpu| text(gpu.ecc_uncorrected);
    "mig.mode.current" => |_, gpu| enabled(gpu.has_mig);
    "mig.mode.pending" => |_, gpu| enabled(gpu.has_mig);
}

/// All columns of `--query-compute-apps`.
pub const APP_FIELDS: &[AppField] = &[
    AppField { name: "gpu_name", alias: "", unit: "", value: |gpu, _| Some(gpu.name.clone()) },
    AppField { name: "gpu_bus_id", alias: "", unit: "", value: |gpu, _| Some(gpu.address.text.clone()) },
    AppField { name: "gpu_serial", alias: "", unit: "", value: |gpu, _| gpu.serial.clone() },
    AppField { name: "gpu_uuid", alias: "", unit: "", value: |gpu, _| Some(gpu.uuid.clone()) },
    AppField { name: "pid", alias: "", unit: "", value: |_, process| Some(process.pid.to_string()) },
    AppField { name: "process_name", alias: "name", unit: "", value: |_, process| process.name.clone() },
    AppField {
        name: "used_gpu_memory",
        alias: "used_memory",
        unit: "MiB",
        value: |_, process| process.memory_used.map(mebibytes),
    },
];

/// The columns that a list names.
pub fn gpu_fields(list: &str) -> Result<Vec<&'static GpuField>, UsageError> {
    named(list, GPU_FIELDS, |field, name| field.name == name || field.alias == name)
}

/// The columns that a list names.
pub fn app_fields(list: &str) -> Result<Vec<&'static AppField>, UsageError> {
    named(list, APP_FIELDS, |field, name| field.name == name || field.alias == name)
}

fn named<F>(
    list: &str,
    all: &'static [F],
    is_it: fn(&F, &str) -> bool,
) -> Result<Vec<&'static F>, UsageError> {
    let find = |name: &str| {
        let found = all.iter().find(|field| !name.is_empty() && is_it(field, name));
        found.ok_or_else(|| UsageError::UnknownField { field: name.to_owned() })
    };
    list.split(',').map(|name| find(name.trim())).collect()
}

pub fn help() -> String {
    let mut text = "List of valid properties to query for the switch \"--query-gpu=\":\n\n".to_owned();
    for GpuField { name, alias, .. } in GPU_FIELDS {
        text.push_str(&if alias.is_empty() {
            format!("\"{name}\"\n")
        } else {
            format!("\"{name}\" or \"{alias}\"\n")
        });
    }
    text
}

pub fn enabled(state: Option<bool>) -> Value {
    state.map(|state| (if state { "Enabled" } else { "Disabled" }).to_owned())
}

/// Whole MiB, rounded up as nvidia-smi does: what is used never shows as nothing.
pub fn mebibytes(bytes: u64) -> String {
    bytes.div_ceil(1 << 20).to_string()
}

pub fn watts(milliwatts: u32) -> String {
    format!("{}.{:02}", milliwatts / 1000, milliwatts % 1000 / 10)
}

pub fn compute_mode(mode: u32) -> String {
    let name = match mode {
        0 => "Default",
        1 => "Exclusive_Thread",
        2 => "Prohibited",
        3 => "Exclusive_Process",
        _ => "Unknown",
    };
    name.to_owned()
}

fn text(value: Option<impl ToString>) -> Value {
    value.map(|value| value.to_string())
}
