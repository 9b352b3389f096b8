//! What a pointer is, from the client's own map of ranges.

use std::ffi::{c_int, c_uint, c_void};

use cuda_abi as abi;
use cuda_abi::{CUcontext, CUdeviceptr, CUmemoryPool, CUpointer_attribute, CUresult};

use crate::client::Client;
use crate::convert::opaque;
use crate::entry::Answer;
use crate::memory::{Range, RangeKind};
use crate::servers;

/// `CU_MEMORYTYPE_HOST` and `CU_MEMORYTYPE_DEVICE`.
const HOST: c_uint = 1;
const DEVICE: c_uint = 2;

exports! {
    fn cuPointerGetAttribute(data: *mut c_void, attribute: CUpointer_attribute, ptr: CUdeviceptr) enter_local |client| {
        if data.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // No context is needed: programs ask for the one that a pointer belongs to.
        let client = servers::with_address(client, ptr);
        let range = client.ranges.find(ptr).ok_or(CUresult::INVALID_VALUE)?;
        answer(client, &range, attribute, ptr, data)
    }

    fn cuPointerGetAttributes(
        numAttributes: c_uint,
        attributes: *mut CUpointer_attribute,
        data: *mut *mut c_void,
        ptr: CUdeviceptr,
    ) enter_local |client| {
        if attributes.is_null() || data.is_null() || numAttributes == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let client = servers::with_address(client, ptr);
        let range = client.ranges.find(ptr);
        for position in 0..numAttributes as usize {
            let (attribute, place) = (*attributes.add(position), *data.add(position));
            if place.is_null() {
                return Err(CUresult::INVALID_VALUE);
            }
            let answered = match &range {
                Some(range) => answer(client, range, attribute, ptr, place),
                None => Err(CUresult::INVALID_VALUE),
            };
            // Unlike the call for one attribute, this one answers "nothing" for what a pointer does not have.
            if answered.is_err() {
                nothing(attribute, place);
            }
        }
        Ok(())
    }
}

/// # Safety
/// `place` has room for the attribute's type.
unsafe fn answer(
    client: &Client,
    range: &Range,
    attribute: CUpointer_attribute,
    address: CUdeviceptr,
    place: *mut c_void,
) -> Answer {
    let ordinal = || c_int::try_from(range.device).map_err(|_| CUresult::UNKNOWN);
    let number = |value: u64| usize::try_from(value).map_err(|_| CUresult::UNKNOWN);
    let on_device = range.kind.is_device();
    // SAFETY: the types are those that CUDA documents for each attribute; the caller gives room for them.
    unsafe {
        match attribute {
            abi::CU_POINTER_ATTRIBUTE_CONTEXT => {
                let context: CUcontext =
                    if range.context.0 == 0 { CUcontext::NULL } else { opaque(range.context) };
                place.cast::<CUcontext>().write(context);
            }
            abi::CU_POINTER_ATTRIBUTE_MEMORY_TYPE => {
                place.cast::<c_uint>().write(if on_device { DEVICE } else { HOST });
            }
            abi::CU_POINTER_ATTRIBUTE_DEVICE_POINTER => {
                if !on_device {
                    return Err(CUresult::INVALID_VALUE);
                }
                place.cast::<CUdeviceptr>().write(address);
            }
            abi::CU_POINTER_ATTRIBUTE_HOST_POINTER => {
                if on_device {
                    return Err(CUresult::INVALID_VALUE);
                }
                place.cast::<*mut c_void>().write(std::ptr::without_provenance_mut(number(address)?));
            }
            abi::CU_POINTER_ATTRIBUTE_SYNC_MEMOPS
            | abi::CU_POINTER_ATTRIBUTE_IS_MANAGED
            | abi::CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE => place.cast::<c_uint>().write(0),
            abi::CU_POINTER_ATTRIBUTE_BUFFER_ID => place.cast::<u64>().write(range.buffer_id),
            abi::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL => {
                client.devices.get(ordinal()?)?;
                place.cast::<c_int>().write(ordinal()?);
            }
            abi::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR => place.cast::<u64>().write(range.start),
            abi::CU_POINTER_ATTRIBUTE_RANGE_SIZE => place.cast::<usize>().write(number(range.length)?),
            abi::CU_POINTER_ATTRIBUTE_MAPPED => place.cast::<c_uint>().write(1),
            abi::CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES => place.cast::<u64>().write(0),
            abi::CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE => {
                let pool = match range.kind {
                    RangeKind::Pooled(pool) | RangeKind::Piece(Some(pool)) => opaque(pool),
                    _ => CUmemoryPool::NULL,
                };
                place.cast::<CUmemoryPool>().write(pool);
            }
            _ => return Err(CUresult::INVALID_VALUE),
        }
    }
    Ok(())
}

/// Writes the value that stands for "this pointer has none".
///
/// # Safety
/// `place` has room for the attribute's type.
unsafe fn nothing(attribute: CUpointer_attribute, place: *mut c_void) {
    // SAFETY: the types are those that CUDA documents for each attribute; the caller gives room for them.
    unsafe {
        match attribute {
            abi::CU_POINTER_ATTRIBUTE_MEMORY_TYPE
            | abi::CU_POINTER_ATTRIBUTE_SYNC_MEMOPS
            | abi::CU_POINTER_ATTRIBUTE_IS_MANAGED
            | abi::CU_POINTER_ATTRIBUTE_MAPPED
            | abi::CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE => place.cast::<c_uint>().write(0),
            // No device: -2 is what NVIDIA's driver writes.
            abi::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL => place.cast::<c_int>().write(-2),
            abi::CU_POINTER_ATTRIBUTE_CONTEXT
            | abi::CU_POINTER_ATTRIBUTE_DEVICE_POINTER
            | abi::CU_POINTER_ATTRIBUTE_HOST_POINTER
            | abi::CU_POINTER_ATTRIBUTE_BUFFER_ID
            | abi::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR
            | abi::CU_POINTER_ATTRIBUTE_RANGE_SIZE
            | abi::CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES
            | abi::CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE => place.cast::<u64>().write(0),
            _ => {}
        }
    }
}
