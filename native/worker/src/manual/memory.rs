//! Device memory, inside the session's limit.

use std::sync::Arc;

use cuda_abi::{CUdeviceptr, CUresult};
use wire::{Reply as _, Request as _, Writer, cuda};

use super::Answer;
use crate::handles::HandleError;
use crate::waits::{Behind, Fence, LaneKey, Then, Until};
use crate::worker::{Later, Worker};

/// `cuMemAlloc_v2`
pub fn cuMemAlloc_v2(worker: &mut Worker, request: cuda::CuMemAllocV2, reply: &mut Writer<'_>) -> Answer {
    let Ok(size) = usize::try_from(request.size) else { return Ok(CUresult::OUT_OF_MEMORY) };
    if worker.waits.has_frees() {
        worker.later = Later::TryAgain;
        return Ok(CUresult::SUCCESS);
    }
    let mut address: CUdeviceptr = 0;
    let code = allocate(worker, request.size, |worker| {
        // SAFETY: `address` is a valid place.
        let code = unsafe { worker.driver.cuMemAlloc_v2(&raw mut address, size) };
        (code, address)
    });
    cuda::CuMemAllocV2Reply { address }.encode(reply);
    Ok(code)
}

/// `cuMemFree_v2`: at once when the GPU is idle, else when what it does now is done. Whoever wants memory meanwhile
/// waits for that.
pub fn cuMemFree_v2(worker: &mut Worker, request: cuda::CuMemFreeV2, _reply: &mut Writer<'_>) -> Answer {
    let address = request.address;
    if !worker.memory.owns(address) {
        return Ok(CUresult::INVALID_VALUE);
    }
    if worker.waits.has_frees() || !worker.is_all_idle() {
        let then = Then::Free { address, call: cuda::CuMemFreeV2::CALL, made_in: worker.context };
        worker.waits.push(LaneKey::Context(worker.context), worker.current(), Until::Context, then);
        return Ok(CUresult::SUCCESS);
    }
    // SAFETY: the address is one that this worker allocated and that was not freed since.
    let code = unsafe { worker.driver.cuMemFree_v2(address) };
    if code.is_success() {
        worker.memory.freed(address);
    }
    Ok(code)
}

/// `cuMemGetInfo_v2`: for a slice, what is left of the session's limit; never more than the GPU really has.
pub fn cuMemGetInfo_v2(
    worker: &mut Worker,
    _request: cuda::CuMemGetInfoV2,
    reply: &mut Writer<'_>,
) -> Answer {
    if worker.waits.has_frees() {
        worker.later = Later::TryAgain;
        return Ok(CUresult::SUCCESS);
    }
    let (code, (free, total)) = match memory_left(worker) {
        Ok(left) => (CUresult::SUCCESS, left),
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

/// A notice to the client when everything that was issued before is done, in all contexts: memory that it freed before
/// can be handed out again.
pub fn farpoolFence(worker: &mut Worker, request: cuda::FarpoolFence, _reply: &mut Writer<'_>) -> Answer {
    let fence = Arc::new(Fence::new(Behind::Tell(request.number)));
    for context in worker.context_indices() {
        worker
            .in_context(cuda::FarpoolFence::CALL, context, |worker| {
                fence_context(worker, &fence, true);
                Ok(CUresult::SUCCESS)
            })
            .map_err(HandleError::Wire)?;
    }
    worker.waits.pass(&fence);
    Ok(CUresult::SUCCESS)
}

/// Lets `fence` wait for what is under way in the current context; the issuing thread may look after it.
pub fn fence_context(worker: &mut Worker, fence: &Arc<Fence>, by_issuing_thread: bool) {
    if worker.is_all_idle() {
        return;
    }
    let (context, current) = (worker.context, worker.current());
    for stream in worker.streams.busy(context) {
        match worker.waits.mark(current, stream) {
            Ok(event) => {
                let key = LaneKey::Stream(context, stream.0);
                let then = Then::Fence(fence.hold());
                if by_issuing_thread {
                    worker.waits.push_soon(key, current, Until::Own(event), then);
                } else {
                    worker.waits.push(key, current, Until::Own(event), then);
                }
            }
            Err(_) => {
                let key = LaneKey::Context(context);
                worker.waits.push(key, current, Until::Context, Then::Fence(fence.hold()));
            }
        }
    }
    if worker.streams.has_orphans() {
        let then = Then::Fence(fence.hold());
        worker.waits.push(LaneKey::Context(context), current, Until::Context, then);
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
    let reserved = match reserved {
        Ok(reserved) => reserved,
        Err(_) if worker.waits.has_settling() => {
            worker.later = Later::TryAgain;
            return CUresult::SUCCESS;
        }
        Err(code) => return code,
    };
    let (code, address) = call(worker);
    if code.is_success() {
        worker.memory.allocated(address, device, worker.context, reserved);
    } else {
        worker.memory.release(device, reserved);
    }
    code
}
