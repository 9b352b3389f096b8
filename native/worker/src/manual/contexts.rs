//! Contexts. What a context costs on the GPU counts against the session's limit, measured when it is made.

use cuda_abi::{CUcontext, CUresult};
use driver::Driver;
use wire::handle::{Context, Handle};
use wire::{Request, WireError, Writer, cuda};

use super::Answer;
use crate::handles::HandleError;
use crate::worker::{Later, Worker, address};

/// `cuDevicePrimaryCtxRetain`
pub fn cuDevicePrimaryCtxRetain(
    worker: &mut Worker,
    request: cuda::CuDevicePrimaryCtxRetain,
    _reply: &mut Writer<'_>,
) -> Answer {
    make(worker, cuda::CuDevicePrimaryCtxRetain::CALL, request.context, request.device, |worker, raw| {
        // SAFETY: `raw` is a valid place; the driver checks the device.
        unsafe { worker.driver.cuDevicePrimaryCtxRetain(raw, request.device) }
    })
}

/// `cuCtxCreate_v2`
pub fn cuCtxCreate_v2(worker: &mut Worker, request: cuda::CuCtxCreateV2, _reply: &mut Writer<'_>) -> Answer {
    make(worker, cuda::CuCtxCreateV2::CALL, request.context, request.device, |worker, raw| {
        // SAFETY: `raw` is a valid place; the driver checks flags and device.
        let code = unsafe { worker.driver.cuCtxCreate_v2(raw, request.flags, request.device) };
        if code.is_success() {
            // The client keeps the stack of contexts; here only one is current, set before each call.
            let mut popped = CUcontext::NULL;
            // SAFETY: `popped` is a valid place.
            let _ = unsafe { worker.driver.cuCtxPopCurrent_v2(&raw mut popped) };
        }
        code
    })
}

/// `cuDevicePrimaryCtxRelease_v2`: the client counts; this is the release that ends the context.
pub fn cuDevicePrimaryCtxRelease_v2(
    worker: &mut Worker,
    request: cuda::CuDevicePrimaryCtxReleaseV2,
    _reply: &mut Writer<'_>,
) -> Answer {
    let device = request.device;
    end_primary(worker, device, move |driver| {
        // SAFETY: the driver checks the device.
        unsafe { driver.cuDevicePrimaryCtxRelease_v2(device) }
    })
}

/// `cuDevicePrimaryCtxReset_v2`
pub fn cuDevicePrimaryCtxReset_v2(
    worker: &mut Worker,
    request: cuda::CuDevicePrimaryCtxResetV2,
    _reply: &mut Writer<'_>,
) -> Answer {
    let device = request.device;
    end_primary(worker, device, move |driver| {
        // A reset destroys the context. Some drivers keep the retain, others take it back with the reset: releasing it
        // leaves the next retain as clean as the first either way, and its code says nothing that matters.
        // SAFETY: the driver checks the device.
        unsafe {
            let code = driver.cuDevicePrimaryCtxReset_v2(device);
            let _ = driver.cuDevicePrimaryCtxRelease_v2(device);
            code
        }
    })
}

/// `cuCtxDestroy_v2`
pub fn cuCtxDestroy_v2(
    worker: &mut Worker,
    request: cuda::CuCtxDestroyV2,
    _reply: &mut Writer<'_>,
) -> Answer {
    let raw = worker.handles.get(cuda::CuCtxDestroyV2::CALL, request.context)?;
    if worker.is_primary(request.context.index()) {
        // The driver would refuse, and what the context holds must go on counting.
        return Ok(CUresult::INVALID_CONTEXT);
    }
    let context = CUcontext(address(raw));
    let destroy = move |driver: &Driver| {
        // SAFETY: the context is alive: it is behind a live handle, which is removed afterwards.
        unsafe { driver.cuCtxDestroy_v2(context) }
    };
    let Some(code) = worker.destroy_context(request.context.index(), context, destroy) else {
        return Ok(CUresult::SUCCESS);
    };
    worker.handles.remove(request.context);
    worker.context_gone(request.context.index());
    Ok(code)
}

