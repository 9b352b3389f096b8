//! Which GPUs there are, and what stays the same of them.

use std::ffi::c_char;

use cuda_abi::pci::pci_numbers;

use super::{fill, put, put_text, text, version_of};
use crate::library::{Answer, handle_of, index_of};
use crate::{
    Gpu, Library, NVML_BRAND_UNKNOWN, NVML_DEVICE_ARCH_ADA, NVML_DEVICE_ARCH_AMPERE,
    NVML_DEVICE_ARCH_BLACKWELL, NVML_DEVICE_ARCH_HOPPER, NVML_DEVICE_ARCH_MAXWELL, NVML_DEVICE_ARCH_PASCAL,
    NVML_DEVICE_ARCH_TURING, NVML_DEVICE_ARCH_VOLTA, NVML_GPU_VIRTUALIZATION_MODE_NONE, NVML_UUID_TYPE_ASCII,
    NVML_UUID_TYPE_BINARY, nvmlBrandType_t, nvmlDevice_t, nvmlDeviceArchitecture_t,
    nvmlGpuVirtualizationMode_t, nvmlPciInfo_t, nvmlPciInfoExt_v1_t, nvmlReturn_t, nvmlUUID_v1_t,
};

calls! {
    fn nvmlDeviceGetCount(deviceCount: *mut u32) |library| { put(deviceCount, count(library)?) }

    fn nvmlDeviceGetCount_v2(deviceCount: *mut u32) |library| { put(deviceCount, count(library)?) }

    fn nvmlDeviceGetHandleByIndex(index: u32, device: *mut nvmlDevice_t) |library| {
        put(device, by_index(library, index)?)
    }

    fn nvmlDeviceGetHandleByIndex_v2(index: u32, device: *mut nvmlDevice_t) |library| {
        put(device, by_index(library, index)?)
    }

    fn nvmlDeviceGetHandleBySerial(serial: *const c_char, device: *mut nvmlDevice_t) |library| {
        let _ = (text(serial)?, device);
        library.known()?;
        // Boards of other people's machines are not named.
        Err(nvmlReturn_t::NOT_FOUND)
    }

    fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut nvmlDevice_t) |library| {
        put(device, by_uuid(library, text(uuid)?)?)
    }

    fn nvmlDeviceGetHandleByUUIDV(uuid: *const nvmlUUID_v1_t, device: *mut nvmlDevice_t) |library| {
        let wanted = uuid.as_ref().ok_or(nvmlReturn_t::INVALID_ARGUMENT)?;
        if wanted.version != version_of::<nvmlUUID_v1_t>(1) {
            return Err(nvmlReturn_t::ARGUMENT_VERSION_MISMATCH);
        }
        let bytes = wanted.value.map(c_char::cast_unsigned);
        let spelled = match wanted.r#type {
            NVML_UUID_TYPE_ASCII => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                String::from_utf8_lossy(&bytes[..end]).into_owned()
            }
            NVML_UUID_TYPE_BINARY => {
                let mut binary = [0; 16];
                binary.copy_from_slice(&bytes[..16]);
                format!("GPU-{}", cuda_abi::export_tables::uuid_text(&binary))
            }
            _ => return Err(nvmlReturn_t::INVALID_ARGUMENT),
        };
        put(device, by_uuid(library, &spelled)?)
    }

    fn nvmlDeviceGetHandleByPciBusId(pciBusId: *const c_char, device: *mut nvmlDevice_t) |library| {
        put(device, by_address(library, text(pciBusId)?)?)
    }

    fn nvmlDeviceGetHandleByPciBusId_v2(pciBusId: *const c_char, device: *mut nvmlDevice_t) |library| {
        put(device, by_address(library, text(pciBusId)?)?)
    }

    fn nvmlDeviceGetName(device: nvmlDevice_t, name: *mut c_char, length: u32) |library| {
        put_text(&library.known_gpu(device)?.name, name, length)
    }

    fn nvmlDeviceGetUUID(device: nvmlDevice_t, uuid: *mut c_char, length: u32) |library| {
        put_text(&library.known_gpu(device)?.uuid, uuid, length)
    }

    fn nvmlDeviceGetIndex(device: nvmlDevice_t, index: *mut u32) |library| {
        put(index, number_of(library, device)?)
    }

    fn nvmlDeviceGetMinorNumber(device: nvmlDevice_t, minorNumber: *mut u32) |library| {
        put(minorNumber, number_of(library, device)?)
    }

    fn nvmlDeviceGetBrand(device: nvmlDevice_t, r#type: *mut nvmlBrandType_t) |library| {
        library.known_gpu(device)?;
        put(r#type, NVML_BRAND_UNKNOWN)
    }

    fn nvmlDeviceGetArchitecture(device: nvmlDevice_t, arch: *mut nvmlDeviceArchitecture_t) |library| {
        put(arch, architecture(&library.known_gpu(device)?)?)
    }

    fn nvmlDeviceGetBoardId(device: nvmlDevice_t, boardId: *mut u32) |library| {
        let (domain, bus, slot) = library.known_gpu(device)?.pci;
        put(boardId, domain << 16 | bus << 8 | slot)
    }

    fn nvmlDeviceGetMultiGpuBoard(device: nvmlDevice_t, multiGpuBool: *mut u32) |library| {
        library.known_gpu(device)?;
        put(multiGpuBool, 0)
    }

    fn nvmlDeviceOnSameBoard(device1: nvmlDevice_t, device2: nvmlDevice_t, onSameBoard: *mut i32) |library| {
        let (first, second) = (library.known_gpu(device1)?, library.known_gpu(device2)?);
        put(onSameBoard, i32::from(first.uuid == second.uuid))
    }

    fn nvmlDeviceGetPciInfo(device: nvmlDevice_t, pci: *mut nvmlPciInfo_t) |library| {
        /// The first version's structure ends before the subsystem.
        const FIRST_BYTES: usize = 32;
        put_beginning(&pci_info(&library.known_gpu(device)?), pci, FIRST_BYTES)
    }

    fn nvmlDeviceGetPciInfo_v2(device: nvmlDevice_t, pci: *mut nvmlPciInfo_t) |library| {
        /// The second version's structure has reserved numbers where the third has the longer text.
        const SECOND_BYTES: usize = 36;
        put_beginning(&pci_info(&library.known_gpu(device)?), pci, SECOND_BYTES)
    }

    fn nvmlDeviceGetPciInfo_v3(device: nvmlDevice_t, pci: *mut nvmlPciInfo_t) |library| {
        put(pci, pci_info(&library.known_gpu(device)?))
    }

    fn nvmlDeviceGetPciInfoExt(device: nvmlDevice_t, pci: *mut nvmlPciInfoExt_v1_t) |library| {
        let gpu = library.known_gpu(device)?;
        let place = pci.as_mut().ok_or(nvmlReturn_t::INVALID_ARGUMENT)?;
        if place.version != version_of::<nvmlPciInfoExt_v1_t>(1) {
            return Err(nvmlReturn_t::ARGUMENT_VERSION_MISMATCH);
        }
        /// PCI's class of display controllers, and its 3D controllers.
        const CLASS: (u32, u32) = (3, 2);
        let (domain, bus, slot) = gpu.pci;
        *place = nvmlPciInfoExt_v1_t {
            version: place.version,
            domain,
            bus,
            device: slot,
            pciDeviceId: 0,
            pciSubSystemId: 0,
            baseClass: CLASS.0,
            subClass: CLASS.1,
            busId: fill(&gpu.pci_text()),
        };
        Ok(())
    }

    fn nvmlDeviceGetCudaComputeCapability(device: nvmlDevice_t, major: *mut i32, minor: *mut i32) |library| {
        let (first, second) = library.known_gpu(device)?.capability;
        put(major, first)?;
        put(minor, second)
    }

    fn nvmlDeviceGetNumGpuCores(device: nvmlDevice_t, numCores: *mut u32) |library| {
        put(numCores, library.known_gpu(device)?.cores().ok_or(nvmlReturn_t::NOT_SUPPORTED)?)
    }

    fn nvmlDeviceIsMigDeviceHandle(device: nvmlDevice_t, isMigDevice: *mut u32) |library| {
        library.known_gpu(device)?;
        put(isMigDevice, 0)
    }

    fn nvmlDeviceGetMaxMigDeviceCount(device: nvmlDevice_t, count: *mut u32) |library| {
        library.known_gpu(device)?;
        put(count, 0)
    }

    fn nvmlDeviceGetMigMode(device: nvmlDevice_t, currentMode: *mut u32, pendingMode: *mut u32) |library| {
        let mode = u32::from(library.known_gpu(device)?.mig.ok_or(nvmlReturn_t::NOT_SUPPORTED)?);
        put(currentMode, mode)?;
        put(pendingMode, mode)
    }

    fn nvmlDeviceGetVirtualizationMode(device: nvmlDevice_t, pVirtualMode: *mut nvmlGpuVirtualizationMode_t) |library| {
        library.known_gpu(device)?;
        put(pVirtualMode, NVML_GPU_VIRTUALIZATION_MODE_NONE)
    }
}

