//! Stream-ordered allocation and memory pools.

use std::ffi::c_void;

use cuda_abi as abi;
use cuda_abi::{
    CUdevice, CUdeviceptr, CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationType, CUmemLocation,
    CUmemPool_attribute, CUmemPoolProps, CUmemoryPool, CUresult, CUstream,
};
use wire::cuda;
use wire::handle::{Context, Handle, MemoryPool, Stream};

use crate::capture;
use crate::client::Client;
use crate::convert::{opaque, out};
use crate::entry::Answer;
use crate::graph::action::Action;
use crate::graph::memory::{self, GraphMemory};
use crate::memory::RangeKind;
use crate::{context, credit, reserve, servers, stream};

exports! {
    fn cuMemAllocAsync(dptr: *mut CUdeviceptr, bytesize: usize, hStream: CUstream) enter |client| {
        let place = out(dptr)?;
        let (stream, device) = target(client, hStream)?;
        if let Some(address) = captured(client, stream, bytesize)? {
            *place = address;
            return Ok(());
        }
        *place = from_pool(client, bytesize, client.pools.current_of(client, device)?, stream)?;
        Ok(())
    }

    fn cuMemAllocFromPoolAsync(
        dptr: *mut CUdeviceptr,
        bytesize: usize,
        pool: CUmemoryPool,
        hStream: CUstream,
    ) enter |client| {
        let place = out(dptr)?;
        let (stream, device) = target(client, hStream)?;
        let pool = known(client, pool)?;
        if let Some(address) = captured(client, stream, bytesize)? {
            *place = address;
            return Ok(());
        }
        if client.pools.state(pool)?.device != device {
            return Err(CUresult::INVALID_VALUE);
        }
        *place = from_pool(client, bytesize, pool, stream)?;
        Ok(())
    }

    fn cuMemFreeAsync(dptr: CUdeviceptr, hStream: CUstream) enter |client| {
        let (stream, _) = target(client, hStream)?;
        let node = || memory::find(dptr).map(|_| Action::Free(dptr)).ok_or(CUresult::INVALID_VALUE);
        if capture::record(client, stream, node)? {
            return Ok(());
        }
        if let Some(memory) = memory::find(dptr) {
            return if memory.set_outstanding(false) { Ok(()) } else { Err(CUresult::INVALID_VALUE) };
        }
        let known = client.ranges.remove(dptr, |range| range.kind.is_freeable());
        let range = known.ok_or(CUresult::INVALID_VALUE)?;
        match range.kind {
            RangeKind::Pooled(_) => {
                reserve::give(range.start, range.length);
                client.post(&cuda::CuMemFreeAsync { address: dptr, stream })
            }
            _ => {
                let context = capture::context_of(client, stream)?;
                credit::free_in_order(client, &range, (context, stream))
            }
        }
    }

    fn cuDeviceGetDefaultMemPool(pool_out: *mut CUmemoryPool, dev: CUdevice) enter_local |client| {
        let client = servers::with_device(client, dev)?;
        let device = client.devices.index(dev)?;
        let place = out(pool_out)?;
        *place = opaque(client.pools.default_of(client, device)?);
        Ok(())
    }

    fn cuDeviceGetMemPool(pool: *mut CUmemoryPool, dev: CUdevice) enter_local |client| {
        let client = servers::with_device(client, dev)?;
        let device = client.devices.index(dev)?;
        let place = out(pool)?;
        *place = opaque(client.pools.current_of(client, device)?);
        Ok(())
    }

    fn cuDeviceSetMemPool(dev: CUdevice, pool: CUmemoryPool) enter_local |client| {
        let client = servers::with_device(client, dev)?;
        let device = client.devices.index(dev)?;
        set_current(client, device, pool)
    }

    fn cuMemGetDefaultMemPool(
        pool_out: *mut CUmemoryPool,
        location: *mut CUmemLocation,
        r#type: CUmemAllocationType,
    ) enter_local |client| {
        let (client, device) = located(client, location, r#type)?;
        let place = out(pool_out)?;
        *place = opaque(client.pools.default_of(client, device)?);
        Ok(())
    }

    fn cuMemGetMemPool(
        pool: *mut CUmemoryPool,
        location: *mut CUmemLocation,
        r#type: CUmemAllocationType,
    ) enter_local |client| {
        let (client, device) = located(client, location, r#type)?;
        let place = out(pool)?;
        *place = opaque(client.pools.current_of(client, device)?);
        Ok(())
    }

    fn cuMemSetMemPool(
        location: *mut CUmemLocation,
        r#type: CUmemAllocationType,
        pool: CUmemoryPool,
    ) enter_local |client| {
        let (client, device) = located(client, location, r#type)?;
        set_current(client, device, pool)
    }

    fn cuMemPoolCreate(pool: *mut CUmemoryPool, poolProps: *const CUmemPoolProps) enter |client| {
        let place = out(pool)?;
        let wanted = poolProps.as_ref().ok_or(CUresult::INVALID_VALUE)?;
        if wanted.allocType != abi::CU_MEM_ALLOCATION_TYPE_PINNED {
            return Err(CUresult::INVALID_VALUE);
        }
        if wanted.handleTypes != 0 || wanted.location.r#type != abi::CU_MEM_LOCATION_TYPE_DEVICE {
            crate::report::once("memory pools between processes or in host memory are not supported by Farpool yet");
            return Err(CUresult::NOT_SUPPORTED);
        }
        let client = servers::with_device(client, wanted.location.id)?;
        let device = client.devices.index(wanted.location.id)?;
        let made: MemoryPool = client.new_handle();
        let request = cuda::CuMemPoolCreate {
            pool: made,
            device: client.devices.get(wanted.location.id)?.session_ordinal,
            max_size: wanted.maxSize as u64,
        };
        servers::at(client, || client.post_anywhere(&request))?;
        client.pools.insert(made, device, false);
        *place = opaque(made);
        Ok(())
    }

    fn cuMemPoolDestroy(pool: CUmemoryPool) enter |client| {
        let pool = known(client, pool)?;
        if client.pools.state(pool)?.is_default {
            return Err(CUresult::INVALID_VALUE);
        }
        client.pools.remove(pool);
        client.post_anywhere(&cuda::CuMemPoolDestroy { pool })
    }

    fn cuMemPoolTrimTo(pool: CUmemoryPool, minBytesToKeep: usize) enter |client| {
        let pool = known(client, pool)?;
        client.post_anywhere(&cuda::CuMemPoolTrimTo { pool, keep: minBytesToKeep as u64 })
    }

    fn cuMemPoolSetAttribute(pool: CUmemoryPool, attr: CUmemPool_attribute, value: *mut c_void) enter |client| {
        let pool = known(client, pool)?;
        if value.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let given = match attr {
            abi::CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES
                ..=abi::CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES => u64::from(value.cast::<u32>().read()),
            abi::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD => value.cast::<u64>().read(),
            // High-water marks can only be reset.
            abi::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH | abi::CU_MEMPOOL_ATTR_USED_MEM_HIGH
                if value.cast::<u64>().read() == 0 => 0,
            _ => return Err(CUresult::INVALID_VALUE),
        };
        client.pools.set_attribute(pool, attr, given);
        client.post_anywhere(&cuda::CuMemPoolSetAttribute { pool, attribute: attr, value: given })
    }

    fn cuMemPoolGetAttribute(pool: CUmemoryPool, attr: CUmemPool_attribute, value: *mut c_void) enter |client| {
        let pool = known(client, pool)?;
        let is_known = (abi::CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES
            ..=abi::CU_MEMPOOL_ATTR_USED_MEM_HIGH).contains(&attr);
        if value.is_null() || !is_known {
            return Err(CUresult::INVALID_VALUE);
        }
        let answer = match client.pools.attribute(pool, attr)? {
            Some(answer) => answer,
            None => {
                let pieces = client.pools.of_pieces(pool, attr)?;
                if !client.pools.was_asked(pool)? {
                    client.count_local();
                    pieces
                } else {
                    client.call(&cuda::CuMemPoolGetAttribute { pool, attribute: attr })?.value + pieces
                }
            }
        };
        if attr < abi::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD {
            value.cast::<u32>().write(u32::try_from(answer).unwrap_or(u32::MAX));
        } else {
            value.cast::<u64>().write(answer);
        }
        Ok(())
    }

    fn cuMemPoolSetAccess(pool: CUmemoryPool, map: *const CUmemAccessDesc, count: usize) enter |client| {
        let pool = known(client, pool)?;
        if count > 0 && map.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let own = client.pools.state(pool)?.device;
        for position in 0..count {
            let wanted = map.add(position).read();
            let device = client.devices.index(wanted.location.id)?;
            if device == own {
                continue;
            }
            if client.devices.get(wanted.location.id)?.server != client.server {
                // As CUDA answers for a device that cannot reach the pool's.
                return Err(CUresult::INVALID_DEVICE);
            }
            client.call(&cuda::CuMemPoolSetAccess {
                pool,
                device: client.devices.get(wanted.location.id)?.session_ordinal,
                flags: wanted.flags,
            })?;
            client.pools.set_access(pool, device, wanted.flags);
        }
        Ok(())
    }

    fn cuMemPoolGetAccess(
        flags: *mut CUmemAccess_flags,
        memPool: CUmemoryPool,
        location: *mut CUmemLocation,
    ) enter_local |client| {
        let pool = known(client, memPool)?;
        let location = location.as_ref().ok_or(CUresult::INVALID_VALUE)?;
        let device = client.devices.index(location.id)?;
        *out(flags)? = client.pools.state(pool)?.access(device);
        Ok(())
    }
}

/// A pool that exists.
fn known(client: &Client, pool: CUmemoryPool) -> Answer<MemoryPool> {
    let pool = MemoryPool::from_raw(pool.0 as u64);
    client.pools.state(pool).map(|_| pool)
}

/// The stream of an allocation, and the device that it is on.
fn target(client: &Client, stream: CUstream) -> Answer<(Stream, usize)> {
    let (_, current) = client.contexts.current()?;
    let stream = stream::find(client, stream.0 as u64)?;
    let device = match client.streams.state(stream) {
        Ok(state) => client.contexts.state(state.context)?.device,
        // A default stream.
        Err(_) => current.device,
    };
    Ok((stream, device))
}

/// The address of an allocation node, where the stream captures.
fn captured(client: &Client, stream: Stream, size: usize) -> Answer<Option<CUdeviceptr>> {
    let mut address = None;
    capture::record(client, stream, || {
        if size == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let context = capture::context_of(client, stream)?;
        let device = client.contexts.state(context)?.device;
        let memory = GraphMemory::create(client, context, device, size as u64)?;
        address = Some(memory.address());
        Ok(Action::Allocate(memory))
    })?;
    Ok(address)
}

fn from_pool(client: &Client, size: usize, pool: MemoryPool, stream: Stream) -> Answer<CUdeviceptr> {
    let context = capture::context_of(client, stream)?;
    context::within(context, || from_pool_here(client, context, size, pool, stream))
}

fn from_pool_here(
    client: &Client,
    context: Context,
    size: usize,
    pool: MemoryPool,
    stream: Stream,
) -> Answer<CUdeviceptr> {
    let state = client.contexts.state(context)?;
    if size == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let length = size as u64;
    if client.pools.takes_pieces(pool, state.device)
        && let Some(address) =
            credit::allocate_of_pool(client, (context, state.device), length, (pool, stream))?
    {
        return Ok(address);
    }
    let address = credit::secure(client, state.device, length, || {
        client.pools.ask(pool);
        let request = cuda::CuMemAllocFromPoolAsync { pool, size: length, stream };
        client.call(&request).map(|reply| reply.address)
    })?;
    client.ranges.insert(address, length, RangeKind::Pooled(pool), context, state.device);
    Ok(address)
}

fn set_current(client: &Client, device: usize, pool: CUmemoryPool) -> Answer {
    let pool = known(client, pool)?;
    if client.pools.state(pool)?.device != device {
        return Err(CUresult::INVALID_VALUE);
    }
    client.pools.set_current(device, pool);
    Ok(())
}

/// The device of a location, and the client of its server.
///
/// # Safety
/// `location` is null or readable.
unsafe fn located(
    client: &'static Client,
    location: *mut CUmemLocation,
    kind: CUmemAllocationType,
) -> Answer<(&'static Client, usize)> {
    // SAFETY: the caller's promise.
    let location = unsafe { location.as_ref() }.ok_or(CUresult::INVALID_VALUE)?;
    if kind != abi::CU_MEM_ALLOCATION_TYPE_PINNED {
        return Err(CUresult::INVALID_VALUE);
    }
    if location.r#type != abi::CU_MEM_LOCATION_TYPE_DEVICE {
        crate::report::once("memory pools in host memory are not supported by Farpool yet");
        return Err(CUresult::NOT_SUPPORTED);
    }
    Ok((servers::with_device(client, location.id)?, client.devices.index(location.id)?))
}