fn make(
    worker: &mut Worker,
    call: wire::CallId,
    context: Context,
    device: i32,
    create: impl FnOnce(&mut Worker, *mut CUcontext) -> CUresult,
) -> Answer {
    if worker.is_ending(context.index()) {
        // Another thread of the client retains what one resets: it is made anew.
        worker.later = Later::TryAgain;
        return Ok(CUresult::SUCCESS);
    }
    if !is_well_formed(context) {
        return Err(HandleError::Wire(WireError::UnknownHandle {
            call,
            kind: Context::KIND.cuda_name(),
            id: context.raw(),
        }));
    }
    worker.handles.check_free(call, context).map_err(HandleError::Wire)?;
    let Ok(ordinal) = usize::try_from(device) else { return Ok(CUresult::INVALID_DEVICE) };
    if call == cuda::CuDevicePrimaryCtxRetain::CALL
        && let Some(index) = worker.primary_context(ordinal)
    {
        if worker.is_ending(index) {
            worker.later = Later::TryAgain;
            return Ok(CUresult::SUCCESS);
        }
        // Clients count by themselves: a second name for it would outlive it.
        let id = Context::from_index(u64::from(index)).raw();
        return Err(HandleError::Wire(WireError::HandleTaken { call, kind: Context::KIND.cuda_name(), id }));
    }
    let mut raw = CUcontext::NULL;
    let before = worker.footprint.on(&worker.driver, device);
    let code = create(worker, &raw mut raw);
    if !code.is_success() {
        worker.handles.put(context, Err(code));
        return Ok(code);
    }
    let cost = worker.footprint.on(&worker.driver, device).saturating_sub(before);
    let index = context.index();
    match worker.memory.reserve(ordinal, cost) {
        Ok(bytes) => {
            // A context is no allocation that a program could free: it is filed under its own address.
            worker.memory.allocated(raw.0 as u64, ordinal, index, bytes);
            worker.handles.put(context, Ok(raw.0 as u64));
            worker.context_made(index, ordinal, call == cuda::CuDevicePrimaryCtxRetain::CALL);
            Ok(CUresult::SUCCESS)
        }
        Err(code) => {
            // SAFETY: the context was made just now and nobody has seen it.
            let _ = unsafe {
                if call == cuda::CuDevicePrimaryCtxRetain::CALL {
                    worker.driver.cuDevicePrimaryCtxRelease_v2(device)
                } else {
                    worker.driver.cuCtxDestroy_v2(raw)
                }
            };
            worker.handles.put(context, Err(code));
            Ok(code)
        }
    }
}

/// Whether the index, by which records name a context and memory is filed, says all of the handle, and is that of a context.
fn is_well_formed(context: Context) -> bool {
    context.index() != 0 && Context::from_index(u64::from(context.index())) == context
}

fn end_primary(
    worker: &mut Worker,
    device: i32,
    end: impl Fn(&Driver) -> CUresult + Clone + Send + 'static,
) -> Answer {
    let Ok(ordinal) = usize::try_from(device) else { return Ok(CUresult::INVALID_DEVICE) };
    let Some(index) = worker.primary_context(ordinal) else { return Ok(CUresult::INVALID_CONTEXT) };
    let context = Context::from_index(u64::from(index));
    let raw = worker.handles.get(cuda::CuDevicePrimaryCtxReleaseV2::CALL, context)?;
    let Some(code) = worker.destroy_context(index, CUcontext(address(raw)), end) else {
        return Ok(CUresult::SUCCESS);
    };
    worker.handles.remove(Context::from_index(u64::from(index)));
    worker.context_gone(index);
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found on the way: two contexts with one index shared an account, and the end of the one emptied it for both.
    #[test]
    fn a_context_has_an_index_of_its_own() {
        let index = |index| is_well_formed(Context::from_index(index));
        assert!(index(1) && index(u64::from(u32::MAX)));
        assert!(!index(0), "records name no context with it");
        assert!(!index(1 << 32 | 1), "records cannot tell it from 1");
    }
}
