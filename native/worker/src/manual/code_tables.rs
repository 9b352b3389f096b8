//! Which kernels a loaded image has, told to the client with the load.
//!
//! Drivers from CUDA 12.4 on enumerate kernels without loading them. Describing one loads it, so a large image, of
//! which a program uses a few kernels, is told by names only: what is used is described when it is looked up. Older
//! drivers tell nothing, and the client looks every kernel up.

use std::ffi::{CStr, CString, c_char};

use cuda_abi::{CUfunction, CUkernel, CUlibrary, CUmodule, CUresult};
use wire::Writer;
use wire::code_table::{CodeTable, Description, KernelEntry};
use wire::record::MAX_PAYLOAD;

use super::libraries::describe_kernel;
use super::modules::describe;
use crate::worker::Worker;

/// Kernels of an image up to which all are described. Loading one takes some tens of microseconds, a client's
/// question as long as the way to it.
const DESCRIBED: usize = 64;

/// Bytes of a table that still fits into a reply, beside the logs of the load.
const LARGEST: usize = MAX_PAYLOAD as usize / 2;

/// The encoded table of a module; empty when the driver cannot tell.
pub fn of_module(worker: &Worker, module: CUmodule) -> Vec<u8> {
    let driver = &worker.driver;
    let mut count = 0;
    // SAFETY: the module was loaded just now, the place is valid.
    if !unsafe { driver.cuModuleGetFunctionCount(&raw mut count, module) }.is_success() {
        return Vec::new();
    }
    let mut functions = vec![CUfunction::NULL; count as usize];
    // SAFETY: as above; there is room for as many functions as are asked for.
    if !unsafe { driver.cuModuleEnumerateFunctions(functions.as_mut_ptr(), count, module) }.is_success() {
        return Vec::new();
    }
    encode(
        &functions,
        |function, place| {
            // SAFETY: the function was enumerated just now, the place is valid.
            unsafe { driver.cuFuncGetName(place, *function) }
        },
        |name| {
            let mut function = CUfunction::NULL;
            // SAFETY: the module is alive, the name NUL-terminated, the place valid.
            let result = unsafe { driver.cuModuleGetFunction(&raw mut function, module, name.as_ptr()) };
            let (attributes, parameters) =
                if result.is_success() { describe(worker, function) } else { Default::default() };
            Description { result: result.0, attributes, parameters }
        },
    )
}

/// The encoded table of a library; empty when the driver cannot tell.
pub fn of_library(worker: &Worker, library: CUlibrary) -> Vec<u8> {
    let driver = &worker.driver;
    let mut count = 0;
    // SAFETY: the library was loaded just now, the place is valid.
    if !unsafe { driver.cuLibraryGetKernelCount(&raw mut count, library) }.is_success() {
        return Vec::new();
    }
    let mut kernels = vec![CUkernel::NULL; count as usize];
    // SAFETY: as above; there is room for as many kernels as are asked for.
    if !unsafe { driver.cuLibraryEnumerateKernels(kernels.as_mut_ptr(), count, library) }.is_success() {
        return Vec::new();
    }
    encode(
        &kernels,
        |kernel, place| {
            // SAFETY: the kernel was enumerated just now, the place is valid.
            unsafe { driver.cuKernelGetName(place, *kernel) }
        },
        |name| {
            let mut kernel = CUkernel::NULL;
            // SAFETY: the library is alive, the name NUL-terminated, the place valid.
            let result = unsafe { driver.cuLibraryGetKernel(&raw mut kernel, library, name.as_ptr()) };
            let (attributes, parameters) =
                if result.is_success() { describe_kernel(worker, kernel) } else { Default::default() };
            Description { result: result.0, attributes, parameters }
        },
    )
}

fn encode<T>(
    kernels: &[T],
    name_of: impl Fn(&T, *mut *const c_char) -> CUresult,
    description_of: impl Fn(&CString) -> Description,
) -> Vec<u8> {
    let mut table = CodeTable::default();
    for kernel in kernels {
        let mut name = std::ptr::null();
        if !name_of(kernel, &raw mut name).is_success() || name.is_null() {
            return Vec::new();
        }
        // SAFETY: the driver answered a NUL-terminated name that lives as long as the kernel.
        let name = unsafe { CStr::from_ptr(name) }.to_owned();
        let described = (kernels.len() <= DESCRIBED).then(|| description_of(&name));
        table.kernels.push(KernelEntry { name: name.into_bytes(), described });
    }
    let mut bytes = Vec::new();
    table.encode(&mut Writer::new(&mut bytes));
    // A reply has a limit. What does not fit is looked up kernel by kernel.
    if bytes.len() > LARGEST { Vec::new() } else { bytes }
}
