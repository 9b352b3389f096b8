//! What is the same for all GPUs.

use std::ffi::c_char;

use super::{put, put_text};
use crate::{nvmlHwbcEntry_t, nvmlReturn_t};

/// NVML's generation and release; the number before it is CUDA's.
const NVML_GENERATION: &str = "13";

calls! {
    fn nvmlSystemGetDriverVersion(version: *mut c_char, length: u32) |library| {
        let machine = library.known()?;
        put_text(machine.release.as_deref().ok_or(nvmlReturn_t::NOT_SUPPORTED)?, version, length)
    }

    fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: u32) |library| {
        let machine = library.known()?;
        let release = machine.release.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"));
        put_text(&format!("{NVML_GENERATION}.{release}"), version, length)
    }

    fn nvmlSystemGetCudaDriverVersion(cudaDriverVersion: *mut i32) |library| {
        put(cudaDriverVersion, library.known()?.cuda_version)
    }

    fn nvmlSystemGetCudaDriverVersion_v2(cudaDriverVersion: *mut i32) |library| {
        put(cudaDriverVersion, library.known()?.cuda_version)
    }

    fn nvmlSystemGetProcessName(pid: u32, name: *mut c_char, length: u32) |library| {
        let machine = library.now()?;
        let mut processes = machine.gpus.iter().flat_map(|gpu| &gpu.processes);
        let found = processes.find(|process| process.pid == pid).ok_or(nvmlReturn_t::NOT_FOUND)?;
        // A process of this machine is told by its path, as NVIDIA's does.
        let path = std::fs::read_link(format!("/proc/{pid}/exe"));
        let shown = path.map_or_else(|_| found.program.clone(), |path| path.to_string_lossy().into_owned());
        let room = usize::try_from(length).unwrap_or(0).saturating_sub(1);
        let end = (0..=shown.len().min(room)).rev().find(|end| shown.is_char_boundary(*end)).unwrap_or(0);
        put_text(&shown[..end], name, length)
    }

    fn nvmlSystemGetHicVersion(hwbcCount: *mut u32, hwbcEntries: *mut nvmlHwbcEntry_t) |library| {
        let _ = hwbcEntries;
        library.known()?;
        put(hwbcCount, 0)
    }

    fn nvmlUnitGetCount(unitCount: *mut u32) |library| {
        library.known()?;
        put(unitCount, 0)
    }
}
