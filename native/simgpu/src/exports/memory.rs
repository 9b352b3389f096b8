//! Allocation of device, managed and host memory.

use std::ffi::c_void;

use cuda_abi::{
    CUdevice, CUdeviceptr, CUmem_advise, CUmem_range_attribute, CUmemLocation, CUresult, CUstream,
};

use crate::capture;
use crate::config::config;
use crate::context::{current, synchronize_all};
use crate::device::memory_info;
use crate::guard::{exports, put, put_optional};
use crate::memory::{self, Kind, find};

const ATTACH_GLOBAL: u32 = 1;
const ATTACH_HOST: u32 = 2;
/// Portable, mapped, write-combined.
const HOST_ALLOC_FLAGS: u32 = 7;
/// Portable, mapped, I/O memory, read-only.
const HOST_REGISTER_FLAGS: u32 = 15;
/// Rows of pitched memory begin at multiples of this.
const PITCH: usize = 512;

exports! {
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let (free_bytes, total_bytes) = memory_info(current()?.device);
        put(free, free_bytes as usize)?;
        put(total, total_bytes as usize)
    }

    fn cuMemAlloc_v2(dptr: *mut CUdeviceptr, bytesize: usize) {
        if dptr.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        capture::unsafe_call()?;
        put(dptr, memory::allocate(&current()?, bytesize as u64, Kind::Device, 0, None)?.start)
    }

    fn cuMemAllocPitch_v2(
        dptr: *mut CUdeviceptr, pPitch: *mut usize, WidthInBytes: usize, Height: usize, ElementSizeBytes: u32,
    ) {
        if dptr.is_null() || pPitch.is_null() || !matches!(ElementSizeBytes, 4 | 8 | 16) {
            return Err(CUresult::INVALID_VALUE);
        }
        let pitch = WidthInBytes.checked_next_multiple_of(PITCH).ok_or(CUresult::INVALID_VALUE)?;
        let bytes = pitch.checked_mul(Height).ok_or(CUresult::INVALID_VALUE)?;
        capture::unsafe_call()?;
        put(dptr, memory::allocate(&current()?, bytes as u64, Kind::Device, 0, None)?.start)?;
        put(pPitch, pitch)
    }

    fn cuMemAllocManaged(dptr: *mut CUdeviceptr, bytesize: usize, flags: u32) {
        if dptr.is_null() || !matches!(flags, ATTACH_GLOBAL | ATTACH_HOST) {
            return Err(CUresult::INVALID_VALUE);
        }
        capture::unsafe_call()?;
        put(dptr, memory::allocate(&current()?, bytesize as u64, Kind::Managed, flags, None)?.start)
    }

    fn cuMemFree_v2(dptr: CUdeviceptr) {
        let context = current()?;
        if dptr == 0 {
            return Ok(());
        }
        capture::unsafe_call()?;
        if let Some(memory) = crate::graph::memory::find(dptr) {
            context.synchronize()?;
            return if memory.set_outstanding(false) { Ok(()) } else { Err(CUresult::INVALID_VALUE) };
        }
        let allocation = find(dptr).filter(|allocation| allocation.start == dptr).ok_or(CUresult::INVALID_VALUE)?;
        if config().unkind.free_waits {
            // Also where another context of the process uses the memory.
            let owner = allocation.context.upgrade().unwrap_or_else(|| context.clone());
            owner.synchronize()?;
            if owner.id != context.id {
                context.synchronize()?;
            }
        }
        memory::free_device(dptr)
    }

    fn cuMemGetAddressRange_v2(pbase: *mut CUdeviceptr, psize: *mut usize, dptr: CUdeviceptr) {
        current()?;
        let allocation = find(dptr).ok_or(CUresult::NOT_FOUND)?;
        put_optional(pbase, allocation.start);
        put_optional(psize, allocation.size as usize);
        Ok(())
    }

    fn cuMemAllocHost_v2(pp: *mut *mut c_void, bytesize: usize) {
        cuMemHostAlloc(pp, bytesize, 0).into_result()
    }

    fn cuMemHostAlloc(pp: *mut *mut c_void, bytesize: usize, Flags: u32) {
        if pp.is_null() || Flags & !HOST_ALLOC_FLAGS != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        capture::unsafe_call()?;
        let allocation = memory::allocate_pinned(&current()?, bytesize as u64, Flags)?;
        put(pp, std::ptr::with_exposed_provenance_mut(allocation.start as usize))
    }

    fn cuMemFreeHost(p: *mut c_void) {
        current()?;
        if p.is_null() {
            return Ok(());
        }
        capture::unsafe_call()?;
        let start = p.expose_provenance() as u64;
        find(start).filter(|it| it.start == start && it.kind == Kind::Pinned).ok_or(CUresult::INVALID_VALUE)?;
        // Always waits: the memory goes back to the system, and a kernel may still use it.
        synchronize_all();
        memory::free_pinned(start)
    }

    fn cuMemHostRegister_v2(p: *mut c_void, bytesize: usize, Flags: u32) {
        if Flags & !HOST_REGISTER_FLAGS != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        capture::unsafe_call()?;
        memory::register(&current()?, p.expose_provenance() as u64, bytesize as u64, Flags)
    }

    fn cuMemHostUnregister(p: *mut c_void) {
        current()?;
        capture::unsafe_call()?;
        synchronize_all();
        memory::unregister(p.expose_provenance() as u64)
    }

    fn cuMemHostGetDevicePointer_v2(pdptr: *mut CUdeviceptr, p: *mut c_void, Flags: u32) {
        current()?;
        let address = p.expose_provenance() as u64;
        if Flags != 0 || !find(address).is_some_and(|allocation| allocation.is_host()) {
            return Err(CUresult::INVALID_VALUE);
        }
        put(pdptr, address)
    }

    fn cuMemHostGetFlags(pFlags: *mut u32, p: *mut c_void) {
        current()?;
        let allocation = find(p.expose_provenance() as u64).filter(|it| it.is_host()).ok_or(CUresult::INVALID_VALUE)?;
        put(pFlags, allocation.flags)
    }

    fn cuMemAdvise(devPtr: CUdeviceptr, count: usize, advice: CUmem_advise, device: CUdevice) {
        let _ = (count, advice, device);
        current()?;
        find(devPtr).filter(|it| it.kind == Kind::Managed).map(|_| ()).ok_or(CUresult::INVALID_VALUE)
    }

    fn cuMemAdvise_v2(devPtr: CUdeviceptr, count: usize, advice: CUmem_advise, location: CUmemLocation) {
        let _ = location;
        cuMemAdvise(devPtr, count, advice, 0).into_result()
    }

    fn cuMemPrefetchAsync(devPtr: CUdeviceptr, count: usize, dstDevice: CUdevice, hStream: CUstream) {
        let _ = (count, dstDevice);
        crate::stream::stream(hStream)?;
        find(devPtr).filter(|it| it.kind == Kind::Managed).ok_or(CUresult::INVALID_VALUE)?;
        // A device without concurrent managed access cannot prefetch, as real ones answer.
        Err(CUresult::INVALID_DEVICE)
    }

    fn cuMemPrefetchAsync_v2(
        devPtr: CUdeviceptr, count: usize, location: CUmemLocation, flags: u32, hStream: CUstream,
    ) {
        let _ = flags;
        cuMemPrefetchAsync(devPtr, count, location.id, hStream).into_result()
    }

    fn cuMemRangeGetAttribute(
        data: *mut c_void, dataSize: usize, attribute: CUmem_range_attribute, devPtr: CUdeviceptr, count: usize,
    ) {
        let _ = (attribute, count);
        find(devPtr).filter(|it| it.kind == Kind::Managed).ok_or(CUresult::INVALID_VALUE)?;
        if dataSize < 4 {
            return Err(CUresult::INVALID_VALUE);
        }
        // Nothing was advised, preferred or prefetched: 0, and -2 (no such device) for locations.
        put(data.cast::<i32>(), if matches!(attribute, 2 | 4) { -2 } else { 0 })
    }
}
