//! Copies between the client's host memory and the GPU. Host bytes are in the record, or go into the reply.

use std::ffi::c_void;

use cuda_abi::{CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_HOST, CUDA_MEMCPY3D, CUarray, CUresult, CUstream};
use wire::record::MAX_PAYLOAD;
use wire::{Reply as _, Request, Writer, cuda};

use super::Answer;
use super::launches::stream_of;
use crate::worker::{Worker, address};

/// Bytes that one reply may carry; clients cut larger copies.
const MOST: u64 = MAX_PAYLOAD as u64 - 4096;

/// Numbers of `direction` on the wire.
const TO_DEVICE: u32 = 0;
const TO_HOST: u32 = 1;
const ON_DEVICE: u32 = 2;

/// `cuMemcpyHtoD_v2`
pub fn cuMemcpyHtoD_v2(
    worker: &mut Worker,
    request: cuda::CuMemcpyHtoDV2<'_>,
    _reply: &mut Writer<'_>,
) -> Answer {
    // SAFETY: the source is the record's bytes; the driver checks the destination.
    Ok(unsafe {
        worker.driver.cuMemcpyHtoD_v2(request.destination, request.data.as_ptr().cast(), request.data.len())
    })
}

/// `cuMemcpyHtoDAsync_v2`: the source is pageable memory, which the driver has read when it returns.
pub fn cuMemcpyHtoDAsync_v2(
    worker: &mut Worker,
    request: cuda::CuMemcpyHtoDAsyncV2<'_>,
    _reply: &mut Writer<'_>,
) -> Answer {
    let stream = stream_of(worker, <cuda::CuMemcpyHtoDAsyncV2<'_> as Request<'_>>::CALL, request.stream)?;
    let (source, length) = (request.data.as_ptr().cast(), request.data.len());
    // SAFETY: the source is the record's bytes; the driver checks the destination.
    Ok(unsafe { worker.driver.cuMemcpyHtoDAsync_v2(request.destination, source, length, stream) })
}

/// `cuMemcpyDtoH_v2`
pub fn cuMemcpyDtoH_v2(worker: &mut Worker, request: cuda::CuMemcpyDtoHV2, reply: &mut Writer<'_>) -> Answer {
    let Some(mut data) = room(request.size) else { return Ok(CUresult::INVALID_VALUE) };
    // SAFETY: the destination has as many bytes as are asked for; the driver checks the source.
    let code = unsafe {
        worker.driver.cuMemcpyDtoH_v2(data.as_mut_ptr().cast::<c_void>(), request.source, data.len())
    };
    if code.is_success() {
        cuda::CuMemcpyDtoHV2Reply { data }.encode(reply);
    }
    Ok(code)
}

/// `cuMemcpyDtoHAsync_v2`, waited for: the client wants the bytes.
pub fn cuMemcpyDtoHAsync_v2(
    worker: &mut Worker,
    request: cuda::CuMemcpyDtoHAsyncV2,
    reply: &mut Writer<'_>,
) -> Answer {
    let stream = stream_of(worker, cuda::CuMemcpyDtoHAsyncV2::CALL, request.stream)?;
    let Some(mut data) = room(request.size) else { return Ok(CUresult::INVALID_VALUE) };
    let place = data.as_mut_ptr().cast::<c_void>();
    // SAFETY: the destination has as many bytes as are asked for and stays until the stream was waited for; the
    // driver checks the source.
    let code = unsafe { worker.driver.cuMemcpyDtoHAsync_v2(place, request.source, data.len(), stream) };
    let code = finish(worker, stream, code);
    if code.is_success() {
        cuda::CuMemcpyDtoHAsyncV2Reply { data }.encode(reply);
    }
    Ok(code)
}

