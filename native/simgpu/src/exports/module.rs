//! Modules.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;

use cuda_abi::fatbin::{HEADER_MAGIC, ImageKind};
use cuda_abi::{CUdeviceptr, CUfunction, CUjit_option, CUmodule, CUmoduleLoadingMode, CUresult};

use crate::config::config;
use crate::context::current;
use crate::guard::{Answer, exports, put, put_optional};
use crate::jit::Logs;
use crate::module::{Code, MODULES, Module, module};
use graph::handle;

/// Lazy loading.
const LAZY: CUmoduleLoadingMode = 2;

/// A C string of the program.
///
/// # Safety
/// `text` is null or NUL-terminated.
pub(super) unsafe fn text_of(text: *const c_char) -> Answer<String> {
    if text.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller promises the NUL.
    Ok(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// Reads an image from a file.
///
/// # Safety
/// `path` is null or NUL-terminated; the logs are as for [`Logs::write`].
pub(super) unsafe fn code_of_file(path: *const c_char, logs: &Logs) -> Answer<Arc<Code>> {
    // SAFETY: the caller promises it.
    let path = unsafe { text_of(path) }?;
    let bytes = std::fs::read(path).map_err(|_| CUresult::FILE_NOT_FOUND)?;
    let kind = match bytes.first_chunk::<4>() {
        Some(b"\x7fELF") => ImageKind::Elf,
        Some(magic) if *magic == HEADER_MAGIC.to_le_bytes() => ImageKind::Fatbin,
        _ => ImageKind::Ptx,
    };
    // SAFETY: the caller promises it.
    unsafe { Code::load_bytes(kind, &bytes, logs) }
}

/// Either place of a variable's address and size may be left out, not both.
pub(super) fn needs_place(address: *mut CUdeviceptr, bytes: *mut usize) -> Answer {
    if address.is_null() && bytes.is_null() { Err(CUresult::INVALID_VALUE) } else { Ok(()) }
}

fn bind(code: &Arc<Code>) -> Answer<CUmodule> {
    let module = Module::bind(code, &current()?)?;
    Ok(CUmodule(MODULES.insert(&module)))
}

exports! {
    fn cuModuleLoadData(module: *mut CUmodule, image: *const c_void) {
        if module.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        current()?;
        put(module, bind(&Code::load(image, &Logs::NONE)?)?)
    }

    fn cuModuleLoadDataEx(
        module: *mut CUmodule, image: *const c_void, numOptions: u32, options: *mut CUjit_option,
        optionValues: *mut *mut c_void,
    ) {
        if module.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        current()?;
        let logs = Logs::read(numOptions, options, optionValues)?;
        put(module, bind(&Code::load(image, &logs)?)?)
    }

    fn cuModuleLoadFatBinary(module: *mut CUmodule, fatCubin: *const c_void) {
        cuModuleLoadData(module, fatCubin).into_result()
    }

    fn cuModuleLoad(module: *mut CUmodule, fname: *const c_char) {
        if module.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        current()?;
        put(module, bind(&code_of_file(fname, &Logs::NONE)?)?)
    }

    fn cuModuleUnload(hmod: CUmodule) {
        let module = module(hmod)?;
        // Programs have seen NVIDIA's driver answer the error that ended the context here, too.
        module.context.check()?;
        if config().unkind.free_waits {
            let _ = module.context.synchronize();
        }
        module.unload();
        Ok(())
    }

    fn cuModuleGetLoadingMode(mode: *mut CUmoduleLoadingMode) {
        put(mode, LAZY)
    }

    fn cuModuleGetFunction(hfunc: *mut CUfunction, hmod: CUmodule, name: *const c_char) {
        let module = module(hmod)?;
        module.context.check()?;
        let (index, kernel) = module.code.find(&text_of(name)?).ok_or(CUresult::NOT_FOUND)?;
        if kernel.unsupported.is_some() {
            return Err(CUresult::NOT_SUPPORTED);
        }
        let function = module.function(index).ok_or(CUresult::NOT_FOUND)?;
        put(hfunc, CUfunction(handle(&function)))
    }

    fn cuModuleGetFunctionCount(count: *mut u32, r#mod: CUmodule) {
        put(count, u32::try_from(module(r#mod)?.code.names.len()).unwrap_or(0))
    }

    fn cuModuleEnumerateFunctions(functions: *mut CUfunction, numFunctions: u32, r#mod: CUmodule) {
        let module = module(r#mod)?;
        let count = module.code.names.len().min(numFunctions as usize);
        if functions.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        for index in 0..count {
            let function = module.function(index).ok_or(CUresult::NOT_FOUND)?;
            put(functions.add(index), CUfunction(handle(&function)))?;
        }
        Ok(())
    }

    fn cuModuleGetGlobal_v2(dptr: *mut CUdeviceptr, bytes: *mut usize, hmod: CUmodule, name: *const c_char) {
        let name = text_of(name)?;
        needs_place(dptr, bytes)?;
        let module = module(hmod)?;
        module.context.check()?;
        let (address, size, _) = module.global(&name).ok_or(CUresult::NOT_FOUND)?;
        put_optional(dptr, address);
        put_optional(bytes, size as usize);
        Ok(())
    }
}
