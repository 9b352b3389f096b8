//! Devices.

use std::ffi::{CStr, c_char};

use cuda_abi::pci::pci_numbers;
use cuda_abi::{
    CUarray_format, CUdevice, CUdevice_attribute, CUdevprop, CUexecAffinityType, CUresult, CUuuid,
};

use crate::attributes::attribute;
use crate::device::{device, devices};
use crate::guard::{Answer, exports, put, put_optional};

/// # Safety
/// `out` has room for `length` bytes.
unsafe fn put_text(text: &str, out: *mut c_char, length: i32) -> Answer {
    let capacity = usize::try_from(length)
        .ok()
        .filter(|length| *length > 0 && !out.is_null())
        .ok_or(CUresult::INVALID_VALUE)?;
    let length = text.len().min(capacity - 1);
    // SAFETY: `length` and the NUL fit by the line above.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), out.cast(), length);
        out.add(length).write(0);
    }
    Ok(())
}

exports! {
    fn cuDeviceGetCount(count: *mut i32) {
        put(count, i32::try_from(devices().len()).unwrap_or(0))
    }

    fn cuDeviceGet(device: *mut CUdevice, ordinal: i32) {
        let found = crate::device::device(ordinal)?;
        put(device, found.ordinal)
    }

    fn cuDeviceGetName(name: *mut c_char, len: i32, dev: CUdevice) {
        device(dev)?;
        put_text(&crate::device::name(), name, len)
    }

    fn cuDeviceGetUuid(uuid: *mut CUuuid, dev: CUdevice) {
        put(uuid, CUuuid { bytes: device(dev)?.uuid })
    }

    fn cuDeviceGetUuid_v2(uuid: *mut CUuuid, dev: CUdevice) {
        put(uuid, CUuuid { bytes: device(dev)?.uuid })
    }

    fn cuDeviceTotalMem_v2(bytes: *mut usize, dev: CUdevice) {
        put(bytes, device(dev)?.total as usize)
    }

    fn cuDeviceGetAttribute(pi: *mut i32, attrib: CUdevice_attribute, dev: CUdevice) {
        let value = attribute(device(dev)?, attrib).ok_or(CUresult::INVALID_VALUE)?;
        put(pi, value)
    }

    fn cuDeviceGetProperties(prop: *mut CUdevprop, dev: CUdevice) {
        let device = device(dev)?;
        let of = |number| attribute(device, number).unwrap_or(0);
        put(prop, CUdevprop {
            maxThreadsPerBlock: of(1),
            maxThreadsDim: [of(2), of(3), of(4)],
            maxGridSize: [of(5), of(6), of(7)],
            sharedMemPerBlock: of(8),
            totalConstantMemory: of(9),
            SIMDWidth: of(10),
            memPitch: of(11),
            regsPerBlock: of(12),
            clockRate: of(13),
            textureAlign: of(14),
        })
    }

    fn cuDeviceComputeCapability(major: *mut i32, minor: *mut i32, dev: CUdevice) {
        device(dev)?;
        put(major, 8)?;
        put(minor, 0)
    }

    fn cuDeviceGetPCIBusId(pciBusId: *mut c_char, len: i32, dev: CUdevice) {
        put_text(&device(dev)?.pci_text(), pciBusId, len)
    }

    fn cuDeviceGetByPCIBusId(dev: *mut CUdevice, pciBusId: *const c_char) {
        if pciBusId.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let wanted = CStr::from_ptr(pciBusId).to_str().ok().and_then(pci_numbers);
        let found = devices().iter().find(|device| wanted.is_some() && pci_numbers(&device.pci_text()) == wanted);
        put(dev, found.ok_or(CUresult::INVALID_DEVICE)?.ordinal)
    }

    fn cuDeviceGetTexture1DLinearMaxWidth(
        maxWidthInElements: *mut usize, format: CUarray_format, numChannels: u32, dev: CUdevice,
    ) {
        let _ = (format, numChannels);
        device(dev)?;
        put(maxWidthInElements, 1 << 27)
    }

    fn cuDeviceGetExecAffinitySupport(pi: *mut i32, r#type: CUexecAffinityType, dev: CUdevice) {
        let _ = r#type;
        device(dev)?;
        put(pi, 0)
    }

    fn cuDeviceGetLuid(luid: *mut c_char, deviceNodeMask: *mut u32, dev: CUdevice) {
        device(dev)?;
        put_optional(luid.cast::<[u8; 8]>(), [0; 8]);
        put_optional(deviceNodeMask, 0);
        // Exists on Windows only.
        Err(CUresult::NOT_SUPPORTED)
    }
}
