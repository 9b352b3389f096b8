//! What a pointer is.

use std::ffi::c_void;
use std::sync::atomic::Ordering;

use cuda_abi::{CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_HOST, CUdeviceptr, CUpointer_attribute, CUresult};

use crate::context::current;
use crate::guard::{Answer, exports, put};
use crate::memory::{Allocation, Kind, find};
use graph::handle;

/// Writes one attribute; `unknown` says what a pointer that CUDA does not know gets.
///
/// # Safety
/// `data` is null or has room for the attribute's value.
unsafe fn attribute(
    data: *mut c_void,
    attribute: CUpointer_attribute,
    pointer: u64,
    it: &Allocation,
) -> Answer {
    let managed = it.kind == Kind::Managed;
    // SAFETY: the caller promises room for a value of the attribute's type, here and in all arms.
    unsafe {
        match attribute {
            1 => put(data.cast::<usize>(), it.context.upgrade().map_or(0, |context| context.handle())),
            2 => {
                put(data.cast::<i32>(), if it.is_host() { CU_MEMORYTYPE_HOST } else { CU_MEMORYTYPE_DEVICE })
            }
            3 => put(data.cast::<u64>(), pointer),
            4 if it.is_host() || managed => put(data.cast::<u64>(), pointer),
            4 => Err(CUresult::INVALID_VALUE),
            6 => put(data.cast::<u32>(), 0),
            7 | 20 => put(data.cast::<u64>(), it.id),
            8 => put(data.cast::<u32>(), u32::from(managed)),
            9 => put(data.cast::<i32>(), it.device),
            10 | 14 | 15 | 21 => put(data.cast::<u32>(), 0),
            11 | 19 => put(data.cast::<u64>(), it.start),
            12 | 18 => put(data.cast::<u64>(), it.size),
            13 => put(data.cast::<u32>(), u32::from(!it.free_queued.load(Ordering::Relaxed))),
            16 => {
                let reaches = it.is_host() || managed || current()?.reaches(it.device, it.context_id);
                put(data.cast::<u32>(), if reaches { 3 } else { 0 })
            }
            17 => put(data.cast::<usize>(), it.pool.as_ref().map_or(0, handle)),
            _ => Err(CUresult::INVALID_VALUE),
        }
    }
}

exports! {
    fn cuPointerGetAttribute(data: *mut c_void, attribute: CUpointer_attribute, ptr: CUdeviceptr) {
        // No context is needed: programs ask for the one that a pointer belongs to.
        match find(ptr) {
            Some(allocation) => self::attribute(data, attribute, ptr, &allocation),
            // Whether a range is mapped can be asked of any pointer.
            None if attribute == 13 => put(data.cast::<u32>(), 0),
            None => Err(CUresult::INVALID_VALUE),
        }
    }

    fn cuPointerGetAttributes(
        numAttributes: u32, attributes: *mut CUpointer_attribute, data: *mut *mut c_void, ptr: CUdeviceptr,
    ) {
        if attributes.is_null() || data.is_null() || numAttributes == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let found = find(ptr);
        for index in 0..numAttributes as usize {
            let (attribute, place) = (attributes.add(index).read(), data.add(index).read());
            let answer = match &found {
                Some(allocation) => self::attribute(place, attribute, ptr, allocation),
                None => Err(CUresult::INVALID_VALUE),
            };
            if answer.is_err() {
                // A pointer that CUDA does not know gets zeros, and the call succeeds.
                let size = match attribute {
                    1 | 3 | 4 | 5 | 7 | 11 | 12 | 14 | 17..=20 => 8,
                    _ => 4,
                };
                if place.is_null() {
                    return Err(CUresult::INVALID_VALUE);
                }
                place.cast::<u8>().write_bytes(0, size);
                if attribute == 9 {
                    put(place.cast::<i32>(), -2)?;
                }
            }
        }
        Ok(())
    }

    fn cuPointerSetAttribute(value: *const c_void, attribute: CUpointer_attribute, ptr: CUdeviceptr) {
        current()?;
        find(ptr).ok_or(CUresult::INVALID_VALUE)?;
        // Synchronous memory operations are the only thing to be set, and they hold anyway.
        if value.is_null() || attribute != 6 { Err(CUresult::INVALID_VALUE) } else { Ok(()) }
    }
}
