//! Libraries and kernels.

use std::ffi::CString;

use cuda_abi::{CUfunction, CUkernel, CUlibrary, CUmodule, CUresult};
use wire::cuda::{self, AttributeValue, ParameterInfo};
use wire::{Reply as _, Request, Writer};

use super::modules::{DriverOptions, describe, parameters, unload};
use super::{Answer, code_tables};
use crate::handles::HandleError;
use crate::waits::Unit;
use crate::worker::{Worker, address};

/// `CUfunction_attribute` numbers end below this in CUDA 13.0.
const ATTRIBUTES: i32 = 16;

/// `cuLibraryLoadData`
pub fn cuLibraryLoadData(
    worker: &mut Worker,
    request: cuda::CuLibraryLoadData<'_>,
    reply: &mut Writer<'_>,
) -> Answer {
    type Load<'a> = cuda::CuLibraryLoadData<'a>;
    worker.handles.check_free(Load::CALL, request.library).map_err(HandleError::Wire)?;
    let image = match worker.modules.image(request.blob, request.image) {
        Ok(image) => image,
        Err(code) => {
            worker.handles.put(request.library, Err(code));
            cuda::CuLibraryLoadDataReply::default().encode(reply);
            return Ok(code);
        }
    };
    let mut options = DriverOptions::new(&request.options);
    let mut library = CUlibrary::NULL;
    // SAFETY: the image stays through the call and is NUL-terminated; the options are arrays of equal length
    // whose buffers are owned by `options`; there are no library options.
    let code = unsafe {
        worker.driver.cuLibraryLoadData(
            &raw mut library,
            image.as_ptr().cast(),
            options.numbers.as_mut_ptr(),
            options.values.as_mut_ptr(),
            options.count(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            0,
        )
    };
    worker.handles.put(request.library, if code.is_success() { Ok(library.0 as u64) } else { Err(code) });
    let (info_log, error_log) = options.logs();
    let table = if code.is_success() { code_tables::of_library(worker, library) } else { Vec::new() };
    cuda::CuLibraryLoadDataReply { info_log, error_log, code: table }.encode(reply);
    Ok(code)
}

/// `cuLibraryUnload`
pub fn cuLibraryUnload(
    worker: &mut Worker,
    request: cuda::CuLibraryUnload,
    _reply: &mut Writer<'_>,
) -> Answer {
    let raw = worker.handles.get(cuda::CuLibraryUnload::CALL, request.library)?;
    worker.handles.remove(request.library);
    unload(worker, cuda::CuLibraryUnload::CALL, 0, Unit::Library(CUlibrary(address(raw))))
}

/// `cuLibraryGetKernel`
pub fn cuLibraryGetKernel(
    worker: &mut Worker,
    request: cuda::CuLibraryGetKernel<'_>,
    reply: &mut Writer<'_>,
) -> Answer {
    type Get<'a> = cuda::CuLibraryGetKernel<'a>;
    worker.handles.check_free(Get::CALL, request.kernel).map_err(HandleError::Wire)?;
    let library = CUlibrary(address(worker.handles.get(Get::CALL, request.library)?));
    let Ok(name) = CString::new(request.name) else { return Ok(CUresult::NOT_FOUND) };
    let mut kernel = CUkernel::NULL;
    // SAFETY: the library is alive, the name NUL-terminated, the place valid.
    let code = unsafe { worker.driver.cuLibraryGetKernel(&raw mut kernel, library, name.as_ptr()) };
    let made = if code.is_success() { Ok(kernel.0 as u64) } else { Err(code) };
    worker.handles.put_part(request.kernel, request.library, made);
    // A client that has the library's code table waits for nothing.
    if code.is_success() && worker.reply_to.is_some() {
        let (attributes, parameters) = describe_kernel(worker, kernel);
        cuda::CuLibraryGetKernelReply { attributes, parameters }.encode(reply);
    }
    Ok(code)
}

/// `cuLibraryGetModule`
pub fn cuLibraryGetModule(
    worker: &mut Worker,
    request: cuda::CuLibraryGetModule,
    _reply: &mut Writer<'_>,
) -> Answer {
    worker.handles.check_free(cuda::CuLibraryGetModule::CALL, request.module).map_err(HandleError::Wire)?;
    let raw = worker.handles.get(cuda::CuLibraryGetModule::CALL, request.library)?;
    let mut module = CUmodule::NULL;
    // SAFETY: the library is alive, the place valid.
    let code = unsafe { worker.driver.cuLibraryGetModule(&raw mut module, CUlibrary(address(raw))) };
    let made = if code.is_success() { Ok(module.0 as u64) } else { Err(code) };
    worker.handles.put_part(request.module, request.library, made);
    Ok(code)
}

/// `cuLibraryGetGlobal`
pub fn cuLibraryGetGlobal(
    worker: &mut Worker,
    request: cuda::CuLibraryGetGlobal<'_>,
    reply: &mut Writer<'_>,
) -> Answer {
    let raw = worker.handles.get(<cuda::CuLibraryGetGlobal<'_> as Request<'_>>::CALL, request.library)?;
    let Ok(name) = CString::new(request.name) else { return Ok(CUresult::NOT_FOUND) };
    let (mut pointer, mut size) = (0, 0);
    // SAFETY: the library is alive, the name NUL-terminated, the places valid.
    let code = unsafe {
        worker.driver.cuLibraryGetGlobal(
            &raw mut pointer,
            &raw mut size,
            CUlibrary(address(raw)),
            name.as_ptr(),
        )
    };
    cuda::CuLibraryGetGlobalReply { address: pointer, size: size as u64 }.encode(reply);
    Ok(code)
}

/// `cuLibraryGetManaged`: whether there is such a variable. The client cannot use it, as managed memory is not remoted.
pub fn cuLibraryGetManaged(
    worker: &mut Worker,
    request: cuda::CuLibraryGetManaged<'_>,
    _reply: &mut Writer<'_>,
) -> Answer {
    let raw = worker.handles.get(<cuda::CuLibraryGetManaged<'_> as Request<'_>>::CALL, request.library)?;
    let Ok(name) = CString::new(request.name) else { return Ok(CUresult::NOT_FOUND) };
    let (mut pointer, mut size) = (0, 0);
    // SAFETY: the library is alive, the name NUL-terminated, the places valid.
    Ok(unsafe {
        worker.driver.cuLibraryGetManaged(
            &raw mut pointer,
            &raw mut size,
            CUlibrary(address(raw)),
            name.as_ptr(),
        )
    })
}

/// `cuKernelGetFunction`
pub fn cuKernelGetFunction(
    worker: &mut Worker,
    request: cuda::CuKernelGetFunction,
    reply: &mut Writer<'_>,
) -> Answer {
    worker
        .handles
        .check_free(cuda::CuKernelGetFunction::CALL, request.function)
        .map_err(HandleError::Wire)?;
    let raw = worker.handles.get(cuda::CuKernelGetFunction::CALL, request.kernel)?;
    let mut function = CUfunction::NULL;
    // SAFETY: the kernel is alive, the place valid.
    let code = unsafe { worker.driver.cuKernelGetFunction(&raw mut function, CUkernel(address(raw))) };
    let made = if code.is_success() { Ok(function.0 as u64) } else { Err(code) };
    worker.handles.put_part(request.function, request.kernel, made);
    if code.is_success() && worker.reply_to.is_some() {
        let (attributes, parameters) = describe(worker, function);
        cuda::CuKernelGetFunctionReply { attributes, parameters }.encode(reply);
    }
    Ok(code)
}

/// Attributes and parameters of a kernel, so that the client never asks again.
pub fn describe_kernel(worker: &Worker, kernel: CUkernel) -> (Vec<AttributeValue>, Vec<ParameterInfo>) {
    let parameters = parameters(|index, offset, size| {
        // SAFETY: the kernel is alive, the places valid; an index past the end is answered with an error.
        unsafe { worker.driver.cuKernelGetParamInfo(kernel, index, offset, size) }
    });
    (kernel_attributes(worker, kernel), parameters)
}

/// Attributes of a kernel on the device of the current context (the first device without one).
fn kernel_attributes(worker: &Worker, kernel: CUkernel) -> Vec<AttributeValue> {
    let device = worker.current_device().ok().and_then(|device| i32::try_from(device).ok()).unwrap_or(0);
    let mut all = Vec::new();
    for attribute in 0..ATTRIBUTES {
        let mut value = 0;
        // SAFETY: the kernel is alive, the place valid; unknown attributes are answered with an error.
        let code = unsafe { worker.driver.cuKernelGetAttribute(&raw mut value, attribute, kernel, device) };
        if code == CUresult::SUCCESS {
            all.push(AttributeValue { attribute, value });
        }
    }
    all
}
