//! Stream-ordered allocation.

use std::ffi::c_void;
use std::sync::Arc;

use cuda_abi as abi;
use cuda_abi::{CUmemAccessDesc, CUmemLocation, CUmemPoolProps, CUmemoryPool, CUresult};
use wire::handle::Handle as _;
use wire::{CallId, Reply as _, Request, WireError, Writer, cuda, handle};

use super::launches::stream_of;
use super::{Answer, memory_left};
use crate::handles::HandleError;
use crate::pools::Pool;
use crate::waits::{Then, Until, WaiterKey};
use crate::worker::Worker;

/// Attributes from here on are 64 bits wide, those before are an `int`.
const FIRST_WIDE: i32 = abi::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;

/// The pool that the client knows as a device's default pool is the driver's.
pub fn farpoolDefaultPool(
    worker: &mut Worker,
    request: cuda::FarpoolDefaultPool,
    _reply: &mut Writer<'_>,
) -> Answer {
    let mut raw = CUmemoryPool::NULL;
    // SAFETY: `raw` is a valid place; the driver checks the device.
    let code = unsafe { worker.driver.cuDeviceGetDefaultMemPool(&raw mut raw, request.device) };
    if code.is_success() && worker.pools.knows(raw) {
        // A second account of what it holds would be wrong.
        let (call, kind) = (cuda::FarpoolDefaultPool::CALL, handle::MemoryPool::KIND.cuda_name());
        return Err(HandleError::Wire(WireError::HandleTaken { call, kind, id: request.pool.raw() }));
    }
    made(worker, cuda::FarpoolDefaultPool::CALL, request.pool, (request.device, true), raw, code)
}

