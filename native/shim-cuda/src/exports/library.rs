//! Libraries and kernels: code that belongs to no context until it runs in one.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, PoisonError};

use cuda_abi::{
    CUdevice, CUdeviceptr, CUfunction, CUfunction_attribute, CUjit_option, CUkernel, CUlibrary,
    CUlibraryOption, CUmodule, CUresult,
};
use wire::cuda;
use wire::handle::{Function, Handle, Kernel, Library, Module};

use crate::client::Client;
use crate::context;
use crate::convert::{handle, opaque, out, text, write_if};
use crate::credit;
use crate::entry::Answer;
use crate::exports::module::{file_image, global, image_bytes, needs_place, read_file};
use crate::jit::JitOptions;
use crate::module::{Code, Found, UnitCode, Upload};
use crate::servers;

/// `CU_LIBRARY_BINARY_IS_PRESERVED`: the program keeps the image; the worker has its own copy anyway.
const BINARY_IS_PRESERVED: CUlibraryOption = 1;

exports! {
    fn cuLibraryLoadData(
        library: *mut CUlibrary,
        code: *const c_void,
        jitOptions: *mut CUjit_option,
        jitOptionsValues: *mut *mut c_void,
        numJitOptions: c_uint,
        libraryOptions: *mut CUlibraryOption,
        libraryOptionValues: *mut *mut c_void,
        numLibraryOptions: c_uint,
    ) enter_beside |client| {
        let place = out(library)?;
        let mut jit = JitOptions::read(jitOptions, jitOptionsValues, numJitOptions)?;
        let _ = libraryOptionValues;
        check_library_options(libraryOptions, numLibraryOptions)?;
        *place = opaque(load(client, code, &mut jit)?);
        Ok(())
    }

    fn cuLibraryLoadFromFile(
        library: *mut CUlibrary,
        fileName: *const c_char,
        jitOptions: *mut CUjit_option,
        jitOptionsValues: *mut *mut c_void,
        numJitOptions: c_uint,
        libraryOptions: *mut CUlibraryOption,
        libraryOptionValues: *mut *mut c_void,
        numLibraryOptions: c_uint,
    ) enter_beside |client| {
        let place = out(library)?;
        let mut jit = JitOptions::read(jitOptions, jitOptionsValues, numJitOptions)?;
        let _ = libraryOptionValues;
        check_library_options(libraryOptions, numLibraryOptions)?;
        let file = read_file(text(fileName)?)?;
        *place = opaque(load_bytes(client, file_image(&file)?, &mut jit)?);
        Ok(())
    }

    fn cuLibraryUnload(library: CUlibrary) enter_beside |client| {
        let library = handle(library)?;
        client.modules.check_unit(library.raw())?;
        // From all of them, whatever one answers.
        let answers = servers::all(client).map(|client| servers::at(client, || unload(client, library)));
        answers.fold(Ok(()), Answer::and)
    }

    fn cuLibraryGetKernel(pKernel: *mut CUkernel, library: CUlibrary, name: *const c_char) enter_beside |client| {
        let place = out(pKernel)?;
        let (library, name) = (handle(library)?, text(name)?);
        *place = opaque(kernel_everywhere(client, library, name)?);
        Ok(())
    }

    fn cuLibraryGetModule(pMod: *mut CUmodule, library: CUlibrary) enter |client| {
        let place = out(pMod)?;
        let library: Library = handle(library)?;
        client.modules.check_unit(library.raw())?;
        let (owner, _) = client.contexts.current()?;
        let index = context::current_index();
        if let Some(known) = client.modules.known_module(library, index) {
            *place = opaque(known);
            return Ok(());
        }
        let module: Module = client.new_handle();
        let request = cuda::CuLibraryGetModule { library, module };
        let code = client.modules.unit_code(library.raw());
        // Where the library's code is known, nobody waits: the record only binds the handle.
        if code.is_some() { client.post(&request)? } else { client.call(&request)? }
        client.modules.insert_unit(module.raw(), Some(owner), code);
        client.modules.insert_module(library, index, module);
        *place = opaque(module);
        Ok(())
    }

    fn cuLibraryGetGlobal(
        dptr: *mut CUdeviceptr,
        bytes: *mut usize,
        library: CUlibrary,
        name: *const c_char,
    ) enter |client| {
        let (library, name) = (handle(library)?, text(name)?);
        needs_place(dptr, bytes)?;
        let (address, size) = global(client, library.raw(), name, || {
            let reply = client.call(&cuda::CuLibraryGetGlobal { library, name: name.to_bytes() })?;
            Ok((reply.address, reply.size))
        })?;
        write_if(dptr, address);
        write_if(bytes, usize::try_from(size).map_err(|_| CUresult::UNKNOWN)?);
        Ok(())
    }

    fn cuLibraryGetManaged(
        dptr: *mut CUdeviceptr,
        bytes: *mut usize,
        library: CUlibrary,
        name: *const c_char,
    ) enter |client| {
        let (library, name) = (handle(library)?, text(name)?);
        needs_place(dptr, bytes)?;
        client.modules.check_unit(library.raw())?;
        client.call(&cuda::CuLibraryGetManaged { library, name: name.to_bytes() })?;
        crate::report::once("managed variables are not supported by Farpool yet");
        Err(CUresult::NOT_SUPPORTED)
    }

    fn cuKernelGetFunction(pFunc: *mut CUfunction, kernel: CUkernel) enter |client| {
        let place = out(pFunc)?;
        let kernel: Kernel = handle(kernel)?;
        let known = client.modules.code(kernel.raw())?;
        client.contexts.current()?;
        let index = context::current_index();
        if let Some(function) = client.modules.known_function(kernel, index) {
            *place = opaque(function);
            return Ok(());
        }
        let function: Function = client.new_handle();
        // What is known of the kernel is known of the function.
        client.post(&cuda::CuKernelGetFunction { kernel, function })?;
        client.modules.insert_function(kernel, index, function, known.copy());
        *place = opaque(function);
        Ok(())
    }

    fn cuKernelGetLibrary(pLib: *mut CUlibrary, kernel: CUkernel) enter_local |client| {
        let place = out(pLib)?;
        let code = client.modules.code(handle(kernel)?.raw())?;
        *place = opaque(code.library.ok_or(CUresult::INVALID_HANDLE)?);
        Ok(())
    }

    fn cuKernelGetName(name: *mut *const c_char, hfunc: CUkernel) enter_local |client| {
        let place = out(name)?;
        *place = client.modules.code(handle(hfunc)?.raw())?.name.as_ptr();
        Ok(())
    }

    fn cuKernelGetParamInfo(
        kernel: CUkernel,
        paramIndex: usize,
        paramOffset: *mut usize,
        paramSize: *mut usize,
    ) enter_local |client| {
        let code = client.modules.code(handle(kernel)?.raw())?;
        parameter_info(&code, paramIndex, paramOffset, paramSize)
    }

    fn cuLibraryEnumerateKernels(kernels: *mut CUkernel, numKernels: c_uint, lib: CUlibrary) enter_beside |client| {
        let library: Library = handle(lib)?;
        client.modules.check_unit(library.raw())?;
        if kernels.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let code = client.modules.unit_code(library.raw()).ok_or(CUresult::NOT_SUPPORTED)?;
        for (index, name) in code.names.iter().take(numKernels as usize).enumerate() {
            *kernels.add(index) = opaque(kernel_everywhere(client, library, name)?);
        }
        Ok(())
    }

    fn cuKernelGetAttribute(
        pi: *mut c_int,
        attrib: CUfunction_attribute,
        kernel: CUkernel,
        dev: CUdevice,
    ) enter_local |client| {
        let place = out(pi)?;
        let client = servers::with_device(client, dev)?;
        let code = client.modules.code(handle(kernel)?.raw())?;
        *place = code.attribute(attrib).ok_or(CUresult::INVALID_VALUE)?;
        Ok(())
    }
}

