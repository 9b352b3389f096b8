//! Virtual memory management.

use std::ffi::c_void;

use cuda_abi::{
    CU_MEM_ALLOCATION_TYPE_PINNED, CU_MEM_LOCATION_TYPE_DEVICE, CUdeviceptr, CUmemAccessDesc,
    CUmemAllocationGranularity_flags, CUmemAllocationProp, CUmemGenericAllocationHandle, CUmemLocation,
    CUresult,
};

use crate::config::config;
use crate::context::CONTEXTS;
use crate::device::device;
use crate::guard::{Answer, exports, put};
use crate::virtual_memory::{self as pages, GRANULARITY, check_supported};

/// Minimum and recommended are the same.
const OPTIONS: CUmemAllocationGranularity_flags = 1;

/// The device that properties name.
///
/// # Safety
/// `properties` is null or readable.
unsafe fn located(properties: *const CUmemAllocationProp) -> Answer<i32> {
    // SAFETY: the caller's promise.
    let properties = unsafe { properties.as_ref() }.ok_or(CUresult::INVALID_VALUE)?;
    if properties.r#type != CU_MEM_ALLOCATION_TYPE_PINNED {
        return Err(CUresult::INVALID_VALUE);
    }
    if properties.requestedHandleTypes != 0 || properties.location.r#type != CU_MEM_LOCATION_TYPE_DEVICE {
        return Err(CUresult::NOT_SUPPORTED);
    }
    device(properties.location.id).map(|device| device.ordinal)
}

exports! {
    fn cuMemAddressReserve(ptr: *mut CUdeviceptr, size: usize, alignment: usize, addr: CUdeviceptr, flags: u64) {
        check_supported()?;
        if ptr.is_null() || flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        put(ptr, pages::reserve(size as u64, alignment as u64, addr)?)
    }

    fn cuMemAddressFree(ptr: CUdeviceptr, size: usize) {
        check_supported()?;
        pages::unreserve(ptr, size as u64)
    }

    fn cuMemCreate(
        handle: *mut CUmemGenericAllocationHandle, size: usize, prop: *const CUmemAllocationProp, flags: u64,
    ) {
        check_supported()?;
        if handle.is_null() || flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        put(handle, pages::create(located(prop)?, size as u64)?)
    }

    fn cuMemRelease(handle: CUmemGenericAllocationHandle) {
        check_supported()?;
        pages::release(handle)
    }

    fn cuMemRetainAllocationHandle(handle: *mut CUmemGenericAllocationHandle, addr: *mut c_void) {
        check_supported()?;
        if handle.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        put(handle, pages::retain(addr.expose_provenance() as u64)?)
    }

    fn cuMemMap(ptr: CUdeviceptr, size: usize, offset: usize, handle: CUmemGenericAllocationHandle, flags: u64) {
        check_supported()?;
        if offset != 0 || flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        pages::map(ptr, size as u64, handle)
    }

    fn cuMemUnmap(ptr: CUdeviceptr, size: usize) {
        check_supported()?;
        if config().unkind.free_waits {
            // As a free waits for the contexts that reach the memory.
            let users = pages::users(ptr, size as u64);
            for context in CONTEXTS.all().into_iter().filter(|context| users.contains(&context.device.ordinal)) {
                let _ = context.synchronize();
            }
        }
        pages::unmap(ptr, size as u64)
    }

    fn cuMemSetAccess(ptr: CUdeviceptr, size: usize, desc: *const CUmemAccessDesc, count: usize) {
        check_supported()?;
        if desc.is_null() || count == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        for index in 0..count {
            let wanted = desc.add(index).read();
            if wanted.location.r#type != CU_MEM_LOCATION_TYPE_DEVICE {
                return Err(CUresult::NOT_SUPPORTED);
            }
            pages::set_access(ptr, size as u64, wanted.location.id, wanted.flags)?;
        }
        Ok(())
    }

    fn cuMemGetAccess(flags: *mut u64, location: *const CUmemLocation, ptr: CUdeviceptr) {
        check_supported()?;
        let location = location.as_ref().ok_or(CUresult::INVALID_VALUE)?;
        if location.r#type != CU_MEM_LOCATION_TYPE_DEVICE {
            return Err(CUresult::NOT_SUPPORTED);
        }
        put(flags, u64::from(pages::access(ptr, location.id)?))
    }

    fn cuMemGetAllocationGranularity(
        granularity: *mut usize, prop: *const CUmemAllocationProp, option: CUmemAllocationGranularity_flags,
    ) {
        check_supported()?;
        located(prop)?;
        if option > OPTIONS {
            return Err(CUresult::INVALID_VALUE);
        }
        put(granularity, GRANULARITY as usize)
    }

    fn cuMemGetAllocationPropertiesFromHandle(prop: *mut CUmemAllocationProp, handle: CUmemGenericAllocationHandle) {
        check_supported()?;
        let id = pages::properties(handle)?;
        put(prop, CUmemAllocationProp {
            r#type: CU_MEM_ALLOCATION_TYPE_PINNED,
            requestedHandleTypes: 0,
            location: CUmemLocation { r#type: CU_MEM_LOCATION_TYPE_DEVICE, id },
            win32HandleMetaData: std::ptr::null_mut(),
            compressionType: 0,
            gpuDirectRDMACapable: 0,
            usage: 0,
            reserved: [0; 4],
        })
    }
}
