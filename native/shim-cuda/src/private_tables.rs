//! The private tables of `cuGetExportTable`, answered from the client's state. The tables themselves are
//! shared with the simulated GPU and live in `cuda-abi`.

use std::ffi::{c_int, c_uint, c_void};

use cuda_abi::export_tables::{self, ExportHost};
use cuda_abi::integrity::DeviceIdentity;
use cuda_abi::pci::pci_numbers;
use wire::handle::Handle;

use crate::client::Client;
use crate::context;
use crate::entry::Answer;
use crate::exports::{self};
use crate::jit::JitOptions;
use crate::{report, servers, state};

/// Installs the tables; every call but the first does nothing.
pub fn install() {
    export_tables::install(ExportHost {
        driver_version,
        devices,
        current_context,
        primary_context,
        module_from_fatbin,
        create_context,
        device_attribute,
        refused,
    });
}

fn driver_version() -> Option<u32> {
    u32::try_from(state::found().ok()?.driver_version).ok()
}

fn devices() -> Vec<DeviceIdentity> {
    let Ok(found) = state::found() else { return Vec::new() };
    let identity = |device: &crate::device::Device| {
        let (pci_domain, pci_bus, pci_device) = pci_numbers(&device.snapshot.pci_bus_id).unwrap_or_default();
        DeviceIdentity { uuid: device.snapshot.uuid, pci_domain, pci_bus, pci_device }
    };
    found.devices.iter().map(identity).collect()
}

fn current_context() -> *mut c_void {
    context::current().map_or(std::ptr::null_mut(), pointer)
}

fn primary_context(device: c_int) -> Result<*mut c_void, c_int> {
    let known = |found: &crate::found::Found| Ok(found.contexts.primary_handle(found.devices.index(device)?));
    state::found().and_then(known).map(pointer).map_err(|code| code.0)
}

fn module_from_fatbin(image: *const c_void) -> Result<*mut c_void, c_int> {
    with_client(|client| {
        // SAFETY: the runtime passes the image of a program, as it would to cuModuleLoadData.
        unsafe { exports::load_module(client, image, &mut JitOptions::none()) }
    })
    .map(pointer)
}

fn create_context(flags: c_uint, device: c_int) -> Result<*mut c_void, c_int> {
    with_client(|client| exports::create(servers::with_device(client, device)?, flags, device)).map(pointer)
}

fn device_attribute(attribute: c_int, device: c_int) -> Result<c_int, c_int> {
    let known = |found: &crate::found::Found| {
        found.devices.get(device)?.attribute(attribute).ok_or(cuda_abi::CUresult::INVALID_VALUE)
    };
    state::found().and_then(known).map_err(|code| code.0)
}

/// Asked for by CUDA 13.0's runtime before `cuInit`; its refusal is expected and harmless.
const BEFORE_INITIALISATION: [u8; 16] =
    [0xf8, 0xcf, 0xf9, 0x51, 0x21, 0x46, 0x8b, 0x4e, 0xb9, 0xe2, 0xfb, 0x46, 0x9e, 0x7c, 0x0d, 0xd9];

fn refused(uuid: &[u8; 16]) {
    if *uuid == BEFORE_INITIALISATION {
        return;
    }
    report::once(&format!("cuGetExportTable {} is not known to Farpool", export_tables::uuid_text(uuid)));
}

fn with_client<T>(body: impl FnOnce(&'static Client) -> Answer<T>) -> Result<T, c_int> {
    state::client().and_then(body).map_err(|code| code.0)
}

fn pointer<H: Handle>(handle: H) -> *mut c_void {
    // Only 64-bit programs load this library.
    std::ptr::without_provenance_mut(usize::try_from(handle.raw()).unwrap_or(0))
}
