//! Stream-ordered allocation and memory pools.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cuda_abi::{
    CUdevice, CUdeviceptr, CUmemAccess_flags, CUmemAccessDesc, CUmemAllocationType, CUmemLocation,
    CUmemPool_attribute, CUmemPoolProps, CUmemoryPool, CUresult, CUstream,
};

use crate::capture;
use crate::device::{device, lock};
use crate::graph::action::Action;
use crate::graph::{self, memory::GraphMemory};
use crate::guard::{Answer, exports, put};
use crate::memory::{self, Kind, find, reserved_size};
use crate::pool::{POOLS, Pool};
use crate::stream::{Stream, Work, stream};
use ::graph::handle;

const LOCATION_DEVICE: i32 = 1;
const ALLOCATION_PINNED: i32 = 1;
const READ_WRITE: CUmemAccess_flags = 3;

fn pool(handle: CUmemoryPool) -> Answer<Arc<Pool>> {
    POOLS.find(handle.0).ok_or(CUresult::INVALID_VALUE)
}

fn allocate(stream: &Arc<Stream>, pool: Arc<Pool>, size: usize) -> Answer<CUdeviceptr> {
    if size == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    if pool.device != stream.context.device.ordinal {
        return Err(CUresult::INVALID_VALUE);
    }
    let bytes = reserved_size(size as u64);
    if !pool.take(bytes) {
        return Err(CUresult::OUT_OF_MEMORY);
    }
    memory::allocate(&stream.context, size as u64, Kind::Device, 0, Some(Arc::clone(&pool)))
        .map(|allocation| allocation.start)
        .inspect_err(|_| pool.released(bytes))
}

/// The address of an allocation node, where the stream captures.
fn captured(stream: &Arc<Stream>, size: usize) -> Answer<Option<CUdeviceptr>> {
    let mut address = None;
    capture::record(stream, || {
        let memory = GraphMemory::create(&stream.context, size as u64)?;
        address = Some(memory.address());
        Ok(Action::Allocate(memory))
    })?;
    Ok(address)
}

