//! Start, versions, error texts, and the look-up of functions.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use cuda_abi::proc_address::{Lookup, look_up};
use cuda_abi::{CUdriverProcAddressQueryResult, CUresult, CUuuid};

use crate::convert::{out, text, write_if};
use crate::entry::Answer;
use crate::{aside, connect, state};

const FOUND: CUdriverProcAddressQueryResult = 0;
const SYMBOL_NOT_FOUND: CUdriverProcAddressQueryResult = 1;
const VERSION_NOT_SUFFICIENT: CUdriverProcAddressQueryResult = 2;

exports! {
    fn cuInit(flags: c_uint) guard |()| {
        if flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        if let Some(local) = aside::local(c"cuInit") {
            return init_locally(local, flags);
        }
        crate::private_tables::install();
        state::initialise().or_else(|code| match aside::find(c"cuInit") {
            Some(local) => init_locally(local, flags),
            None => Err(code),
        })
    }

    fn cuDriverGetVersion(driverVersion: *mut c_int) guard |()| {
        if let Some(local) = aside::local(c"cuDriverGetVersion") {
            // SAFETY: the driver's function of this name has this signature.
            let local: cuda_abi::PFN_cuDriverGetVersion = std::mem::transmute(local);
            return local(driverVersion).into_result();
        }
        // Asked before cuInit, when no server is known yet: then the shim's own.
        let version = state::found().map_or(connect::SHIM_DRIVER_VERSION, |found| found.driver_version);
        *out(driverVersion)? = version;
        Ok(())
    }

    fn cuGetErrorName(error: CUresult, pStr: *mut *const c_char) guard |()| {
        answer_text(error.name(), out(pStr)?)
    }

    fn cuGetErrorString(error: CUresult, pStr: *mut *const c_char) guard |()| {
        answer_text(error.description(), out(pStr)?)
    }

    fn cuGetExportTable(ppExportTable: *mut *const c_void, pExportTableId: *const CUuuid) guard |()| {
        if let Some(local) = aside::local(c"cuGetExportTable") {
            // SAFETY: as above.
            let local: cuda_abi::PFN_cuGetExportTable = std::mem::transmute(local);
            return local(ppExportTable, pExportTableId).into_result();
        }
        let id = pExportTableId.as_ref().ok_or(CUresult::INVALID_VALUE)?;
        let place = out(ppExportTable)?;
        crate::private_tables::install();
        let uuid = id.bytes;
        *place = cuda_abi::export_tables::find(&uuid).ok_or(CUresult::NOT_FOUND)?;
        Ok(())
    }

    fn cuGetProcAddress(
        symbol: *const c_char,
        pfn: *mut *mut c_void,
        cudaVersion: c_int,
        flags: u64,
    ) guard |()| {
        if let Some(local) = aside::local(c"cuGetProcAddress") {
            // SAFETY: as above.
            let local: cuda_abi::PFN_cuGetProcAddress = std::mem::transmute(local);
            return local(symbol, pfn, cudaVersion, flags).into_result();
        }
        let mut status = FOUND;
        find(symbol, pfn, cudaVersion, flags, &raw mut status)?;
        // Later versions of this call say it with the status alone.
        if status == FOUND { Ok(()) } else { Err(CUresult::NOT_FOUND) }
    }

    fn cuGetProcAddress_v2(
        symbol: *const c_char,
        pfn: *mut *mut c_void,
        cudaVersion: c_int,
        flags: u64,
        symbolStatus: *mut CUdriverProcAddressQueryResult,
    ) guard |()| {
        if let Some(local) = aside::local(c"cuGetProcAddress_v2") {
            // SAFETY: as above.
            let local: cuda_abi::PFN_cuGetProcAddress_v2 = std::mem::transmute(local);
            return local(symbol, pfn, cudaVersion, flags, symbolStatus).into_result();
        }
        find(symbol, pfn, cudaVersion, flags, symbolStatus)
    }
}

/// # Safety
/// `local` is the driver's `cuInit`.
unsafe fn init_locally(local: *mut c_void, flags: c_uint) -> Answer {
    // SAFETY: the caller's promise.
    let local: cuda_abi::PFN_cuInit = unsafe { std::mem::transmute(local) };
    // SAFETY: as CUDA documents it.
    unsafe { local(flags) }.into_result()
}

fn answer_text(known: Option<&'static CStr>, place: &mut *const c_char) -> Answer {
    match known {
        Some(text) => {
            *place = text.as_ptr();
            Ok(())
        }
        None => {
            *place = std::ptr::null();
            Err(CUresult::INVALID_VALUE)
        }
    }
}

/// # Safety
/// As for `cuGetProcAddress`.
unsafe fn find(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    version: c_int,
    flags: u64,
    status: *mut CUdriverProcAddressQueryResult,
) -> Answer {
    // SAFETY: the caller's promise.
    let (name, place) = unsafe { (text(symbol)?, out(pfn)?) };
    let name = name.to_str().map_err(|_| CUresult::INVALID_VALUE)?;
    let (address, found) = match look_up(name, version, flags) {
        Lookup::Found(symbol) => (crate::generated::symbols::address_of(symbol), FOUND),
        Lookup::VersionNotSufficient => (None, VERSION_NOT_SUFFICIENT),
        Lookup::NotFound => (None, SYMBOL_NOT_FOUND),
    };
    *place = address.map_or(std::ptr::null_mut(), <*const c_void>::cast_mut);
    let found = if address.is_none() && found == FOUND { SYMBOL_NOT_FOUND } else { found };
    // SAFETY: the caller's promise.
    unsafe { write_if(status, found) };
    Ok(())
}
