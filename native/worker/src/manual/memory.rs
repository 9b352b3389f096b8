//! Device memory, inside the session's limit.

use std::sync::Arc;

use cuda_abi::{CUdeviceptr, CUresult, CUstream};
use wire::handle::Stream;
use wire::{CallId, Reply as _, Request as _, Writer, cuda};

use super::Answer;
use super::launches::stream_of;
use crate::handles::HandleError;
use crate::waits::{Fence, Then, Until, WaiterKey};
use crate::worker::{Later, Worker};

/// `cuMemAlloc_v2`
pub fn cuMemAlloc_v2(worker: &mut Worker, request: cuda::CuMemAllocV2, reply: &mut Writer<'_>) -> Answer {
    let Ok(size) = usize::try_from(request.size) else { return Ok(CUresult::OUT_OF_MEMORY) };
    let mut address: CUdeviceptr = 0;
    let code = allocate(worker, request.size, |worker| {
        // SAFETY: `address` is a valid place.
        let code = unsafe { worker.driver.cuMemAlloc_v2(&raw mut address, size) };
        (code, address)
    });
    cuda::CuMemAllocV2Reply { address }.encode(reply);
    Ok(code)
}

/// `cuMemFree_v2`: at once when nothing is under way in the memory's context, else when what that does now is done.
pub fn cuMemFree_v2(worker: &mut Worker, request: cuda::CuMemFreeV2, _reply: &mut Writer<'_>) -> Answer {
    const CALL: CallId = cuda::CuMemFreeV2::CALL;
    let address = request.address;
    let Some(freed) = worker.memory.freeing(address) else { return Ok(CUresult::INVALID_VALUE) };
    let mut is_idle = false;
    let code = worker
        .in_context(CALL, freed.context, |worker| {
            is_idle = !worker.waits.frees().any_in(freed.context) && worker.is_all_idle();
            Ok(CUresult::SUCCESS)
        })
        .map_err(HandleError::Wire)?;
    if !code.is_success() {
        return Ok(code);
    }
    if !is_idle {
        let (current, until) = worker.work_of(CALL, &[freed.context]).map_err(HandleError::Wire)?;
        let then = Then::Free { address, call: CALL, freed };
        worker.waits.push(WaiterKey::Memory(freed.context), current, until, then);
        return Ok(CUresult::SUCCESS);
    }
    // SAFETY: the address is one that this worker allocated and that was not freed since.
    let code = unsafe { worker.driver.cuMemFree_v2(address) };
    if code.is_success() {
        worker.memory.freed(address);
    }
    Ok(code)
}

/// `cuMemGetInfo_v2`: for a slice, what is left of the session's limit; never more than the GPU really has. What was freed
/// counts as free, as CUDA would have waited for it then.
pub fn cuMemGetInfo_v2(
    worker: &mut Worker,
    _request: cuda::CuMemGetInfoV2,
    reply: &mut Writer<'_>,
) -> Answer {
    let device = worker.current_device();
    let look = || {
        let pending = device.map(|device| worker.waits.frees().on(device)).unwrap_or_default();
        (pending, memory_left(worker))
    };
    let (pending, left) = worker.waits.frees().at_rest(look);
    if pending.has_code {
        worker.later = Later::TryAgain;
        return Ok(CUresult::SUCCESS);
    }
    let (code, (free, total)) = match left {
        Ok((free, total)) => (CUresult::SUCCESS, (free.saturating_add(pending.bytes).min(total), total)),
        Err(code) => (code, (0, 0)),
    };
    cuda::CuMemGetInfoV2Reply { free, total }.encode(reply);
    Ok(code)
}

/// Free and total bytes on the current device: for a slice, what is left of the session's limit.
pub fn memory_left(worker: &Worker) -> Result<(u64, u64), CUresult> {
    let (mut free, mut total) = (0, 0);
    // SAFETY: both places are valid.
    unsafe { worker.driver.cuMemGetInfo_v2(&raw mut free, &raw mut total) }.into_result()?;
    let (free, total) = (free as u64, total as u64);
    let device = worker.current_device()?;
    Ok(match worker.memory.limit(device) {
        Some(limit) => {
            (free.min(limit.saturating_sub(worker.memory.used_by_session(device))), total.min(limit))
        }
        None => (free, total),
    })
}

