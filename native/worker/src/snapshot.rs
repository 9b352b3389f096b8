//! The device snapshot that a client gets at its start and answers queries from.

use std::ffi::{CStr, c_char};

use cuda_abi::{CUresult, CUuuid};
use driver::Driver;
use wire::handshake::{DeviceSnapshot, Welcome, Window};

use crate::worker::Worker;

/// Attribute numbers end below this in CUDA 13.0; asking for one that a driver does not know is harmless.
const ATTRIBUTES: i32 = 160;

/// `CU_DEVICE_ATTRIBUTE_*` numbers whose value differs for a client: what is not remoted is not promised.
mod withheld {
    use cuda_abi as abi;

    /// Attributes that are 0 for a client whatever the device says.
    pub const ZERO: &[i32] = &[
        abi::CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY,
        abi::CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY,
        abi::CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS,
        abi::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS,
        abi::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES,
        abi::CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST,
        abi::CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED,
        abi::CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM,
        abi::CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES,
        abi::CU_DEVICE_ATTRIBUTE_HOST_MEMORY_POOLS_SUPPORTED,
        abi::CU_DEVICE_ATTRIBUTE_HOST_NUMA_MEMORY_POOLS_SUPPORTED,
        abi::CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
        abi::CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED,
        abi::CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED,
        abi::CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED,
    ];
}

/// Takes the snapshot, and agrees on the client's window.
pub fn take(worker: &Worker, server_name: &str, proposed: Window) -> Result<Welcome, CUresult> {
    let driver = &worker.driver;
    let count = device_count(driver)?;
    let mut devices = Vec::new();
    for ordinal in 0..count {
        let mut device = describe(driver, ordinal)?;
        if let Some(limit) = usize::try_from(ordinal).ok().and_then(|index| worker.memory.limit(index)) {
            device.total_memory = device.total_memory.min(limit);
        }
        device.peers =
            (0..count).map(|other| other != ordinal && can_access(driver, ordinal, other)).collect();
        devices.push(device);
    }
    let (window, granularity) = match proposed.length {
        0 => (Window::default(), 0),
        _ => worker.mapped.agree(proposed, count),
    };
    let (server, driver_version) = (server_name.to_owned(), driver_version(driver)?);
    Ok(Welcome { server, driver_version, devices, window, granularity })
}

/// Number of devices.
pub fn device_count(driver: &Driver) -> Result<i32, CUresult> {
    let mut count = 0;
    // SAFETY: `count` is a valid place for the answer.
    unsafe { driver.cuDeviceGetCount(&raw mut count) }.into_result()?;
    Ok(count)
}

/// The driver's CUDA version, 13000 for 13.0.
pub fn driver_version(driver: &Driver) -> Result<i32, CUresult> {
    let mut version = 0;
    // SAFETY: `version` is a valid place for the answer.
    unsafe { driver.cuDriverGetVersion(&raw mut version) }.into_result()?;
    Ok(version)
}

/// What the driver says about device `ordinal`, and what is promised of it to clients; `peers` is left empty.
pub fn describe(driver: &Driver, ordinal: i32) -> Result<DeviceSnapshot, CUresult> {
    let mut device = 0;
    let mut name = [0; 256];
    let mut uuid = CUuuid { bytes: [0; 16] };
    let mut total: usize = 0;
    let mut pci = [0; 64];
    // SAFETY: every pointer leads to a local of the size that is passed along or that the call requires.
    unsafe {
        driver.cuDeviceGet(&raw mut device, ordinal).into_result()?;
        driver.cuDeviceGetName(name.as_mut_ptr(), 256, device).into_result()?;
        driver.cuDeviceGetUuid_v2(&raw mut uuid, device).into_result()?;
        driver.cuDeviceTotalMem_v2(&raw mut total, device).into_result()?;
        driver.cuDeviceGetPCIBusId(pci.as_mut_ptr(), 64, device).into_result()?;
    }
    let mut attributes = Vec::new();
    for attribute in 1..ATTRIBUTES {
        let mut value = 0;
        // SAFETY: `value` is a valid place; an unknown attribute is answered with an error.
        let result = unsafe { driver.cuDeviceGetAttribute(&raw mut value, attribute, device) };
        if result == CUresult::SUCCESS {
            attributes.push((attribute, if withheld::ZERO.contains(&attribute) { 0 } else { value }));
        }
    }
    Ok(DeviceSnapshot {
        name: text(&name),
        uuid: uuid.bytes,
        total_memory: total as u64,
        pci_bus_id: text(&pci),
        attributes,
        peers: Vec::new(),
    })
}

fn can_access(driver: &Driver, device: i32, peer: i32) -> bool {
    let mut answer = 0;
    // SAFETY: `answer` is a valid place; both devices exist.
    let result = unsafe { driver.cuDeviceCanAccessPeer(&raw mut answer, device, peer) };
    result == CUresult::SUCCESS && answer != 0
}

/// The text in a buffer that the driver terminated with NUL.
fn text(buffer: &[c_char]) -> String {
    let bytes: Vec<u8> = buffer.iter().map(|byte| byte.cast_unsigned()).collect();
    CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}