fn count(library: &Library) -> Answer<u32> {
    u32::try_from(library.known()?.gpus.len()).map_err(|_| nvmlReturn_t::UNKNOWN)
}

fn by_index(library: &Library, index: u32) -> Answer<nvmlDevice_t> {
    let known = library.known()?;
    let index = usize::try_from(index).map_err(|_| nvmlReturn_t::INVALID_ARGUMENT)?;
    if index < known.gpus.len() { Ok(handle_of(index)) } else { Err(nvmlReturn_t::INVALID_ARGUMENT) }
}

fn by_uuid(library: &Library, uuid: &str) -> Answer<nvmlDevice_t> {
    first_that(library, |gpu| gpu.uuid.eq_ignore_ascii_case(uuid))
}

fn by_address(library: &Library, address: &str) -> Answer<nvmlDevice_t> {
    let (domain, bus, device) = pci_numbers(address).ok_or(nvmlReturn_t::INVALID_ARGUMENT)?;
    let wanted = [domain, bus, device].map(i32::cast_unsigned);
    first_that(library, |gpu| [gpu.pci.0, gpu.pci.1, gpu.pci.2] == wanted)
}

fn first_that(library: &Library, is_it: impl Fn(&Gpu) -> bool) -> Answer<nvmlDevice_t> {
    let known = library.known()?;
    known.gpus.iter().position(is_it).map(handle_of).ok_or(nvmlReturn_t::NOT_FOUND)
}

