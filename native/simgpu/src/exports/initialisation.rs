//! Start, version, errors, and finding functions and private tables.

use std::ffi::{CStr, c_char, c_void};

use cuda_abi::export_tables::{self, ExportHost};
use cuda_abi::proc_address::{Lookup, look_up};
use cuda_abi::{CUdriverProcAddressQueryResult, CUresult, CUuuid};

use crate::config::log;
use crate::device::{self, DRIVER_VERSION};
use crate::guard::{Answer, call_any_time, initialise, put, put_optional};
use crate::jit::Logs;
use crate::module::{Code, MODULES, Module};
use crate::{attributes, context};
use graph::handle;

const SYMBOL_FOUND: CUdriverProcAddressQueryResult = 0;
const SYMBOL_NOT_FOUND: CUdriverProcAddressQueryResult = 1;
const VERSION_NOT_SUFFICIENT: CUdriverProcAddressQueryResult = 2;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuInit(Flags: u32) -> CUresult {
    call_any_time(|| {
        if Flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        initialise(|| {
            device::initialise()?;
            install_export_host();
            quiet_panics();
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(driverVersion: *mut i32) -> CUresult {
    // SAFETY: by contract null or a number's place.
    call_any_time(|| unsafe { put(driverVersion, DRIVER_VERSION) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(error: CUresult, pStr: *mut *const c_char) -> CUresult {
    // SAFETY: by contract null or a pointer's place.
    call_any_time(|| unsafe { put_text(error.name(), pStr) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(error: CUresult, pStr: *mut *const c_char) -> CUresult {
    // SAFETY: by contract null or a pointer's place.
    call_any_time(|| unsafe { put_text(error.description(), pStr) })
}

/// # Safety
/// `out` is null or a pointer's place.
unsafe fn put_text(text: Option<&'static CStr>, out: *mut *const c_char) -> Answer {
    // SAFETY: the caller promises it.
    unsafe { put(out, text.map_or(std::ptr::null(), CStr::as_ptr)) }?;
    text.map(|_| ()).ok_or(CUresult::INVALID_VALUE)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetProcAddress(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    cudaVersion: i32,
    flags: u64,
) -> CUresult {
    // SAFETY: the caller keeps the same contract.
    unsafe { cuGetProcAddress_v2(symbol, pfn, cudaVersion, flags, std::ptr::null_mut()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetProcAddress_v2(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    cudaVersion: i32,
    flags: u64,
    symbolStatus: *mut CUdriverProcAddressQueryResult,
) -> CUresult {
    call_any_time(|| {
        if symbol.is_null() || pfn.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: by contract a NUL-terminated name.
        let name = unsafe { CStr::from_ptr(symbol) }.to_string_lossy();
        let (status, address) = match look_up(&name, cudaVersion, flags) {
            Lookup::Found(found) => match crate::generated::symbols::address_of(found) {
                Some(address) => (SYMBOL_FOUND, address.cast_mut()),
                None => (SYMBOL_NOT_FOUND, std::ptr::null_mut()),
            },
            Lookup::VersionNotSufficient => (VERSION_NOT_SUFFICIENT, std::ptr::null_mut()),
            Lookup::NotFound => (SYMBOL_NOT_FOUND, std::ptr::null_mut()),
        };
        // SAFETY: by contract null or places for their values.
        unsafe {
            put(pfn, address)?;
            put_optional(symbolStatus, status);
        }
        // A caller without a place for the status learns of a miss by the result.
        if status != SYMBOL_FOUND && symbolStatus.is_null() { Err(CUresult::NOT_FOUND) } else { Ok(()) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetExportTable(
    ppExportTable: *mut *const c_void,
    pExportTableId: *const CUuuid,
) -> CUresult {
    call_any_time(|| {
        if pExportTableId.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: not null, and by contract a UUID.
        let uuid = unsafe { (*pExportTableId).bytes };
        let table = export_tables::find(&uuid).ok_or(CUresult::NOT_SUPPORTED)?;
        // SAFETY: by contract null or a pointer's place.
        unsafe { put(ppExportTable, table) }
    })
}

/// A panic of ours becomes a result; the program's stderr is not the place for its text. The hook is that of the
/// standard library inside this library, nobody else's.
fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| log(|| panic.to_string()))));
}

fn install_export_host() {
    fn pointer(handle: usize) -> *mut c_void {
        std::ptr::with_exposed_provenance_mut(handle)
    }
    export_tables::install(ExportHost {
        driver_version: || u32::try_from(DRIVER_VERSION).ok(),
        devices: || device::devices().iter().map(device::Device::identity).collect(),
        current_context: || pointer(context::top().map_or(0, |entry| entry.handle().0)),
        primary_context: |ordinal| {
            let device = device::device(ordinal).map_err(|error| error.0)?;
            context::primary(device, false).map(|context| pointer(context.handle())).map_err(|error| error.0)
        },
        module_from_fatbin: |image| {
            let load = || {
                let context = context::current()?;
                // SAFETY: the runtime passes an image of its own program.
                let code = unsafe { Code::load(image, &Logs::NONE) }?;
                let module = Module::bind(&code, &context)?;
                MODULES.insert(&module);
                Ok(pointer(handle(&module)))
            };
            load().map_err(|error: CUresult| error.0)
        },
        create_context: |flags, ordinal| {
            let create = || {
                let context = context::Context::create(device::device(ordinal)?, flags, false, 3020)?;
                context::push(context::Entry::Created(std::sync::Arc::clone(&context)));
                Ok(pointer(context.handle()))
            };
            create().map_err(|error: CUresult| error.0)
        },
        device_attribute: |attribute, ordinal| {
            let device = device::device(ordinal).map_err(|error| error.0)?;
            attributes::attribute(device, attribute).ok_or(CUresult::INVALID_VALUE.0)
        },
        refused: |uuid| log(|| format!("refused the private table {}", export_tables::uuid_text(uuid))),
    });
}

/// Free and total bytes of a device over all processes, without a context: for the inventory of a server.
///
/// # Safety
/// `free` and `total` are null or places for numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn farpoolSimgpuMemoryInfo(ordinal: i32, free: *mut u64, total: *mut u64) -> i32 {
    call_any_time(|| {
        device::initialise()?;
        let (free_bytes, total_bytes) = device::memory_info(device::device(ordinal)?);
        // SAFETY: by contract null or places for numbers.
        unsafe {
            put_optional(free, free_bytes);
            put_optional(total, total_bytes);
        }
        Ok(())
    })
    .0
}

/// Bytes of a device that this process uses: what a worker's contexts and allocations cost.
///
/// # Safety
/// `used` is null or a place for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn farpoolSimgpuProcessMemory(ordinal: i32, used: *mut u64) -> i32 {
    call_any_time(|| {
        device::initialise()?;
        let bytes = crate::accounting::used_by_this_process(device::device(ordinal)?.physical);
        // SAFETY: by contract null or a place for a number.
        unsafe { put_optional(used, bytes) };
        Ok(())
    })
    .0
}