/// Kinds of fences.
const STREAM: u32 = 1;
const FREES: u32 = 2;

/// A notice to the client when everything is done that was issued before in a context, or on one of its streams: memory that
/// it freed before can be handed out again.
pub fn farpoolFence(worker: &mut Worker, request: cuda::FarpoolFence, _reply: &mut Writer<'_>) -> Answer {
    let fence = Arc::new(Fence::new(request.number));
    worker
        .in_context(cuda::FarpoolFence::CALL, request.context, |worker| {
            // A stream that does not exist any more left its work to the context.
            match stream_of(worker, cuda::FarpoolFence::CALL, Stream(request.stream)) {
                Ok(stream) if request.kind == STREAM => fence_stream(worker, &fence, stream),
                _ => fence_context(worker, &fence, request.kind == FREES),
            }
            Ok(CUresult::SUCCESS)
        })
        .map_err(HandleError::Wire)?;
    worker.waits.pass(&fence);
    Ok(CUresult::SUCCESS)
}

/// Lets `fence` wait for what is under way on a stream of the current context.
fn fence_stream(worker: &mut Worker, fence: &Arc<Fence>, stream: CUstream) {
    if !worker.is_idle(stream) {
        wait_for_stream(worker, fence, stream);
    }
}

/// Lets `fence` wait for what is under way in the current context.
fn fence_context(worker: &mut Worker, fence: &Arc<Fence>, with_frees: bool) {
    let (context, current) = (worker.context, worker.current());
    if with_frees && worker.waits.frees().any_in(context) {
        for waiter in [WaiterKey::Memory(context), WaiterKey::Window(context)] {
            worker.waits.push(waiter, current, Until::Now, Then::Fence(fence.hold()));
        }
    }
    if worker.is_all_idle() {
        return;
    }
    for stream in worker.streams.busy(context) {
        wait_for_stream(worker, fence, stream);
    }
    if worker.streams.has_orphans(context) {
        // Behind those that wait for them.
        let then = Then::Fence(fence.hold());
        worker.waits.push(WaiterKey::Orphans(context), current, Until::Now, then);
    }
}

/// The issuing thread may look after it.
fn wait_for_stream(worker: &mut Worker, fence: &Arc<Fence>, stream: CUstream) {
    let (context, current) = (worker.context, worker.current());
    let then = Then::Fence(fence.hold());
    match worker.waits.mark(current, stream) {
        Ok(event) => {
            worker.waits.push_soon(WaiterKey::Stream(context, stream.0), current, Until::Own(event), then);
        }
        Err(_) => worker.waits.push(WaiterKey::Context(context), current, Until::Context, then),
    }
}

fn allocate(
    worker: &mut Worker,
    bytes: u64,
    call: impl FnOnce(&mut Worker) -> (CUresult, CUdeviceptr),
) -> CUresult {
    let device = match worker.current_device() {
        Ok(device) => device,
        Err(code) => return code,
    };
    let reserved = worker.memory.reserve(device, bytes).or_else(|_| {
        // Pools may keep what nobody uses.
        worker.pools.trim(device, &worker.memory);
        worker.memory.reserve(device, bytes)
    });
    let (code, address) = match reserved {
        Ok(_) => call(worker),
        Err(code) => (code, 0),
    };
    if let Ok(reserved) = reserved {
        if code.is_success() {
            worker.memory.allocated(address, device, worker.context, reserved);
        } else {
            worker.memory.release(device, reserved);
        }
    }
    if code == CUresult::OUT_OF_MEMORY {
        let left = memory_left(worker).map_or(0, |(free, _)| free);
        worker.must_wait_for_memory(device, bytes, left);
    }
    code
}
