//! What changes: memory, use, health.

use super::{put, version_of};
use crate::library::Answer;
use crate::{
    NVML_COMPUTEMODE_DEFAULT, NVML_FEATURE_DISABLED, NVML_FEATURE_ENABLED, NVML_MEMORY_ERROR_TYPE_CORRECTED,
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_TEMPERATURE_GPU, NVML_VOLATILE_ECC, nvmlComputeMode_t,
    nvmlDevice_t, nvmlEccCounterType_t, nvmlEnableState_t, nvmlFieldValue_t, nvmlMemory_t, nvmlMemory_v2_t,
    nvmlMemoryErrorType_t, nvmlReturn_t, nvmlTemperature_v1_t, nvmlTemperatureSensors_t, nvmlUtilization_t,
};

/// What is looked at for the use of encoder and decoder; it only says how old the answer may be.
const SAMPLING_US: u32 = 1_000_000;

calls! {
    fn nvmlDeviceGetMemoryInfo(device: nvmlDevice_t, memory: *mut nvmlMemory_t) |library| {
        let gpu = library.gpu_now(device)?;
        let used = gpu.memory_used.min(gpu.memory_total);
        put(memory, nvmlMemory_t { total: gpu.memory_total, free: gpu.memory_total - used, used })
    }

    fn nvmlDeviceGetMemoryInfo_v2(device: nvmlDevice_t, memory: *mut nvmlMemory_v2_t) |library| {
        let gpu = library.gpu_now(device)?;
        let place = memory.as_mut().ok_or(nvmlReturn_t::INVALID_ARGUMENT)?;
        if place.version != version_of::<nvmlMemory_v2_t>(2) {
            return Err(nvmlReturn_t::ARGUMENT_VERSION_MISMATCH);
        }
        let used = gpu.memory_used.min(gpu.memory_total);
        *place = nvmlMemory_v2_t {
            version: place.version,
            total: gpu.memory_total,
            // The driver's own share is no part of what CUDA calls the memory.
            reserved: 0,
            free: gpu.memory_total - used,
            used,
        };
        Ok(())
    }

    fn nvmlDeviceGetUtilizationRates(device: nvmlDevice_t, utilization: *mut nvmlUtilization_t) |library| {
        let gpu = library.gpu_now(device)?.busy.ok_or(nvmlReturn_t::NOT_SUPPORTED)?;
        // How busy the memory was, nobody measures.
        put(utilization, nvmlUtilization_t { gpu, memory: 0 })
    }

    fn nvmlDeviceGetEncoderUtilization(device: nvmlDevice_t, utilization: *mut u32, samplingPeriodUs: *mut u32) |library| {
        library.known_gpu(device)?;
        // A session has no video engines: none of it is used.
        put(utilization, 0)?;
        put(samplingPeriodUs, SAMPLING_US)
    }

    fn nvmlDeviceGetDecoderUtilization(device: nvmlDevice_t, utilization: *mut u32, samplingPeriodUs: *mut u32) |library| {
        library.known_gpu(device)?;
        put(utilization, 0)?;
        put(samplingPeriodUs, SAMPLING_US)
    }

    fn nvmlDeviceGetTemperature(device: nvmlDevice_t, sensorType: nvmlTemperatureSensors_t, temp: *mut u32) |library| {
        if sensorType != NVML_TEMPERATURE_GPU {
            return Err(nvmlReturn_t::INVALID_ARGUMENT);
        }
        put(temp, library.gpu_now(device)?.temperature.ok_or(nvmlReturn_t::NOT_SUPPORTED)?)
    }

    fn nvmlDeviceGetTemperatureV(device: nvmlDevice_t, temperature: *mut nvmlTemperature_v1_t) |library| {
        let place = temperature.as_mut().ok_or(nvmlReturn_t::INVALID_ARGUMENT)?;
        if place.version != version_of::<nvmlTemperature_v1_t>(1) {
            return Err(nvmlReturn_t::ARGUMENT_VERSION_MISMATCH);
        }
        if place.sensorType != NVML_TEMPERATURE_GPU {
            return Err(nvmlReturn_t::INVALID_ARGUMENT);
        }
        let celsius = library.gpu_now(device)?.temperature.ok_or(nvmlReturn_t::NOT_SUPPORTED)?;
        place.temperature = i32::try_from(celsius).map_err(|_| nvmlReturn_t::UNKNOWN)?;
        Ok(())
    }

    fn nvmlDeviceGetComputeMode(device: nvmlDevice_t, mode: *mut nvmlComputeMode_t) |library| {
        library.known_gpu(device)?;
        put(mode, NVML_COMPUTEMODE_DEFAULT)
    }

    fn nvmlDeviceGetDisplayMode(device: nvmlDevice_t, display: *mut nvmlEnableState_t) |library| {
        library.known_gpu(device)?;
        put(display, NVML_FEATURE_DISABLED)
    }

    fn nvmlDeviceGetDisplayActive(device: nvmlDevice_t, isActive: *mut nvmlEnableState_t) |library| {
        library.known_gpu(device)?;
        put(isActive, NVML_FEATURE_DISABLED)
    }

    fn nvmlDeviceGetAccountingMode(device: nvmlDevice_t, mode: *mut nvmlEnableState_t) |library| {
        library.known_gpu(device)?;
        put(mode, NVML_FEATURE_DISABLED)
    }

    fn nvmlDeviceGetEccMode(device: nvmlDevice_t, current: *mut nvmlEnableState_t, pending: *mut nvmlEnableState_t) |library| {
        library.gpu_now(device)?.ecc.ok_or(nvmlReturn_t::NOT_SUPPORTED)?;
        put(current, NVML_FEATURE_ENABLED)?;
        put(pending, NVML_FEATURE_ENABLED)
    }

    fn nvmlDeviceGetTotalEccErrors(
        device: nvmlDevice_t,
        errorType: nvmlMemoryErrorType_t,
        counterType: nvmlEccCounterType_t,
        eccCounts: *mut u64,
    ) |library| {
        let ecc = library.gpu_now(device)?.ecc.ok_or(nvmlReturn_t::NOT_SUPPORTED)?;
        if counterType != NVML_VOLATILE_ECC {
            return Err(nvmlReturn_t::NOT_SUPPORTED);
        }
        match errorType {
            NVML_MEMORY_ERROR_TYPE_CORRECTED => put(eccCounts, ecc.corrected),
            NVML_MEMORY_ERROR_TYPE_UNCORRECTED => put(eccCounts, ecc.uncorrected),
            _ => Err(nvmlReturn_t::INVALID_ARGUMENT),
        }
    }

    fn nvmlDeviceGetCurrentClocksEventReasons(device: nvmlDevice_t, clocksEventReasons: *mut u64) |library| {
        put(clocksEventReasons, library.gpu_now(device)?.throttling.ok_or(nvmlReturn_t::NOT_SUPPORTED)?)
    }

    fn nvmlDeviceGetCurrentClocksThrottleReasons(device: nvmlDevice_t, clocksThrottleReasons: *mut u64) |library| {
        put(clocksThrottleReasons, library.gpu_now(device)?.throttling.ok_or(nvmlReturn_t::NOT_SUPPORTED)?)
    }

    fn nvmlDeviceGetSupportedEventTypes(device: nvmlDevice_t, eventTypes: *mut u64) |library| {
        library.known_gpu(device)?;
        put(eventTypes, 0)
    }

    fn nvmlDeviceGetFieldValues(device: nvmlDevice_t, valuesCount: i32, values: *mut nvmlFieldValue_t) |library| {
        library.known_gpu(device)?;
        for value in fields(valuesCount, values)? {
            value.nvmlReturn = nvmlReturn_t::NOT_SUPPORTED;
        }
        Ok(())
    }
}

/// The fields that a program asks for; each has an answer of its own.
///
/// # Safety
/// `values` is null or leads to `count` fields, which nobody else uses during the call.
unsafe fn fields<'a>(count: i32, values: *mut nvmlFieldValue_t) -> Answer<&'a mut [nvmlFieldValue_t]> {
    let count = usize::try_from(count).ok().filter(|count| *count > 0 && !values.is_null());
    let count = count.ok_or(nvmlReturn_t::INVALID_ARGUMENT)?;
    // SAFETY: not null, and so many fields by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(values, count) })
}