/// Answers `cuFuncGetParamInfo` and `cuKernelGetParamInfo`.
///
/// # Safety
/// Both places are null or writable.
pub unsafe fn parameter_info(code: &Code, index: usize, offset: *mut usize, size: *mut usize) -> Answer {
    let parameter = code.parameters.get(index).ok_or(CUresult::INVALID_VALUE)?;
    let number = |value: u64| usize::try_from(value).map_err(|_| CUresult::UNKNOWN);
    // SAFETY: the caller's promise.
    unsafe {
        *out(offset)? = number(parameter.offset)?;
        write_if(size, number(parameter.size)?);
    }
    Ok(())
}

fn unload(client: &Client, library: Library) -> Answer {
    client.ranges.forget_globals(&client.modules.remove_unit(library.raw()));
    client.post_anywhere(&cuda::CuLibraryUnload { library })?;
    if let Some(context) = context::current() {
        credit::driver_frees(client, context);
    }
    credit::settle_all_if_seen(client)
}

/// # Safety
/// As for `cuLibraryLoadData`.
unsafe fn load(client: &'static Client, image: *const c_void, jit: &mut JitOptions) -> Answer<Library> {
    // SAFETY: the caller's promise.
    unsafe { load_bytes(client, image_bytes(image)?, jit) }
}