/// `cuMemcpy3DAsync_v2`: boxes of two and three dimensions. Host bytes come and go without padding.
pub fn cuMemcpy3DAsync_v2(
    worker: &mut Worker,
    request: cuda::CuMemcpy3DAsyncV2<'_>,
    reply: &mut Writer<'_>,
) -> Answer {
    type Copy<'a> = cuda::CuMemcpy3DAsyncV2<'a>;
    let stream = stream_of(worker, Copy::CALL, request.stream)?;
    let bytes = request.width.checked_mul(request.height).and_then(|area| area.checked_mul(request.depth));
    let Some(bytes) = bytes.filter(|bytes| *bytes > 0) else { return Ok(CUresult::INVALID_VALUE) };
    let mut copy = on_device(&request);
    let mut data = Vec::new();
    match request.direction {
        TO_DEVICE => {
            if request.data.len() as u64 != bytes {
                return Ok(CUresult::INVALID_VALUE);
            }
            copy.srcMemoryType = CU_MEMORYTYPE_HOST;
            copy.srcHost = request.data.as_ptr().cast();
            (copy.srcXInBytes, copy.srcY, copy.srcZ) = (0, 0, 0);
            (copy.srcPitch, copy.srcHeight) = (copy.WidthInBytes, copy.Height);
        }
        TO_HOST => {
            let Some(room) = room(bytes) else { return Ok(CUresult::INVALID_VALUE) };
            data = room;
            copy.dstMemoryType = CU_MEMORYTYPE_HOST;
            copy.dstHost = data.as_mut_ptr().cast();
            (copy.dstXInBytes, copy.dstY, copy.dstZ) = (0, 0, 0);
            (copy.dstPitch, copy.dstHeight) = (copy.WidthInBytes, copy.Height);
        }
        ON_DEVICE => {}
        _ => return Ok(CUresult::INVALID_VALUE),
    }
    // SAFETY: the host side is the record's bytes or a buffer of the box's size, both without padding; they stay
    // until the stream was waited for (pageable sources are read before the driver returns). The driver checks
    // the device side.
    let code = unsafe { worker.driver.cuMemcpy3DAsync_v2(&raw const copy, stream) };
    let code = if request.direction == TO_HOST { finish(worker, stream, code) } else { code };
    cuda::CuMemcpy3DAsyncV2Reply { data }.encode(reply);
    Ok(code)
}

/// The copy with both sides on the device.
fn on_device(request: &cuda::CuMemcpy3DAsyncV2<'_>) -> CUDA_MEMCPY3D {
    CUDA_MEMCPY3D {
        srcXInBytes: address(request.source_x),
        srcY: address(request.source_y),
        srcZ: address(request.source_z),
        srcLOD: 0,
        srcMemoryType: CU_MEMORYTYPE_DEVICE,
        srcHost: std::ptr::null(),
        srcDevice: request.source_address,
        srcArray: CUarray::NULL,
        reserved0: std::ptr::null_mut(),
        srcPitch: address(request.source_pitch),
        srcHeight: address(request.source_height),
        dstXInBytes: address(request.destination_x),
        dstY: address(request.destination_y),
        dstZ: address(request.destination_z),
        dstLOD: 0,
        dstMemoryType: CU_MEMORYTYPE_DEVICE,
        dstHost: std::ptr::null_mut(),
        dstDevice: request.destination_address,
        dstArray: CUarray::NULL,
        reserved1: std::ptr::null_mut(),
        dstPitch: address(request.destination_pitch),
        dstHeight: address(request.destination_height),
        WidthInBytes: address(request.width),
        Height: address(request.height),
        Depth: address(request.depth),
    }
}

fn finish(worker: &Worker, stream: CUstream, code: CUresult) -> CUresult {
    if !code.is_success() {
        return code;
    }
    // SAFETY: the stream is alive.
    unsafe { worker.driver.cuStreamSynchronize(stream) }
}

/// A buffer for `size` bytes of a reply, if a reply can carry them.
fn room(size: u64) -> Option<Vec<u8>> {
    (size <= MOST).then(|| vec![0; address(size)])
}