/// `cuMemPoolCreate`
pub fn cuMemPoolCreate(
    worker: &mut Worker,
    request: cuda::CuMemPoolCreate,
    _reply: &mut Writer<'_>,
) -> Answer {
    let Ok(maximum) = usize::try_from(request.max_size) else { return Ok(CUresult::INVALID_VALUE) };
    let properties = CUmemPoolProps {
        allocType: abi::CU_MEM_ALLOCATION_TYPE_PINNED,
        handleTypes: 0,
        location: CUmemLocation { r#type: abi::CU_MEM_LOCATION_TYPE_DEVICE, id: request.device },
        win32SecurityAttributes: std::ptr::null_mut(),
        maxSize: maximum,
        usage: 0,
        reserved: [0; 54],
    };
    let mut raw = CUmemoryPool::NULL;
    // SAFETY: both are valid places; the driver checks what they hold.
    let code = unsafe { worker.driver.cuMemPoolCreate(&raw mut raw, &raw const properties) };
    made(worker, cuda::CuMemPoolCreate::CALL, request.pool, (request.device, false), raw, code)
}

fn made(
    worker: &mut Worker,
    call: CallId,
    pool: handle::MemoryPool,
    (device, is_default): (i32, bool),
    raw: CUmemoryPool,
    code: CUresult,
) -> Answer {
    worker.handles.check_free(call, pool).map_err(HandleError::Wire)?;
    let Ok(device) = usize::try_from(device) else { return Ok(CUresult::INVALID_DEVICE) };
    if code.is_success() {
        worker.pools.insert(pool, &worker.driver, raw, (device, is_default));
    }
    worker.handles.put(pool, code.into_result().map(|()| raw.0 as u64));
    Ok(code)
}

/// `cuMemPoolDestroy`
pub fn cuMemPoolDestroy(
    worker: &mut Worker,
    request: cuda::CuMemPoolDestroy,
    _reply: &mut Writer<'_>,
) -> Answer {
    let pool = pool(worker, cuda::CuMemPoolDestroy::CALL, request.pool)?;
    if pool.is_default() {
        // The driver would refuse, and what the pool holds must go on counting.
        return Ok(CUresult::INVALID_VALUE);
    }
    // From here on nobody asks the driver about it.
    worker.pools.destroyed(request.pool, &worker.memory);
    worker.handles.remove(request.pool);
    // SAFETY: the pool is alive and its handle is gone now.
    Ok(unsafe { worker.driver.cuMemPoolDestroy(pool.raw()) })
}

/// `cuMemPoolTrimTo`
pub fn cuMemPoolTrimTo(
    worker: &mut Worker,
    request: cuda::CuMemPoolTrimTo,
    _reply: &mut Writer<'_>,
) -> Answer {
    let pool = pool(worker, cuda::CuMemPoolTrimTo::CALL, request.pool)?;
    Ok(pool.trim(usize::try_from(request.keep).unwrap_or(usize::MAX), &worker.memory))
}

/// `cuMemPoolSetAttribute`
pub fn cuMemPoolSetAttribute(
    worker: &mut Worker,
    request: cuda::CuMemPoolSetAttribute,
    _reply: &mut Writer<'_>,
) -> Answer {
    let pool = pool(worker, cuda::CuMemPoolSetAttribute::CALL, request.pool)?;
    let mut value = request.value;
    // SAFETY: little-endian, so the place holds the value as an int too; the driver checks the attribute.
    Ok(unsafe {
        worker.driver.cuMemPoolSetAttribute(pool.raw(), request.attribute, (&raw mut value).cast::<c_void>())
    })
}

/// `cuMemPoolGetAttribute`
pub fn cuMemPoolGetAttribute(
    worker: &mut Worker,
    request: cuda::CuMemPoolGetAttribute,
    reply: &mut Writer<'_>,
) -> Answer {
    let pool = pool(worker, cuda::CuMemPoolGetAttribute::CALL, request.pool)?;
    let mut value = 0u64;
    // SAFETY: the place is as wide as the widest attribute; the driver checks which it is.
    let code = unsafe {
        worker.driver.cuMemPoolGetAttribute(pool.raw(), request.attribute, (&raw mut value).cast::<c_void>())
    };
    if request.attribute < FIRST_WIDE {
        value &= u64::from(u32::MAX);
    }
    cuda::CuMemPoolGetAttributeReply { value }.encode(reply);
    Ok(code)
}

/// `cuMemPoolSetAccess`, for one device.
pub fn cuMemPoolSetAccess(
    worker: &mut Worker,
    request: cuda::CuMemPoolSetAccess,
    _reply: &mut Writer<'_>,
) -> Answer {
    let pool = pool(worker, cuda::CuMemPoolSetAccess::CALL, request.pool)?;
    let location = CUmemLocation { r#type: abi::CU_MEM_LOCATION_TYPE_DEVICE, id: request.device };
    let access = CUmemAccessDesc { location, flags: request.flags };
    // SAFETY: one element, as the count says; the driver checks it.
    Ok(unsafe { worker.driver.cuMemPoolSetAccess(pool.raw(), &raw const access, 1) })
}

/// `cuMemAllocFromPoolAsync`; `cuMemAllocAsync` comes as the same with the device's current pool.
pub fn cuMemAllocFromPoolAsync(
    worker: &mut Worker,
    request: cuda::CuMemAllocFromPoolAsync,
    reply: &mut Writer<'_>,
) -> Answer {
    let call = cuda::CuMemAllocFromPoolAsync::CALL;
    let pool = pool(worker, call, request.pool)?;
    let stream = stream_of(worker, call, request.stream)?;
    let Ok(size) = usize::try_from(request.size) else { return Ok(CUresult::OUT_OF_MEMORY) };
    let mut answer = pool.allocate(&worker.memory, size, stream);
    if answer == Err(CUresult::OUT_OF_MEMORY) {
        worker.pools.trim(pool.device(), &worker.memory);
        answer = pool.allocate(&worker.memory, size, stream);
    }
    if answer == Err(CUresult::OUT_OF_MEMORY) {
        let left = memory_left(worker).map_or(0, |(free, _)| free);
        worker.must_wait_for_memory(pool.device(), request.size, left);
    }
    match answer {
        Ok((address, bytes)) => {
            worker.memory.allocated_from(&pool, address, worker.context, bytes);
            cuda::CuMemAllocFromPoolAsyncReply { address }.encode(reply);
            Ok(CUresult::SUCCESS)
        }
        Err(code) => {
            cuda::CuMemAllocFromPoolAsyncReply { address: 0 }.encode(reply);
            Ok(code)
        }
    }
}

/// `cuMemFreeAsync`: the account follows when the stream has got there.
pub fn cuMemFreeAsync(worker: &mut Worker, request: cuda::CuMemFreeAsync, _reply: &mut Writer<'_>) -> Answer {
    let stream = stream_of(worker, cuda::CuMemFreeAsync::CALL, request.stream)?;
    let Some(allocation) = worker.memory.take(request.address) else { return Ok(CUresult::INVALID_VALUE) };
    // SAFETY: the address is one that this worker allocated and that was not freed since.
    let code = unsafe { worker.driver.cuMemFreeAsync(request.address, stream) };
    if !code.is_success() {
        worker.memory.put_back(request.address, allocation);
        return Ok(code);
    }
    match worker.waits.mark(worker.current(), stream) {
        Ok(event) => worker.waits.push(
            WaiterKey::Stream(worker.context, stream.0),
            worker.current(),
            Until::Own(event),
            Then::Settle(allocation),
        ),
        // The context is lost: nothing of it is left to be waited for.
        Err(_) => worker.memory.settle(allocation),
    }
    Ok(code)
}

fn pool(worker: &Worker, call: CallId, pool: handle::MemoryPool) -> Result<Arc<Pool>, HandleError> {
    worker.handles.get(call, pool)?;
    worker.pools.find(pool).cloned().ok_or(HandleError::Poisoned(CUresult::INVALID_VALUE))
}
