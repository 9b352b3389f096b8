//! Memory in the window of addresses, inside the session's limit, and access of contexts to each other's memory.

use std::sync::Arc;

use cuda_abi::{CUcontext, CUresult};
use wire::handshake::Window;
use wire::{Reply as _, Request as _, Writer, cuda};

use super::{Answer, memory_left};
use crate::handles::HandleError;
use crate::snapshot;
use crate::waits::Until;
use crate::window::Wish;
use crate::worker::{Later, Worker, address};

/// Another place for the window.
pub fn farpoolWindow(worker: &mut Worker, request: cuda::FarpoolWindow, reply: &mut Writer<'_>) -> Answer {
    let devices = snapshot::device_count(&worker.driver).unwrap_or(0);
    let proposed = Window { start: request.start, length: request.length };
    let (Window { start, length }, granularity) = worker.mapped.agree(proposed, devices);
    cuda::FarpoolWindowReply { start, length, granularity }.encode(reply);
    Ok(CUresult::SUCCESS)
}

/// Memory for addresses that the client chose.
pub fn farpoolSecure(worker: &mut Worker, request: cuda::FarpoolSecure, reply: &mut Writer<'_>) -> Answer {
    let device = match worker.current_device() {
        Ok(device) => device,
        Err(code) => return Ok(code),
    };
    let cuda::FarpoolSecure { address, needed, wanted, chunk } = request;
    let wish = Wish { address, needed, wanted, chunk };
    // How much is given ahead depends on what is free: what the same context has freed counts, unless a stream may wait for
    // the program.
    let is_unsettled = worker.waits.frees().any_in(worker.context) && !worker.callbacks.holds_streams();
    if is_unsettled || worker.mapped.is_leaving(address, wanted) {
        // Or the client has no other addresses.
        worker.later = Later::TryAgain;
        return Ok(CUresult::SUCCESS);
    }
    let left = memory_left(worker).map_or(0, |(free, _)| free);
    let possible = match worker.mapped.check(&wish, left) {
        Ok(possible) => possible,
        Err(code) => return Ok(code),
    };
    let mut code = CUresult::OUT_OF_MEMORY;
    for (size, is_last) in [(possible, false), (needed, true)] {
        if is_last {
            // Pools may keep what nobody uses.
            worker.pools.trim(device, &worker.memory);
        }
        code = secure(worker, &wish, size, device);
        if code.is_success() {
            cuda::FarpoolSecureReply { size }.encode(reply);
            return Ok(code);
        }
        if code != CUresult::OUT_OF_MEMORY {
            break;
        }
    }
    if code == CUresult::OUT_OF_MEMORY {
        let left = memory_left(worker).map_or(0, |(free, _)| free);
        worker.must_wait_for_memory(device, needed, left);
    }
    cuda::FarpoolSecureReply { size: 0 }.encode(reply);
    Ok(code)
}

fn secure(worker: &mut Worker, wish: &Wish, size: u64, device: usize) -> CUresult {
    // What cannot be is not begun: a driver that takes the beginning back may wait for the GPU.
    if memory_left(worker).is_ok_and(|(free, _)| size > free) {
        return CUresult::OUT_OF_MEMORY;
    }
    if let Err(code) = worker.memory.reserve(device, size) {
        return code;
    }
    let mapped = Arc::clone(&worker.mapped);
    match mapped.map(wish, size, device, worker.context) {
        Ok(()) => CUresult::SUCCESS,
        Err((code, made)) => {
            let made_bytes: u64 = made.iter().map(|chunk| chunk.size).sum();
            worker.memory.release(device, size - made_bytes);
            let place = (worker.context, CUcontext::NULL);
            worker.waits.give_back(&mapped, made, place, Until::Now);
            code
        }
    }
}

/// Gives memory back: at once, or when everything that was issued before in the context that the request names is done.
pub fn farpoolGiveBack(
    worker: &mut Worker,
    request: cuda::FarpoolGiveBack,
    _reply: &mut Writer<'_>,
) -> Answer {
    let Some(chunks) = worker.mapped.take(request.address, request.size) else {
        return Ok(CUresult::INVALID_VALUE);
    };
    let owner = chunks.first().map_or(0, |chunk| chunk.context);
    if worker.context_indices() == [owner] && !worker.waits.frees().any_in(owner) {
        let mut is_idle = false;
        worker
            .in_context(cuda::FarpoolGiveBack::CALL, owner, |worker| {
                is_idle = worker.is_all_idle();
                Ok(CUresult::SUCCESS)
            })
            .map_err(HandleError::Wire)?;
        if is_idle {
            return Ok(worker.mapped.give_back(&chunks));
        }
    }
    let (current, until) = if request.context == 0 {
        (CUcontext::NULL, Until::Now)
    } else {
        worker.work_of(cuda::FarpoolGiveBack::CALL, &[request.context]).map_err(HandleError::Wire)?
    };
    let mapped = Arc::clone(&worker.mapped);
    worker.waits.give_back(&mapped, chunks, (owner, current), until);
    Ok(CUresult::SUCCESS)
}

/// `cuCtxEnablePeerAccess`
pub fn cuCtxEnablePeerAccess(
    worker: &mut Worker,
    request: cuda::CuCtxEnablePeerAccess,
    _reply: &mut Writer<'_>,
) -> Answer {
    let raw = worker.handles.get(cuda::CuCtxEnablePeerAccess::CALL, request.peer)?;
    let peer = CUcontext(address(raw));
    // SAFETY: the peer is alive: it is behind a live handle; the driver checks the flags.
    let code = unsafe { worker.driver.cuCtxEnablePeerAccess(peer, request.flags) };
    // A driver may remember the access to a context that was reset since, of whose memory this window knows nothing.
    let is_known = worker.mapped.is_peer(request.peer.index(), worker.context);
    if !code.is_success() && (code != CUresult::PEER_ACCESS_ALREADY_ENABLED || is_known) {
        return Ok(code);
    }
    let answer = worker
        .current_device()
        .and_then(|device| worker.mapped.enable_peer(request.peer.index(), worker.context, device));
    if let Err(code) = answer {
        // SAFETY: as above.
        let _ = unsafe { worker.driver.cuCtxDisablePeerAccess(peer) };
        return Ok(code);
    }
    Ok(CUresult::SUCCESS)
}

/// `cuCtxDisablePeerAccess`: the client has waited for what may use the memory.
pub fn cuCtxDisablePeerAccess(
    worker: &mut Worker,
    request: cuda::CuCtxDisablePeerAccess,
    _reply: &mut Writer<'_>,
) -> Answer {
    let raw = worker.handles.get(cuda::CuCtxDisablePeerAccess::CALL, request.peer)?;
    // SAFETY: the peer is alive: it is behind a live handle.
    let code = unsafe { worker.driver.cuCtxDisablePeerAccess(CUcontext(address(raw))) };
    if !code.is_success() {
        return Ok(code);
    }
    let answer = worker.mapped.disable_peer(request.peer.index(), worker.context);
    Ok(answer.err().unwrap_or(CUresult::SUCCESS))
}
