//! Who uses a GPU: only processes of the session.

use std::time::{SystemTime, UNIX_EPOCH};

use super::put;
use crate::library::Answer;
use crate::{
    Library, Process, nvmlDevice_t, nvmlProcessInfo_t, nvmlProcessInfo_v1_t, nvmlProcessUtilizationSample_t,
    nvmlReturn_t,
};

/// NVML's number for "in no instance of MIG".
const NO_INSTANCE: u32 = u32::MAX;

calls! {
    fn nvmlDeviceGetComputeRunningProcesses(
        device: nvmlDevice_t, infoCount: *mut u32, infos: *mut nvmlProcessInfo_v1_t,
    ) |library| { put_list(&computing(library, device)?, infoCount, infos, first_version) }

    fn nvmlDeviceGetComputeRunningProcesses_v2(
        device: nvmlDevice_t, infoCount: *mut u32, infos: *mut nvmlProcessInfo_t,
    ) |library| { put_list(&computing(library, device)?, infoCount, infos, later_version) }

    fn nvmlDeviceGetComputeRunningProcesses_v3(
        device: nvmlDevice_t, infoCount: *mut u32, infos: *mut nvmlProcessInfo_t,
    ) |library| { put_list(&computing(library, device)?, infoCount, infos, later_version) }

    fn nvmlDeviceGetGraphicsRunningProcesses(
        device: nvmlDevice_t, infoCount: *mut u32, infos: *mut nvmlProcessInfo_v1_t,
    ) |library| { put_none(library, device, infoCount, infos) }

    fn nvmlDeviceGetGraphicsRunningProcesses_v2(
        device: nvmlDevice_t, infoCount: *mut u32, infos: *mut nvmlProcessInfo_t,
    ) |library| { put_none(library, device, infoCount, infos) }

    fn nvmlDeviceGetGraphicsRunningProcesses_v3(
        device: nvmlDevice_t, infoCount: *mut u32, infos: *mut nvmlProcessInfo_t,
    ) |library| { put_none(library, device, infoCount, infos) }

    fn nvmlDeviceGetMPSComputeRunningProcesses(
        device: nvmlDevice_t, infoCount: *mut u32, infos: *mut nvmlProcessInfo_v1_t,
    ) |library| { put_none(library, device, infoCount, infos) }

    fn nvmlDeviceGetMPSComputeRunningProcesses_v2(
        device: nvmlDevice_t, infoCount: *mut u32, infos: *mut nvmlProcessInfo_t,
    ) |library| { put_none(library, device, infoCount, infos) }

    fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
        device: nvmlDevice_t, infoCount: *mut u32, infos: *mut nvmlProcessInfo_t,
    ) |library| { put_none(library, device, infoCount, infos) }

    fn nvmlDeviceGetProcessUtilization(
        device: nvmlDevice_t,
        utilization: *mut nvmlProcessUtilizationSample_t,
        processSamplesCount: *mut u32,
        lastSeenTimeStamp: u64,
    ) |library| {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros());
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        let sampled: Vec<Process> =
            computing(library, device)?.into_iter().filter(|process| process.busy.is_some()).collect();
        if sampled.is_empty() || at <= lastSeenTimeStamp {
            put(processSamplesCount, 0)?;
            return Err(nvmlReturn_t::NOT_FOUND);
        }
        put_list(&sampled, processSamplesCount, utilization, |process| nvmlProcessUtilizationSample_t {
            pid: process.pid,
            timeStamp: at,
            smUtil: process.busy.unwrap_or(0),
            memUtil: 0,
            encUtil: 0,
            decUtil: 0,
        })
    }
}

fn computing(library: &Library, device: nvmlDevice_t) -> Answer<Vec<Process>> {
    Ok(library.gpu_now(device)?.processes)
}

fn first_version(process: &Process) -> nvmlProcessInfo_v1_t {
    nvmlProcessInfo_v1_t { pid: process.pid, usedGpuMemory: process.memory_used }
}

fn later_version(process: &Process) -> nvmlProcessInfo_t {
    nvmlProcessInfo_t {
        pid: process.pid,
        usedGpuMemory: process.memory_used,
        gpuInstanceId: NO_INSTANCE,
        computeInstanceId: NO_INSTANCE,
    }
}

/// Writes a list into an array of the program's, with its length. Errors: INSUFFICIENT_SIZE, with the length.
///
/// # Safety
/// `count` is null or says how many elements `list` has room for.
unsafe fn put_list<T>(
    processes: &[Process],
    count: *mut u32,
    list: *mut T,
    element: impl Fn(&Process) -> T,
) -> Answer {
    // SAFETY: null is caught; the rest is the caller's promise.
    let place = unsafe { count.as_mut() }.ok_or(nvmlReturn_t::INVALID_ARGUMENT)?;
    let room = usize::try_from(*place).unwrap_or(0);
    *place = u32::try_from(processes.len()).map_err(|_| nvmlReturn_t::UNKNOWN)?;
    if room < processes.len() {
        return Err(nvmlReturn_t::INSUFFICIENT_SIZE);
    }
    if list.is_null() && !processes.is_empty() {
        return Err(nvmlReturn_t::INVALID_ARGUMENT);
    }
    for (index, process) in processes.iter().enumerate() {
        // SAFETY: the array has room for all of them.
        unsafe { list.add(index).write(element(process)) };
    }
    Ok(())
}

/// A session has no graphics, and no MPS of its own.
///
/// # Safety
/// As for [`put_list`].
unsafe fn put_none<T>(library: &Library, device: nvmlDevice_t, count: *mut u32, list: *mut T) -> Answer {
    let _ = list;
    library.known_gpu(device)?;
    // SAFETY: the caller's promise.
    unsafe { put(count, 0) }
}
