//! Copies between the client's host memory and the GPU. Host bytes are in the record, or go into the reply.

use std::ffi::c_void;

use cuda_abi::{CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_HOST, CUDA_MEMCPY3D, CUarray, CUresult, CUstream};
use driver::Driver;
use wire::record::MAX_PAYLOAD;
use wire::{Request, Writer, cuda};

use super::Answer;
use super::launches::stream_of;
use crate::callbacks::{Callbacks, host_function};
use crate::outbox::ReplyTo;
use crate::waits::{Then, Until, WaiterKey};
use crate::worker::{Later, Worker, address};

/// Bytes that one reply may carry; clients cut larger copies.
const MOST: u64 = MAX_PAYLOAD as u64 - 4096;

/// Bytes for the client from which on no more downloads begin until it has taken some.
pub(super) const UNSENT_LIMIT: usize = 256 << 20;

/// Copies to the client up to this many bytes need no pinned memory when nothing is before them.
const SMALL: usize = 64 << 10;

/// Numbers of `direction` on the wire.
const TO_DEVICE: u32 = 0;
const TO_HOST: u32 = 1;
const ON_DEVICE: u32 = 2;

/// `cuMemcpyHtoD_v2`: on the legacy stream.
pub fn cuMemcpyHtoD_v2(
    worker: &mut Worker,
    request: cuda::CuMemcpyHtoDV2<'_>,
    _reply: &mut Writer<'_>,
) -> Answer {
    Ok(upload(worker, request.data, CUstream::NULL, to_device(request.destination, request.data.len())))
}

/// `cuMemcpyHtoDAsync_v2`
pub fn cuMemcpyHtoDAsync_v2(
    worker: &mut Worker,
    request: cuda::CuMemcpyHtoDAsyncV2<'_>,
    _reply: &mut Writer<'_>,
) -> Answer {
    let stream = stream_of(worker, <cuda::CuMemcpyHtoDAsyncV2<'_> as Request<'_>>::CALL, request.stream)?;
    Ok(upload(worker, request.data, stream, to_device(request.destination, request.data.len())))
}

/// `cuMemcpyDtoH_v2`: on the legacy stream.
pub fn cuMemcpyDtoH_v2(
    worker: &mut Worker,
    request: cuda::CuMemcpyDtoHV2,
    _reply: &mut Writer<'_>,
) -> Answer {
    Ok(download(worker, request.size, CUstream::NULL, to_host(request.source, request.size)))
}

/// `cuMemcpyDtoHAsync_v2`
pub fn cuMemcpyDtoHAsync_v2(
    worker: &mut Worker,
    request: cuda::CuMemcpyDtoHAsyncV2,
    _reply: &mut Writer<'_>,
) -> Answer {
    let stream = stream_of(worker, cuda::CuMemcpyDtoHAsyncV2::CALL, request.stream)?;
    Ok(download(worker, request.size, stream, to_host(request.source, request.size)))
}

/// Has the driver copy `size` bytes from host memory, which the caller keeps until that is done.
fn to_device(destination: u64, size: usize) -> impl Fn(&Driver, *mut c_void, CUstream) -> CUresult {
    move |driver, host, stream| {
        // SAFETY: the host memory has `size` bytes and stays; the driver checks the destination.
        unsafe { driver.cuMemcpyHtoDAsync_v2(destination, host, size, stream) }
    }
}

/// Has the driver copy `size` bytes into host memory, which the caller keeps until that is done.
fn to_host(source: u64, size: u64) -> impl Fn(&Driver, *mut c_void, CUstream) -> CUresult {
    move |driver, host, stream| {
        // SAFETY: the host memory has `size` bytes and stays; the driver checks the source.
        unsafe { driver.cuMemcpyDtoHAsync_v2(host, source, address(size), stream) }
    }
}

