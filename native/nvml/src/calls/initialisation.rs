//! Start and end.

use std::ffi::{c_char, c_void};

use super::put;
use crate::{NVML_INIT_FLAG_NO_GPUS, nvmlReturn_t};

calls! {
    fn nvmlInit() |library| { library.start(true) }

    fn nvmlInit_v2() |library| { library.start(true) }

    fn nvmlInitWithFlags(flags: u32) |library| { library.start(flags & NVML_INIT_FLAG_NO_GPUS == 0) }

    fn nvmlShutdown() |library| { library.stop() }

    fn nvmlInternalGetExportTable(exportTable: *mut *const c_void, exportTableId: *const c_void) |_| {
        if exportTableId.is_null() {
            return Err(nvmlReturn_t::INVALID_ARGUMENT);
        }
        put(exportTable, std::ptr::null())?;
        Err(nvmlReturn_t::NOT_SUPPORTED)
    }
}

/// `nvmlErrorString`: works before anything else does.
#[allow(non_snake_case, reason = "NVML's name")]
pub fn nvmlErrorString(_: &crate::Library, result: nvmlReturn_t) -> *const c_char {
    result.description().unwrap_or(c"Unknown Error").as_ptr()
}
