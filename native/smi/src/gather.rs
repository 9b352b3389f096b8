//! All that is shown, asked for once. `None` is what NVML does not tell.

use nvml::nvmlDevice_t;

use crate::nvml::{Nvml, NvmlError};
use crate::time::{self, Moment};

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    pub at: Moment,
    pub driver_version: Option<String>,
    pub nvml_version: String,
    /// `13.0`
    pub cuda_version: String,
    /// How many there are, shown or not.
    pub count: usize,
    pub gpus: Vec<Gpu>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gpu {
    pub index: usize,
    pub name: String,
    pub uuid: String,
    pub serial: Option<String>,
    pub vbios: Option<String>,
    pub capability: Option<(u32, u32)>,
    pub address: Address,
    pub memory: Option<Memory>,
    pub busy: Option<u32>,
    pub memory_busy: Option<u32>,
    pub encoder_busy: Option<u32>,
    pub decoder_busy: Option<u32>,
    pub temperature: Option<u32>,
    pub fan: Option<u32>,
    pub performance_state: Option<u32>,
    pub power_milliwatts: Option<u32>,
    pub power_limit_milliwatts: Option<u32>,
    /// Graphics, multiprocessor, memory, video, in MHz.
    pub clocks: [Option<u32>; 4],
    pub most_clocks: [Option<u32>; 4],
    pub throttling: Option<u64>,
    pub has_ecc: Option<bool>,
    pub ecc_corrected: Option<u64>,
    pub ecc_uncorrected: Option<u64>,
    pub has_mig: Option<bool>,
    pub is_persistent: Option<bool>,
    pub has_display: Option<bool>,
    pub is_display_active: Option<bool>,
    pub has_accounting: Option<bool>,
    pub compute_mode: Option<u32>,
    pub link_generation: Option<u32>,
    pub link_width: Option<u32>,
    pub processes: Vec<Process>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Address {
    /// `00000000:01:00.0`
    pub text: String,
    pub domain: u32,
    pub bus: u32,
    pub device: u32,
    pub device_id: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    pub total: u64,
    pub reserved: u64,
    pub used: u64,
    pub free: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    pub pid: u32,
    pub name: Option<String>,
    pub memory_used: Option<u64>,
}

/// Asks for everything about the GPUs that `only` names; about all without it.
pub fn report(nvml: &Nvml, only: Option<&[String]>) -> Result<Report, NvmlError> {
    let devices = nvml.devices()?;
    let count = devices.len();
    let mut gpus: Vec<Gpu> =
        devices.into_iter().enumerate().map(|(index, device)| describe(nvml, index, device)).collect();
    if let Some(wanted) = only {
        let mut chosen: Vec<Gpu> = Vec::new();
        for id in wanted {
            let found = gpus.iter().find(|gpu| is_called(gpu, id));
            let gpu = found.ok_or_else(|| NvmlError::NoSuchGpu { wanted: id.clone(), count })?;
            if !chosen.iter().any(|other| other.index == gpu.index) {
                chosen.push(gpu.clone());
            }
        }
        gpus = chosen;
    }
    let cuda = nvml.system_number("nvmlSystemGetCudaDriverVersion_v2").unwrap_or(0);
    Ok(Report {
        at: time::now(),
        driver_version: nvml.system_text("nvmlSystemGetDriverVersion"),
        nvml_version: nvml.system_text("nvmlSystemGetNVMLVersion").unwrap_or_else(|| "N/A".to_owned()),
        cuda_version: format!("{}.{}", cuda / 1000, cuda % 1000 / 10),
        count,
        gpus,
    })
}

/// By number, UUID or PCI address, with or without the long domain.
fn is_called(gpu: &Gpu, id: &str) -> bool {
    let address = id.to_ascii_uppercase();
    id.parse() == Ok(gpu.index)
        || gpu.uuid.eq_ignore_ascii_case(id)
        || (address.contains(':') && gpu.address.text.ends_with(&address))
}

fn describe(nvml: &Nvml, index: usize, device: nvmlDevice_t) -> Gpu {
    let yes = |symbol: &str| nvml.number(symbol, device).map(|value| value != 0);
    let busy = nvml.utilization(device);
    let clocks = |symbol: &str| [0, 1, 2, 3].map(|which| nvml.chosen(symbol, device, which));
    Gpu {
        index,
        name: nvml.text("nvmlDeviceGetName", device).unwrap_or_else(|| "Unknown".to_owned()),
        uuid: nvml.text("nvmlDeviceGetUUID", device).unwrap_or_default(),
        serial: nvml.text("nvmlDeviceGetSerial", device),
        vbios: nvml.text("nvmlDeviceGetVbiosVersion", device),
        capability: nvml.pair("nvmlDeviceGetCudaComputeCapability", device),
        address: address(nvml, device),
        memory: nvml.memory(device).map(|memory| Memory {
            total: memory.total,
            reserved: memory.reserved,
            used: memory.used,
            free: memory.free,
        }),
        busy: busy.map(|busy| busy.gpu),
        memory_busy: busy.map(|busy| busy.memory),
        encoder_busy: nvml.pair("nvmlDeviceGetEncoderUtilization", device).map(|(busy, _)| busy),
        decoder_busy: nvml.pair("nvmlDeviceGetDecoderUtilization", device).map(|(busy, _)| busy),
        temperature: nvml.chosen("nvmlDeviceGetTemperature", device, 0),
        fan: nvml.number("nvmlDeviceGetFanSpeed", device),
        performance_state: nvml.number("nvmlDeviceGetPerformanceState", device),
        power_milliwatts: nvml.number("nvmlDeviceGetPowerUsage", device),
        power_limit_milliwatts: nvml.number("nvmlDeviceGetEnforcedPowerLimit", device),
        clocks: clocks("nvmlDeviceGetClockInfo"),
        most_clocks: clocks("nvmlDeviceGetMaxClockInfo"),
        throttling: nvml
            .long("nvmlDeviceGetCurrentClocksEventReasons", device)
            .or_else(|| nvml.long("nvmlDeviceGetCurrentClocksThrottleReasons", device)),
        has_ecc: nvml.pair("nvmlDeviceGetEccMode", device).map(|(mode, _)| mode != 0),
        ecc_corrected: nvml.ecc_errors(device, 0),
        ecc_uncorrected: nvml.ecc_errors(device, 1),
        has_mig: nvml.pair("nvmlDeviceGetMigMode", device).map(|(mode, _)| mode != 0),
        is_persistent: yes("nvmlDeviceGetPersistenceMode"),
        has_display: yes("nvmlDeviceGetDisplayMode"),
        is_display_active: yes("nvmlDeviceGetDisplayActive"),
        has_accounting: yes("nvmlDeviceGetAccountingMode"),
        compute_mode: nvml.number("nvmlDeviceGetComputeMode", device),
        link_generation: nvml.number("nvmlDeviceGetCurrPcieLinkGeneration", device),
        link_width: nvml.number("nvmlDeviceGetCurrPcieLinkWidth", device),
        processes: processes(nvml, device),
    }
}

fn address(nvml: &Nvml, device: nvmlDevice_t) -> Address {
    let Some(pci) = nvml.pci(device) else { return Address::default() };
    let bytes: Vec<u8> =
        pci.busId.iter().take_while(|byte| **byte != 0).map(|byte| byte.cast_unsigned()).collect();
    Address {
        text: String::from_utf8_lossy(&bytes).into_owned(),
        domain: pci.domain,
        bus: pci.bus,
        device: pci.device,
        device_id: pci.pciDeviceId,
    }
}

fn processes(nvml: &Nvml, device: nvmlDevice_t) -> Vec<Process> {
    /// NVML's number for what it does not know.
    const UNKNOWN: u64 = u64::MAX;
    let list = nvml.processes(device).into_iter();
    list.map(|process| Process {
        pid: process.pid,
        name: nvml.process_name(process.pid),
        memory_used: Some(process.usedGpuMemory).filter(|used| *used != UNKNOWN),
    })
    .collect()
}