/// A copy whose source may still change when it is asked for: the client sends the bytes when the stream is there.
pub fn farpoolPullToDevice(
    worker: &mut Worker,
    request: cuda::FarpoolPullToDevice,
    _reply: &mut Writer<'_>,
) -> Answer {
    let stream = stream_of(worker, cuda::FarpoolPullToDevice::CALL, request.stream)?;
    if request.size > MOST {
        return Ok(CUresult::INVALID_VALUE);
    }
    let size = address(request.size);
    let buffer = match worker.buffer(size, stream) {
        Ok(Some(buffer)) => buffer,
        Ok(None) => return Ok(try_again(worker)),
        Err(code) => return Ok(code),
    };
    let hold = worker.callbacks.hold(request.token, Some((buffer.address().cast(), size)));
    // SAFETY: the driver calls the function once with this hold, or, after an error, not at all; the buffer is kept
    // until the copy behind it in the stream has read it.
    let code = unsafe {
        match worker.driver.cuLaunchHostFunc(stream, Some(host_function), hold) {
            CUresult::SUCCESS => {
                worker.driver.cuMemcpyHtoDAsync_v2(request.destination, buffer.address(), size, stream)
            }
            code => {
                Callbacks::take_back(hold);
                worker.staging.give(buffer);
                return Ok(code);
            }
        }
    };
    let kept = worker.keep_until_read(buffer, stream);
    Ok(if code.is_success() { kept } else { code })
}

/// Has `copy` take the record's bytes to the device: straight from where they are if that is pinned memory or the stream
/// is idle, else through a pinned buffer. From pageable memory a driver would make its caller wait for the stream.
fn upload(
    worker: &mut Worker,
    data: &[u8],
    stream: CUstream,
    copy: impl Fn(&Driver, *mut c_void, CUstream) -> CUresult,
) -> CUresult {
    if worker.pinned.as_ref().is_some_and(|pinned| pinned.contains(&data.as_ptr().addr())) {
        let code = copy(&worker.driver, data.as_ptr().cast_mut().cast(), stream);
        worker.pinned_reader = Some(stream);
        return code;
    }
    if worker.is_idle(stream) {
        // The driver has read pageable memory when it returns.
        let code = copy(&worker.driver, data.as_ptr().cast_mut().cast(), stream);
        return code;
    }
    let mut buffer = match worker.buffer(data.len(), stream) {
        Ok(Some(buffer)) => buffer,
        Ok(None) => return try_again(worker),
        Err(code) => return code,
    };
    buffer.fill(data);
    let code = copy(&worker.driver, buffer.address(), stream);
    let kept = worker.keep_until_read(buffer, stream);
    if code.is_success() { kept } else { code }
}

/// Has `copy` bring `size` bytes from the device into the reply: now if the stream is idle, else when it has got there.
fn download(
    worker: &mut Worker,
    size: u64,
    stream: CUstream,
    copy: impl Fn(&Driver, *mut c_void, CUstream) -> CUresult,
) -> CUresult {
    let Some(to) = worker.reply_to.filter(|_| size <= MOST) else { return CUresult::INVALID_VALUE };
    let length = address(size);
    if worker.outbox.waiting() > UNSENT_LIMIT {
        return try_again(worker);
    }
    let is_idle = worker.is_idle(stream);
    if is_idle && length <= SMALL {
        return download_small(worker, to, length, stream, copy);
    }
    let buffer = match worker.buffer(length, stream) {
        Ok(Some(buffer)) => buffer,
        Ok(None) => return try_again(worker),
        Err(code) => return code,
    };
    let code = copy(&worker.driver, buffer.address(), stream);
    if !code.is_success() {
        worker.staging.give(buffer);
        return code;
    }
    if is_idle {
        // SAFETY: the stream is alive.
        let code = unsafe { worker.driver.cuStreamSynchronize(stream) };
        if code.is_success() {
            worker.waits.send_finished_downloads();
            worker.outbox.reply_lent(to, worker.staging.lend(buffer, length));
            worker.later = Later::Answered;
        } else {
            worker.staging.give(buffer);
        }
        return code;
    }
    match worker.waits.mark(worker.current(), stream) {
        Ok(event) => {
            let download = worker.waits.download(worker.current(), event, to, length, buffer);
            let waiter = WaiterKey::Stream(worker.context, stream.0);
            worker.waits.push_soon(waiter, worker.current(), Until::Own(event), Then::Download(download));
            worker.later = Later::Answered;
            CUresult::SUCCESS
        }
        Err(code) => {
            worker.staging.lose(buffer);
            code
        }
    }
}