fn number_of(library: &Library, device: nvmlDevice_t) -> Answer<u32> {
    library.known_gpu(device)?;
    u32::try_from(index_of(device)?).map_err(|_| nvmlReturn_t::UNKNOWN)
}

fn architecture(gpu: &Gpu) -> Answer<u32> {
    Ok(match gpu.capability {
        (5, _) => NVML_DEVICE_ARCH_MAXWELL,
        (6, _) => NVML_DEVICE_ARCH_PASCAL,
        (7, 5) => NVML_DEVICE_ARCH_TURING,
        (7, _) => NVML_DEVICE_ARCH_VOLTA,
        (8, 9) => NVML_DEVICE_ARCH_ADA,
        (8, _) => NVML_DEVICE_ARCH_AMPERE,
        (9, _) => NVML_DEVICE_ARCH_HOPPER,
        (10..=12, _) => NVML_DEVICE_ARCH_BLACKWELL,
        _ => return Err(nvmlReturn_t::NOT_SUPPORTED),
    })
}

fn pci_info(gpu: &Gpu) -> nvmlPciInfo_t {
    let (domain, bus, device) = gpu.pci;
    nvmlPciInfo_t {
        busIdLegacy: fill(&gpu.pci_legacy_text()),
        domain,
        bus,
        device,
        // Vendor's numbers of the board: nobody tells them.
        pciDeviceId: 0,
        pciSubSystemId: 0,
        busId: fill(&gpu.pci_text()),
    }
}

/// Writes the first bytes of the structure, which an older version of it has in common with it.
///
/// # Safety
/// `place` is null or has `bytes` writable bytes.
unsafe fn put_beginning(info: &nvmlPciInfo_t, place: *mut nvmlPciInfo_t, bytes: usize) -> Answer {
    if place.is_null() {
        return Err(nvmlReturn_t::INVALID_ARGUMENT);
    }
    // SAFETY: not null, and the caller has room for so many bytes; they do not overlap ours.
    unsafe { std::ptr::copy_nonoverlapping((&raw const *info).cast::<u8>(), place.cast::<u8>(), bytes) };
    Ok(())
}
