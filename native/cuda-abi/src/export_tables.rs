//! The private tables that NVIDIA's own libraries ask for through `cuGetExportTable`.
//!
//! A runtime program does not start without some of them. Both our `libcuda.so.1` (the shim and the simulated
//! GPU) serve the same tables; what differs is behind [`ExportHost`], which a library installs once, before its
//! first call of [`find`]. A table is an array of pointer-sized slots; slot 0 is its size in bytes, except in the
//! table of context-local storage. Slots that nobody is known to call answer `CUDA_ERROR_NOT_SUPPORTED`.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::OnceLock;

use crate::integrity::DeviceIdentity;

pub mod context_local;
mod slots;

/// A `CUresult` as the number it is.
pub type RawResult = c_int;

pub(crate) const SUCCESS: RawResult = 0;
pub(crate) const INVALID_VALUE: RawResult = 1;
pub(crate) const NOT_INITIALIZED: RawResult = 3;
pub(crate) const INVALID_CONTEXT: RawResult = 201;
pub(crate) const INVALID_HANDLE: RawResult = 400;
pub(crate) const NOT_SUPPORTED: RawResult = 801;
pub(crate) const UNKNOWN: RawResult = 999;

/// What the tables need from the library that serves them. All functions may be called from any thread.
#[derive(Debug, Clone, Copy)]
pub struct ExportHost {
    /// What `cuDriverGetVersion` answers; `None` where it would fail.
    pub driver_version: fn() -> Option<u32>,
    /// All devices, exactly as the other calls describe them.
    pub devices: fn() -> Vec<DeviceIdentity>,
    /// The calling thread's current context, null if none.
    pub current_context: fn() -> *mut c_void,
    /// The primary context of a device, whether it is active or not, without changing the calling thread's current one
    /// (cudart-interface slot 2).
    pub primary_context: fn(device: c_int) -> Result<*mut c_void, RawResult>,
    /// Loads the fatbin (or its wrapper) at the address into the current context (slots 1, 6 and 8).
    pub module_from_fatbin: fn(image: *const c_void) -> Result<*mut c_void, RawResult>,
    /// Creates a context as `cuCtxCreate_v2` does.
    pub create_context: fn(flags: c_uint, device: c_int) -> Result<*mut c_void, RawResult>,
    /// One attribute of a device, as `cuDeviceGetAttribute` answers it.
    pub device_attribute: fn(attribute: c_int, device: c_int) -> Result<c_int, RawResult>,
    /// Told of each table that was asked for and refused.
    pub refused: fn(uuid: &[u8; 16]),
}

static HOST: OnceLock<ExportHost> = OnceLock::new();

/// Installs the library's side. The first call wins.
pub fn install(host: ExportHost) {
    let _ = HOST.set(host);
}

pub(crate) fn host() -> Option<&'static ExportHost> {
    HOST.get()
}

/// One slot of a table. Pointer-sized: a function or, in slot 0, the table's size.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) union Slot {
    pub(crate) size: usize,
    pub(crate) function: *const c_void,
}

// SAFETY: a slot is a number or the address of a function; both may be read from every thread.
unsafe impl Sync for Slot {}

/// Writes a UUID as the hexadecimal text in which it is known.
#[must_use]
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The table with this UUID, or `None` where the library refuses (then answer `CUDA_ERROR_NOT_SUPPORTED`).
///
/// The table asked for before `cuInit` (f8cff951…) is refused on purpose: an error is harmless there, a success
/// without the real table derails the start.
#[must_use]
pub fn find(uuid: &[u8; 16]) -> Option<*const c_void> {
    let table = slots::table(uuid);
    if table.is_none()
        && let Some(host) = host()
    {
        (host.refused)(uuid);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_written_in_groups() {
        let uuid =
            [0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a, 0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9];
        assert_eq!(uuid_text(&uuid), "6bd5fb6c-5bf4-e74a-8987-d93912fd9df9");
    }

    #[test]
    fn the_table_before_initialisation_is_refused() {
        let uuid =
            [0xf8, 0xcf, 0xf9, 0x51, 0x21, 0x46, 0x8b, 0x4e, 0xb9, 0xe2, 0xfb, 0x46, 0x9e, 0x7c, 0x0d, 0xd9];
        assert!(find(&uuid).is_none());
    }
}
