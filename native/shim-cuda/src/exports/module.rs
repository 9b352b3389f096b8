//! Modules, their functions and variables.

use std::ffi::{CStr, c_char, c_uint, c_void};
use std::os::unix::ffi::OsStrExt as _;

use cuda_abi::fatbin::{Image, ImageError};
use cuda_abi::{CUdeviceptr, CUfunction, CUjit_option, CUmodule, CUmoduleLoadingMode, CUresult};
use wire::cuda;
use wire::handle::{Function, Handle, Module};

use crate::client::Client;
use crate::convert::{handle, opaque, out, text, write_if};
use crate::credit;
use crate::entry::Answer;
use crate::jit::JitOptions;
use crate::memory::RangeKind;
use crate::module::{Code, Found, UnitCode, Upload};

/// `CU_MODULE_EAGER_LOADING` and `CU_MODULE_LAZY_LOADING`.
const EAGER: CUmoduleLoadingMode = 1;
const LAZY: CUmoduleLoadingMode = 2;

exports! {
    fn cuModuleLoadData(module: *mut CUmodule, image: *const c_void) enter |client| {
        let place = out(module)?;
        *place = opaque(load(client, image, &mut JitOptions::none())?);
        Ok(())
    }

    fn cuModuleLoadDataEx(
        module: *mut CUmodule,
        image: *const c_void,
        numOptions: c_uint,
        options: *mut CUjit_option,
        optionValues: *mut *mut c_void,
    ) enter |client| {
        let place = out(module)?;
        let mut options = JitOptions::read(options, optionValues, numOptions)?;
        *place = opaque(load(client, image, &mut options)?);
        Ok(())
    }

    fn cuModuleLoadFatBinary(module: *mut CUmodule, fatCubin: *const c_void) enter |client| {
        let place = out(module)?;
        *place = opaque(load(client, fatCubin, &mut JitOptions::none())?);
        Ok(())
    }

    fn cuModuleLoad(module: *mut CUmodule, fname: *const c_char) enter |client| {
        let place = out(module)?;
        let file = read_file(text(fname)?)?;
        *place = opaque(load_bytes(client, file_image(&file)?, &mut JitOptions::none())?);
        Ok(())
    }

    fn cuModuleUnload(hmod: CUmodule) enter |client| {
        let module = handle(hmod)?;
        client.modules.check_unit(module.raw())?;
        let owner = client.modules.context_of(module);
        if let Some(owner) = owner {
            client.contexts.check_sticky_of(crate::client::index_of(owner))?;
        }
        client.ranges.forget_globals(&client.modules.remove_unit(module.raw()));
        client.post_anywhere(&cuda::CuModuleUnload { module })?;
        match owner {
            Some(owner) => {
                credit::driver_frees(client, owner);
                credit::settle_if_seen(client, owner)
            }
            None => credit::settle_all_if_seen(client),
        }
    }

    fn cuModuleGetFunction(hfunc: *mut CUfunction, hmod: CUmodule, name: *const c_char) enter |client| {
        let place = out(hfunc)?;
        let (module, name) = (handle(hmod)?, text(name)?);
        *place = opaque(function(client, module, name)?);
        Ok(())
    }

    fn cuModuleEnumerateFunctions(functions: *mut CUfunction, numFunctions: c_uint, r#mod: CUmodule) enter |client| {
        let module: Module = handle(r#mod)?;
        client.modules.check_unit(module.raw())?;
        if functions.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let code = client.modules.unit_code(module.raw()).ok_or(CUresult::NOT_SUPPORTED)?;
        for (index, name) in code.names.iter().take(numFunctions as usize).enumerate() {
            *functions.add(index) = opaque(function(client, module, name)?);
        }
        Ok(())
    }

    fn cuModuleGetGlobal_v2(
        dptr: *mut CUdeviceptr,
        bytes: *mut usize,
        hmod: CUmodule,
        name: *const c_char,
    ) enter |client| {
        let (module, name) = (handle(hmod)?, text(name)?);
        needs_place(dptr, bytes)?;
        let (address, size) = global(client, module.raw(), name, || {
            client.call(&cuda::CuModuleGetGlobalV2 { module, name: name.to_bytes() }).map(|reply| (reply.address, reply.size))
        })?;
        write_if(dptr, address);
        write_if(bytes, usize::try_from(size).map_err(|_| CUresult::UNKNOWN)?);
        Ok(())
    }

    fn cuModuleGetLoadingMode(mode: *mut CUmoduleLoadingMode) guard |()| {
        let eager = std::env::var("CUDA_MODULE_LOADING").is_ok_and(|value| value == "EAGER");
        *out(mode)? = if eager { EAGER } else { LAZY };
        Ok(())
    }
}

/// Either place of a variable's address and size may be left out, not both.
pub fn needs_place(address: *mut CUdeviceptr, bytes: *mut usize) -> Answer {
    if address.is_null() && bytes.is_null() { Err(CUresult::INVALID_VALUE) } else { Ok(()) }
}

/// Loads the image at `image` into the current context; also behind the private cudart table.
///
/// # Safety
/// As for `cuModuleLoadData`.
pub unsafe fn load(client: &Client, image: *const c_void, options: &mut JitOptions) -> Answer<Module> {
    client.contexts.current()?;
    // SAFETY: the caller's promise is `Image::locate`'s.
    unsafe { load_bytes(client, image_bytes(image)?, options) }
}

/// # Safety
/// The options' buffers are those that the program gave for this call.
unsafe fn load_bytes(client: &Client, bytes: &[u8], options: &mut JitOptions) -> Answer<Module> {
    let (context, _) = client.contexts.current()?;
    let upload = Upload::start(client, bytes)?;
    let module: Module = client.new_handle();
    let (code, reply) = client.call_with_code(&cuda::CuModuleLoadDataEx {
        module,
        blob: upload.blob,
        image: upload.inline,
        options: options.to_wire(),
    })?;
    // SAFETY: the buffers were given by the program with their sizes, for this call.
    unsafe { options.deliver(&reply.info_log, &reply.error_log) };
    code.into_result()?;
    client.modules.insert_unit(module.raw(), Some(context), UnitCode::read(&reply.code));
    Ok(module)
}

/// The function `name` of a module. Where the module's code is known, nobody waits: the record only binds the handle.
fn function(client: &Client, module: Module, name: &CStr) -> Answer<Function> {
    let found = client.modules.look_up(module.raw(), name)?;
    if let Found::Handle(known) = found {
        return Ok(Function::from_raw(known));
    }
    let function: Function = client.new_handle();
    let request = cuda::CuModuleGetFunction { module, function, name: name.to_bytes() };
    let (attributes, parameters) = if let Found::Described(description) = found {
        client.post_anywhere(&request)?;
        (description.attributes, description.parameters)
    } else {
        let reply = client.call(&request)?;
        (reply.attributes, reply.parameters)
    };
    let code = Code::new(name, Some(module), None, attributes, parameters);
    client.modules.insert_code(module.raw(), function.raw(), code);
    Ok(function)
}

/// The variable `name` of a module or library; asked for once per context.
pub fn global(
    client: &Client,
    unit: u64,
    name: &CStr,
    ask: impl FnOnce() -> Answer<(u64, u64)>,
) -> Answer<(u64, u64)> {
    client.modules.check_unit(unit)?;
    let index = crate::context::current_index();
    if let Some(known) = client.modules.known_global(unit, name, index) {
        return Ok(known);
    }
    let (context, state) = client.contexts.current()?;
    let (address, size) = ask()?;
    client.modules.insert_global(unit, name, index, address, size);
    client.ranges.insert(address, size, RangeKind::Global, context, state.device);
    Ok((address, size))
}

/// The bytes of an image.
///
/// # Safety
/// As for `cuModuleLoadData`; the bytes must stay for `'a`.
pub unsafe fn image_bytes<'a>(image: *const c_void) -> Answer<&'a [u8]> {
    // SAFETY: the caller's promise.
    let located = unsafe { Image::locate(image) }.map_err(|error| match error {
        ImageError::Null => CUresult::INVALID_VALUE,
        _ => CUresult::INVALID_IMAGE,
    })?;
    // SAFETY: located just now, and the caller keeps the bytes.
    Ok(unsafe { located.bytes() })
}

/// A file's bytes.
pub fn read_file(path: &CStr) -> Answer<Vec<u8>> {
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path.to_bytes()));
    std::fs::read(path).map_err(|_| CUresult::FILE_NOT_FOUND)
}

/// The image in a file's bytes: unlike one in memory, it may have been cut short.
pub fn file_image(bytes: &[u8]) -> Answer<&[u8]> {
    Image::within(bytes).map_err(|_| CUresult::INVALID_IMAGE)
}
