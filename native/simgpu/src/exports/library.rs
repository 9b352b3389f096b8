//! Libraries and their kernels.

use std::ffi::{c_char, c_void};

use cuda_abi::{
    CUdevice, CUdeviceptr, CUfunc_cache, CUfunction, CUfunction_attribute, CUjit_option, CUkernel, CUlibrary,
    CUlibraryOption, CUmodule, CUresult,
};

use super::module::{code_of_file, needs_place, text_of};
use crate::context::current;
use crate::device::device;
use crate::guard::{exports, put, put_optional};
use crate::jit::Logs;
use crate::library::{Library, kernel, library};
use crate::module::{Code, attribute, set_attribute};
use graph::handle;

exports! {
    fn cuLibraryLoadData(
        library: *mut CUlibrary, code: *const c_void, jitOptions: *mut CUjit_option,
        jitOptionsValues: *mut *mut c_void, numJitOptions: u32, libraryOptions: *mut CUlibraryOption,
        libraryOptionValues: *mut *mut c_void, numLibraryOptions: u32,
    ) {
        let _ = (libraryOptions, libraryOptionValues, numLibraryOptions);
        if library.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let logs = Logs::read(numJitOptions, jitOptions, jitOptionsValues)?;
        put(library, CUlibrary(handle(&Library::create(Code::load(code, &logs)?))))
    }

    fn cuLibraryLoadFromFile(
        library: *mut CUlibrary, fileName: *const c_char, jitOptions: *mut CUjit_option,
        jitOptionsValues: *mut *mut c_void, numJitOptions: u32, libraryOptions: *mut CUlibraryOption,
        libraryOptionValues: *mut *mut c_void, numLibraryOptions: u32,
    ) {
        let _ = (libraryOptions, libraryOptionValues, numLibraryOptions);
        if library.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let logs = Logs::read(numJitOptions, jitOptions, jitOptionsValues)?;
        put(library, CUlibrary(handle(&Library::create(code_of_file(fileName, &logs)?))))
    }

    fn cuLibraryUnload(library: CUlibrary) {
        crate::library::library(library)?.unload();
        Ok(())
    }

    fn cuLibraryGetKernel(pKernel: *mut CUkernel, library: CUlibrary, name: *const c_char) {
        let library = crate::library::library(library)?;
        let (index, described) = library.code.find(&text_of(name)?).ok_or(CUresult::NOT_FOUND)?;
        if described.unsupported.is_some() {
            return Err(CUresult::NOT_SUPPORTED);
        }
        put(pKernel, CUkernel(handle(&library.kernels()[index])))
    }

    fn cuLibraryGetKernelCount(count: *mut u32, lib: CUlibrary) {
        put(count, u32::try_from(library(lib)?.kernels().len()).unwrap_or(0))
    }

    fn cuLibraryEnumerateKernels(kernels: *mut CUkernel, numKernels: u32, lib: CUlibrary) {
        if kernels.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        for (index, kernel) in library(lib)?.kernels().iter().take(numKernels as usize).enumerate() {
            put(kernels.add(index), CUkernel(handle(kernel)))?;
        }
        Ok(())
    }

    fn cuLibraryGetModule(pMod: *mut CUmodule, library: CUlibrary) {
        let module = crate::library::library(library)?.module(&current()?)?;
        put(pMod, CUmodule(handle(&module)))
    }

    fn cuLibraryGetGlobal(dptr: *mut CUdeviceptr, bytes: *mut usize, library: CUlibrary, name: *const c_char) {
        let name = text_of(name)?;
        needs_place(dptr, bytes)?;
        let module = crate::library::library(library)?.module(&current()?)?;
        let (address, size, _) = module.global(&name).ok_or(CUresult::NOT_FOUND)?;
        put_optional(dptr, address);
        put_optional(bytes, size as usize);
        Ok(())
    }

    fn cuLibraryGetManaged(dptr: *mut CUdeviceptr, bytes: *mut usize, library: CUlibrary, name: *const c_char) {
        let name = text_of(name)?;
        needs_place(dptr, bytes)?;
        // The runtime asks before it makes a context: a managed variable is one and the same for all contexts,
        // here those of the first device, whose memory every kernel reaches.
        let context = match current() {
            Ok(context) => context,
            Err(_) => crate::context::primary(device(0)?, false)?,
        };
        let module = crate::library::library(library)?.module(&context)?;
        let found = module.global(&name).filter(|(_, _, managed)| *managed);
        let (address, size, _) = found.ok_or(CUresult::NOT_FOUND)?;
        put_optional(dptr, address);
        put_optional(bytes, size as usize);
        Ok(())
    }

    fn cuLibraryGetUnifiedFunction(fptr: *mut *mut c_void, library: CUlibrary, symbol: *const c_char) {
        let _ = (fptr, symbol);
        crate::library::library(library)?;
        Err(CUresult::NOT_FOUND)
    }

    fn cuKernelGetFunction(pFunc: *mut CUfunction, kernel: CUkernel) {
        let function = crate::library::kernel(kernel)?.function(&current()?)?;
        put(pFunc, CUfunction(handle(&function)))
    }

    fn cuKernelGetLibrary(pLib: *mut CUlibrary, kernel: CUkernel) {
        put(pLib, CUlibrary(handle(&crate::library::kernel(kernel)?.library()?)))
    }

    fn cuKernelGetName(name: *mut *const c_char, hfunc: CUkernel) {
        let kernel = kernel(hfunc)?;
        put(name, kernel.code.names[kernel.index].as_ptr())
    }

    fn cuKernelGetAttribute(pi: *mut i32, attrib: CUfunction_attribute, kernel: CUkernel, dev: CUdevice) {
        device(dev)?;
        let kernel = crate::library::kernel(kernel)?;
        put(pi, attribute(kernel.kernel()?, &kernel.settings, attrib)?)
    }

    fn cuKernelSetAttribute(attrib: CUfunction_attribute, val: i32, kernel: CUkernel, dev: CUdevice) {
        device(dev)?;
        let kernel = crate::library::kernel(kernel)?;
        set_attribute(kernel.kernel()?, &kernel.settings, attrib, val)?;
        kernel.forward_settings();
        Ok(())
    }

    fn cuKernelSetCacheConfig(kernel: CUkernel, config: CUfunc_cache, dev: CUdevice) {
        let _ = config;
        device(dev)?;
        crate::library::kernel(kernel).map(|_| ())
    }

    fn cuKernelGetParamInfo(
        kernel: CUkernel, paramIndex: usize, paramOffset: *mut usize, paramSize: *mut usize,
    ) {
        let kernel = crate::library::kernel(kernel)?;
        let param = *kernel.kernel()?.params.get(paramIndex).ok_or(CUresult::INVALID_VALUE)?;
        put(paramOffset, param.offset as usize)?;
        put_optional(paramSize, param.size as usize);
        Ok(())
    }
}