/// # Safety
/// The options' buffers are those that the program gave for this call.
unsafe fn load_bytes(client: &'static Client, bytes: &[u8], jit: &mut JitOptions) -> Answer<Library> {
    let library: Library = client.new_handle();
    for (loaded, each) in servers::all(client).enumerate() {
        // SAFETY: the caller's promise.
        let answer = servers::at(each, || unsafe { load_at(each, library, bytes, jit) });
        if answer.is_err() {
            // Code that not every GPU of the session can run is no library of it.
            for earlier in servers::all(client).take(loaded) {
                // What is told is why it was not loaded.
                let _ = servers::at(earlier, || unload(earlier, library));
            }
            return answer.map(|()| library);
        }
    }
    Ok(library)
}

/// Loads a library on one server.
///
/// # Safety
/// As for [`load_bytes`].
unsafe fn load_at(client: &Client, library: Library, bytes: &[u8], jit: &mut JitOptions) -> Answer {
    let upload = Upload::start(client, bytes)?;
    let (code, reply) = client.call_with_code(&cuda::CuLibraryLoadData {
        library,
        blob: upload.blob,
        image: upload.inline,
        options: jit.to_wire(),
        library_options: Vec::new(),
    })?;
    // SAFETY: the buffers were given by the program with their sizes, for this call.
    unsafe { jit.deliver(&reply.info_log, &reply.error_log) };
    code.into_result()?;
    client.modules.insert_unit(library.raw(), None, UnitCode::read(&reply.code));
    Ok(())
}

/// The kernel `name` of a library, on every server.
fn kernel_everywhere(client: &'static Client, library: Library, name: &CStr) -> Answer<Kernel> {
    /// Threads that look up the same kernel get the same handle on every server.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one_at_a_time =
        (servers::count() > 1).then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
    let kernel = kernel(client, library, name, || client.new_handle())?;
    for other in servers::all(client).skip(1) {
        servers::at(other, || self::kernel(other, library, name, || kernel))?;
    }
    Ok(kernel)
}

/// The kernel `name` of a library, called `new` if it was not looked up before. Where the library's code is known, nobody waits:
/// the record only binds the handle.
fn kernel(client: &Client, library: Library, name: &CStr, new: impl FnOnce() -> Kernel) -> Answer<Kernel> {
    let found = client.modules.look_up(library.raw(), name)?;
    if let Found::Handle(known) = found {
        return Ok(Kernel::from_raw(known));
    }
    let kernel = new();
    let request = cuda::CuLibraryGetKernel { library, kernel, name: name.to_bytes() };
    let (attributes, parameters) = if let Found::Described(description) = found {
        client.post_anywhere(&request)?;
        (description.attributes, description.parameters)
    } else {
        let reply = client.call(&request)?;
        (reply.attributes, reply.parameters)
    };
    let code = Code::new(name, None, Some(library), attributes, parameters);
    client.modules.insert_code(library.raw(), kernel.raw(), code);
    Ok(kernel)
}

/// Checks a program's library options: the one that is understood asks for nothing that is not so anyway.
///
/// # Safety
/// `options` is null or has `count` elements.
unsafe fn check_library_options(options: *const CUlibraryOption, count: c_uint) -> Answer {
    for position in 0..count as usize {
        if options.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: the array has `count` elements by the caller's promise.
        let option = unsafe { *options.add(position) };
        if option != BINARY_IS_PRESERVED {
            crate::report::once(&format!("library load option {option} is not supported by Farpool yet"));
            return Err(CUresult::NOT_SUPPORTED);
        }
    }
    Ok(())
}