exports! {
    fn cuMemAllocAsync(dptr: *mut CUdeviceptr, bytesize: usize, hStream: CUstream) {
        if dptr.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let stream = stream(hStream)?;
        if let Some(address) = captured(&stream, bytesize)? {
            return put(dptr, address);
        }
        let pool = Arc::clone(&lock(&stream.context.device.current_pool));
        put(dptr, allocate(&stream, pool, bytesize)?)
    }

    fn cuMemAllocFromPoolAsync(dptr: *mut CUdeviceptr, bytesize: usize, pool: CUmemoryPool, hStream: CUstream) {
        if dptr.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let stream = stream(hStream)?;
        let pool = self::pool(pool)?;
        if let Some(address) = captured(&stream, bytesize)? {
            return put(dptr, address);
        }
        put(dptr, allocate(&stream, pool, bytesize)?)
    }

    fn cuMemFreeAsync(dptr: CUdeviceptr, hStream: CUstream) {
        let stream = stream(hStream)?;
        if capture::record(&stream, || graph::memory::find(dptr).map(|_| Action::Free(dptr)).ok_or(CUresult::INVALID_VALUE))? {
            return Ok(());
        }
        if let Some(memory) = graph::memory::find(dptr) {
            return if memory.set_outstanding(false) { Ok(()) } else { Err(CUresult::INVALID_VALUE) };
        }
        let allocation = find(dptr)
            .filter(|it| it.start == dptr && matches!(it.kind, Kind::Device | Kind::Managed))
            .ok_or(CUresult::INVALID_VALUE)?;
        if allocation.free_queued.swap(true, Ordering::AcqRel) {
            return Err(CUresult::INVALID_VALUE);
        }
        stream.submit(Work::Run(Box::new(move |_| {
            // Gone already when the program freed it otherwise meanwhile.
            let _ = memory::free_device(dptr);
            Ok(())
        })));
        Ok(())
    }

    fn cuDeviceGetDefaultMemPool(pool_out: *mut CUmemoryPool, dev: CUdevice) {
        put(pool_out, CUmemoryPool(handle(&device(dev)?.default_pool)))
    }

    fn cuDeviceGetMemPool(pool: *mut CUmemoryPool, dev: CUdevice) {
        put(pool, CUmemoryPool(handle(&lock(&device(dev)?.current_pool))))
    }

    fn cuDeviceSetMemPool(dev: CUdevice, pool: CUmemoryPool) {
        let device = device(dev)?;
        let pool = self::pool(pool)?;
        if pool.device != device.ordinal {
            return Err(CUresult::INVALID_VALUE);
        }
        *lock(&device.current_pool) = pool;
        Ok(())
    }

    fn cuMemGetDefaultMemPool(
        pool_out: *mut CUmemoryPool, location: *mut CUmemLocation, r#type: CUmemAllocationType,
    ) {
        if location.is_null() || r#type != ALLOCATION_PINNED {
            return Err(CUresult::INVALID_VALUE);
        }
        let place = location.read();
        if place.r#type != LOCATION_DEVICE {
            return Err(CUresult::NOT_SUPPORTED);
        }
        cuDeviceGetDefaultMemPool(pool_out, place.id).into_result()
    }

    fn cuMemPoolCreate(pool: *mut CUmemoryPool, poolProps: *const CUmemPoolProps) {
        if pool.is_null() || poolProps.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let wanted = poolProps.read();
        if wanted.allocType != ALLOCATION_PINNED {
            return Err(CUresult::INVALID_VALUE);
        }
        if wanted.handleTypes != 0 || wanted.location.r#type != LOCATION_DEVICE {
            return Err(CUresult::NOT_SUPPORTED);
        }
        let made = Arc::new(Pool::new(device(wanted.location.id)?.ordinal, wanted.maxSize as u64));
        put(pool, CUmemoryPool(POOLS.insert(&made)))
    }

    fn cuMemPoolDestroy(pool: CUmemoryPool) {
        let found = self::pool(pool)?;
        let device = device(found.device)?;
        if Arc::ptr_eq(&found, &device.default_pool) {
            return Err(CUresult::INVALID_VALUE);
        }
        let mut current = lock(&device.current_pool);
        if Arc::ptr_eq(&current, &found) {
            *current = Arc::clone(&device.default_pool);
        }
        POOLS.remove(pool.0);
        Ok(())
    }

    fn cuMemPoolTrimTo(pool: CUmemoryPool, minBytesToKeep: usize) {
        // Pools keep nothing back, so there is nothing to trim.
        let _ = minBytesToKeep;
        self::pool(pool).map(|_| ())
    }

    fn cuMemPoolSetAttribute(pool: CUmemoryPool, attr: CUmemPool_attribute, value: *mut c_void) {
        let pool = self::pool(pool)?;
        if value.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        match attr {
            1..=3 => pool.reuse[attr as usize - 1].store(value.cast::<u32>().read().into(), Ordering::Relaxed),
            4 => pool.release_threshold.store(value.cast::<u64>().read(), Ordering::Relaxed),
            // Only resetting to 0 is allowed for the high-water marks.
            6 | 8 if value.cast::<u64>().read() == 0 => {
                pool.used_high.store(pool.used.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            _ => return Err(CUresult::INVALID_VALUE),
        }
        Ok(())
    }

    fn cuMemPoolGetAttribute(pool: CUmemoryPool, attr: CUmemPool_attribute, value: *mut c_void) {
        let pool = self::pool(pool)?;
        match attr {
            1..=3 => put(value.cast::<u32>(), pool.reuse[attr as usize - 1].load(Ordering::Relaxed) as u32),
            4 => put(value.cast::<u64>(), pool.release_threshold.load(Ordering::Relaxed)),
            5 | 7 => put(value.cast::<u64>(), pool.used.load(Ordering::Relaxed)),
            6 | 8 => put(value.cast::<u64>(), pool.used_high.load(Ordering::Relaxed)),
            _ => Err(CUresult::INVALID_VALUE),
        }
    }

    fn cuMemPoolSetAccess(pool: CUmemoryPool, map: *const CUmemAccessDesc, count: usize) {
        let pool = self::pool(pool)?;
        for index in 0..count {
            if map.is_null() {
                return Err(CUresult::INVALID_VALUE);
            }
            let wanted = map.add(index).read();
            device(wanted.location.id)?;
            if wanted.location.id != pool.device {
                return Err(CUresult::NOT_SUPPORTED);
            }
        }
        Ok(())
    }

    fn cuMemPoolGetAccess(flags: *mut CUmemAccess_flags, memPool: CUmemoryPool, location: *mut CUmemLocation) {
        let pool = self::pool(memPool)?;
        if location.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        put(flags, if device(location.read().id)?.ordinal == pool.device { READ_WRITE } else { 0 })
    }
}
