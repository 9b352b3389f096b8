//! Devices, answered from the snapshot.

use std::ffi::{c_char, c_int};

use cuda_abi::pci::pci_numbers;
use cuda_abi::{
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, CUdevice,
    CUdevice_P2PAttribute, CUdevice_attribute, CUdevprop, CUresult, CUuuid,
};

use crate::client::Client;
use crate::convert::{out, text};
use crate::device::Device;
use crate::entry::Answer;
use crate::servers;

/// `CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED`.
const ACCESS_SUPPORTED: CUdevice_P2PAttribute = 2;

exports! {
    fn cuDeviceGetCount(count: *mut c_int) enter_found |found| {
        *out(count)? = c_int::try_from(found.devices.count()).map_err(|_| CUresult::UNKNOWN)?;
        Ok(())
    }

    fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int) enter_found |found| {
        let place = out(device)?;
        found.devices.get(ordinal)?;
        *place = ordinal;
        Ok(())
    }

    fn cuDeviceGetName(name: *mut c_char, len: c_int, dev: CUdevice) enter_found |found| {
        copy_text(&found.devices.get(dev)?.snapshot.name, name, len)
    }

    fn cuDeviceGetUuid_v2(uuid: *mut CUuuid, dev: CUdevice) enter_found |found| {
        let device = found.devices.get(dev)?;
        out(uuid)?.bytes = device.snapshot.uuid;
        Ok(())
    }

    fn cuDeviceTotalMem_v2(bytes: *mut usize, dev: CUdevice) enter_found |found| {
        let device = found.devices.get(dev)?;
        *out(bytes)? = usize::try_from(device.snapshot.total_memory).map_err(|_| CUresult::UNKNOWN)?;
        Ok(())
    }

    fn cuDeviceGetAttribute(pi: *mut c_int, attrib: CUdevice_attribute, dev: CUdevice) enter_found |found| {
        let place = out(pi)?;
        *place = found.devices.get(dev)?.attribute(attrib).ok_or(CUresult::INVALID_VALUE)?;
        Ok(())
    }

    fn cuDeviceComputeCapability(major: *mut c_int, minor: *mut c_int, dev: CUdevice) enter_found |found| {
        let device = found.devices.get(dev)?;
        *out(major)? = attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        *out(minor)? = attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        Ok(())
    }

    fn cuDeviceGetPCIBusId(pciBusId: *mut c_char, len: c_int, dev: CUdevice) enter_found |found| {
        copy_text(&found.devices.get(dev)?.snapshot.pci_bus_id, pciBusId, len)
    }

    fn cuDeviceGetByPCIBusId(dev: *mut CUdevice, pciBusId: *const c_char) enter_found |found| {
        let place = out(dev)?;
        let wanted = text(pciBusId)?.to_str().ok().and_then(pci_numbers).ok_or(CUresult::INVALID_DEVICE)?;
        let found = found.devices.iter().position(|device| pci_numbers(&device.snapshot.pci_bus_id) == Some(wanted));
        *place = found.and_then(|index| c_int::try_from(index).ok()).ok_or(CUresult::INVALID_DEVICE)?;
        Ok(())
    }

    fn cuDeviceGetProperties(prop: *mut CUdevprop, dev: CUdevice) enter_found |found| {
        use cuda_abi as abi;
        let device = found.devices.get(dev)?;
        let place = out(prop)?;
        *place = CUdevprop {
            maxThreadsPerBlock: attribute(device, abi::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
            maxThreadsDim: [
                attribute(device, abi::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X)?,
                attribute(device, abi::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y)?,
                attribute(device, abi::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z)?,
            ],
            maxGridSize: [
                attribute(device, abi::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X)?,
                attribute(device, abi::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y)?,
                attribute(device, abi::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z)?,
            ],
            sharedMemPerBlock: attribute(device, abi::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK)?,
            totalConstantMemory: attribute(device, abi::CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY)?,
            SIMDWidth: attribute(device, abi::CU_DEVICE_ATTRIBUTE_WARP_SIZE)?,
            memPitch: attribute(device, abi::CU_DEVICE_ATTRIBUTE_MAX_PITCH)?,
            regsPerBlock: attribute(device, abi::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK)?,
            clockRate: attribute(device, abi::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?,
            textureAlign: attribute(device, abi::CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT)?,
        };
        Ok(())
    }

    fn cuDeviceCanAccessPeer(canAccessPeer: *mut c_int, dev: CUdevice, peerDev: CUdevice) enter_local |client| {
        let place = out(canAccessPeer)?;
        *place = c_int::from(peer_access(client, client.devices.get(dev)?, client.devices.get(peerDev)?));
        Ok(())
    }

    fn cuDeviceGetP2PAttribute(
        value: *mut c_int,
        attrib: CUdevice_P2PAttribute,
        srcDevice: CUdevice,
        dstDevice: CUdevice,
    ) enter_local |client| {
        let place = out(value)?;
        let (source, destination) = (client.devices.get(srcDevice)?, client.devices.get(dstDevice)?);
        if srcDevice == dstDevice {
            return Err(CUresult::INVALID_DEVICE);
        }
        // Links, atomics and arrays between GPUs are not promised to a client.
        *place = c_int::from(attrib == ACCESS_SUPPORTED && peer_access(client, source, destination));
        Ok(())
    }
}

fn attribute(device: &Device, number: CUdevice_attribute) -> Answer<c_int> {
    device.attribute(number).ok_or(CUresult::UNKNOWN)
}

fn peer_access(client: &'static Client, device: &Device, peer: &Device) -> bool {
    let known = |ordinal: c_int| usize::try_from(ordinal).ok();
    if device.server != peer.server {
        return false;
    }
    let client = servers::other(client, device.server);
    known(device.session_ordinal)
        .and_then(|ordinal| client.peers.get(ordinal))
        .zip(known(peer.session_ordinal))
        .and_then(|(reached, ordinal)| reached.get(ordinal).copied())
        .unwrap_or(false)
}

/// Copies `value` into a buffer of `length` bytes, cut if need be, always terminated.
///
/// # Safety
/// `buffer` is null or has `length` writable bytes.
unsafe fn copy_text(value: &str, buffer: *mut c_char, length: c_int) -> Answer {
    let length = usize::try_from(length).map_err(|_| CUresult::INVALID_VALUE)?;
    if buffer.is_null() || length == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null, and `length` bytes by the caller's promise.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    let bytes = value.as_bytes();
    let count = bytes.len().min(length - 1);
    for (place, byte) in buffer.iter_mut().zip(&bytes[..count]) {
        *place = byte.cast_signed();
    }
    buffer[count] = 0;
    Ok(())
}