/// The same for a few bytes of an idle stream: the driver returns from a copy to pageable memory when it is done.
fn download_small(
    worker: &mut Worker,
    to: ReplyTo,
    length: usize,
    stream: CUstream,
    copy: impl Fn(&Driver, *mut c_void, CUstream) -> CUresult,
) -> CUresult {
    let mut place = std::mem::take(&mut worker.small);
    place.resize(SMALL, 0);
    let code = match copy(&worker.driver, place.as_mut_ptr().cast(), stream) {
        // SAFETY: the stream is alive.
        CUresult::SUCCESS => unsafe { worker.driver.cuStreamSynchronize(stream) },
        code => code,
    };
    if code.is_success() {
        worker.waits.send_finished_downloads();
        worker.outbox.reply(to, 0, &place[..length]);
        worker.later = Later::Answered;
    }
    worker.small = place;
    code
}

fn try_again(worker: &mut Worker) -> CUresult {
    worker.later = Later::TryAgain;
    CUresult::SUCCESS
}

/// `cuMemcpy3DAsync_v2`: boxes of two and three dimensions. Host bytes come and go without padding.
pub fn cuMemcpy3DAsync_v2(
    worker: &mut Worker,
    request: cuda::CuMemcpy3DAsyncV2<'_>,
    _reply: &mut Writer<'_>,
) -> Answer {
    type Copy<'a> = cuda::CuMemcpy3DAsyncV2<'a>;
    let stream = stream_of(worker, Copy::CALL, request.stream)?;
    let bytes = request.width.checked_mul(request.height).and_then(|area| area.checked_mul(request.depth));
    let Some(bytes) = bytes.filter(|bytes| *bytes > 0) else { return Ok(CUresult::INVALID_VALUE) };
    let mut copy = on_device(&request);
    match request.direction {
        TO_DEVICE => {
            if request.data.len() as u64 != bytes {
                return Ok(CUresult::INVALID_VALUE);
            }
            copy.srcMemoryType = CU_MEMORYTYPE_HOST;
            (copy.srcXInBytes, copy.srcY, copy.srcZ) = (0, 0, 0);
            (copy.srcPitch, copy.srcHeight) = (copy.WidthInBytes, copy.Height);
            Ok(upload(worker, request.data, stream, |driver, host, stream| {
                let copy = CUDA_MEMCPY3D { srcHost: host, ..copy };
                // SAFETY: the host side holds the box without padding, and stays; the driver checks the device side.
                unsafe { driver.cuMemcpy3DAsync_v2(&raw const copy, stream) }
            }))
        }
        TO_HOST => {
            copy.dstMemoryType = CU_MEMORYTYPE_HOST;
            (copy.dstXInBytes, copy.dstY, copy.dstZ) = (0, 0, 0);
            (copy.dstPitch, copy.dstHeight) = (copy.WidthInBytes, copy.Height);
            Ok(download(worker, bytes, stream, |driver, host, stream| {
                let copy = CUDA_MEMCPY3D { dstHost: host, ..copy };
                // SAFETY: as above.
                unsafe { driver.cuMemcpy3DAsync_v2(&raw const copy, stream) }
            }))
        }
        // SAFETY: the driver checks both sides.
        ON_DEVICE => Ok(unsafe { worker.driver.cuMemcpy3DAsync_v2(&raw const copy, stream) }),
        _ => Ok(CUresult::INVALID_VALUE),
    }
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
