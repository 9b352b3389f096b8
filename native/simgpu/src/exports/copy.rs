//! Copies.

use std::ffi::c_void;
use std::sync::Arc;

use cuda_abi::{
    CUDA_MEMCPY2D, CUDA_MEMCPY3D, CUDA_MEMCPY3D_PEER, CUcontext, CUdeviceptr, CUresult, CUstream,
};

use crate::context::{CONTEXTS, context, current};
use crate::copy::{End, Extent, Side, Transfer, copy};
use crate::guard::{Answer, exports};
use crate::stream::{Work, stream};

fn line(stream_handle: CUstream, to: (u64, Side), from: (u64, Side), bytes: usize, wait: bool) -> Answer {
    let extent = Extent { width: bytes as u64, rows: 1, slices: 1 };
    copy(&stream(stream_handle)?, End::linear(to.0, to.1), End::linear(from.0, from.1), extent, wait)
}

/// Checks the contexts of a copy between two: unlike elsewhere, null does not mean the current one.
fn between(to: CUcontext, from: CUcontext) -> Answer {
    current()?;
    for context in [to, from] {
        CONTEXTS.find(context.0).ok_or(CUresult::INVALID_CONTEXT)?;
    }
    Ok(())
}

fn host(pointer: *const c_void) -> (u64, Side) {
    (pointer.expose_provenance() as u64, Side::Host)
}

/// The place in memory where a box begins.
struct Corner {
    kind: i32,
    host: *const c_void,
    device: u64,
    x: usize,
    y: usize,
    z: usize,
    pitch: usize,
    height: usize,
}

impl Corner {
    fn end(&self) -> Answer<End> {
        let side = Side::of(self.kind)?;
        let base = if side == Side::Host { self.host.expose_provenance() as u64 } else { self.device };
        let pitch = self.pitch as u64;
        let slice = pitch.checked_mul(self.height as u64).ok_or(CUresult::INVALID_VALUE)?;
        let address = || {
            base.checked_add(slice.checked_mul(self.z as u64)?)?
                .checked_add(pitch.checked_mul(self.y as u64)?)?
                .checked_add(self.x as u64)
        };
        Ok(End { address: address().ok_or(CUresult::INVALID_VALUE)?, side, pitch, slice })
    }
}

/// # Safety
/// `request` is null or leads to a request.
unsafe fn copy_2d(request: *const CUDA_MEMCPY2D, stream_handle: CUstream, wait: bool) -> Answer {
    if request.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller promises the rest.
    let it = unsafe { request.read() };
    let width = it.WidthInBytes;
    let pitch = |pitch: usize, x: usize| if pitch == 0 { width + x } else { pitch };
    let from = Corner {
        kind: it.srcMemoryType,
        host: it.srcHost,
        device: it.srcDevice,
        x: it.srcXInBytes,
        y: it.srcY,
        z: 0,
        pitch: pitch(it.srcPitch, it.srcXInBytes),
        height: it.Height,
    };
    let to = Corner {
        kind: it.dstMemoryType,
        host: it.dstHost.cast_const(),
        device: it.dstDevice,
        x: it.dstXInBytes,
        y: it.dstY,
        z: 0,
        pitch: pitch(it.dstPitch, it.dstXInBytes),
        height: it.Height,
    };
    let extent = Extent { width: width as u64, rows: it.Height as u64, slices: 1 };
    copy(&stream(stream_handle)?, to.end()?, from.end()?, extent, wait)
}

/// The copy of a box; both requests for boxes have these members.
macro_rules! box_of {
    ($request:expr) => {{
        let it = $request;
        let width = it.WidthInBytes;
        let pitch = |pitch: usize, x: usize| if pitch == 0 { width + x } else { pitch };
        let height = |height: usize, y: usize| if height == 0 { it.Height + y } else { height };
        let from = Corner {
            kind: it.srcMemoryType,
            host: it.srcHost,
            device: it.srcDevice,
            x: it.srcXInBytes,
            y: it.srcY,
            z: it.srcZ,
            pitch: pitch(it.srcPitch, it.srcXInBytes),
            height: height(it.srcHeight, it.srcY),
        };
        let to = Corner {
            kind: it.dstMemoryType,
            host: it.dstHost.cast_const(),
            device: it.dstDevice,
            x: it.dstXInBytes,
            y: it.dstY,
            z: it.dstZ,
            pitch: pitch(it.dstPitch, it.dstXInBytes),
            height: height(it.dstHeight, it.dstY),
        };
        let extent = Extent { width: width as u64, rows: it.Height as u64, slices: it.Depth as u64 };
        Transfer { destination: to.end()?, source: from.end()?, extent }
    }};
}

/// The copy that a request describes.
///
/// # Errors
/// INVALID_VALUE for numbers that are no place in memory, NOT_SUPPORTED for arrays.
pub fn transfer_3d(request: &CUDA_MEMCPY3D) -> Answer<Transfer> {
    Ok(box_of!(request))
}

fn copy_3d(transfer: Transfer, stream_handle: CUstream, wait: bool) -> Answer {
    copy(&stream(stream_handle)?, transfer.destination, transfer.source, transfer.extent, wait)
}

exports! {
    fn cuMemcpy(dst: CUdeviceptr, src: CUdeviceptr, ByteCount: usize) {
        line(CUstream::NULL, (dst, Side::Unified), (src, Side::Unified), ByteCount, true)
    }

    fn cuMemcpyAsync(dst: CUdeviceptr, src: CUdeviceptr, ByteCount: usize, hStream: CUstream) {
        line(hStream, (dst, Side::Unified), (src, Side::Unified), ByteCount, false)
    }

    fn cuMemcpyHtoD_v2(dstDevice: CUdeviceptr, srcHost: *const c_void, ByteCount: usize) {
        line(CUstream::NULL, (dstDevice, Side::Device), host(srcHost), ByteCount, true)
    }

    fn cuMemcpyHtoDAsync_v2(dstDevice: CUdeviceptr, srcHost: *const c_void, ByteCount: usize, hStream: CUstream) {
        line(hStream, (dstDevice, Side::Device), host(srcHost), ByteCount, false)
    }

    fn cuMemcpyDtoH_v2(dstHost: *mut c_void, srcDevice: CUdeviceptr, ByteCount: usize) {
        line(CUstream::NULL, host(dstHost), (srcDevice, Side::Device), ByteCount, true)
    }

    fn cuMemcpyDtoHAsync_v2(dstHost: *mut c_void, srcDevice: CUdeviceptr, ByteCount: usize, hStream: CUstream) {
        line(hStream, host(dstHost), (srcDevice, Side::Device), ByteCount, false)
    }

    fn cuMemcpyDtoD_v2(dstDevice: CUdeviceptr, srcDevice: CUdeviceptr, ByteCount: usize) {
        line(CUstream::NULL, (dstDevice, Side::Device), (srcDevice, Side::Device), ByteCount, true)
    }

    fn cuMemcpyDtoDAsync_v2(dstDevice: CUdeviceptr, srcDevice: CUdeviceptr, ByteCount: usize, hStream: CUstream) {
        line(hStream, (dstDevice, Side::Device), (srcDevice, Side::Device), ByteCount, false)
    }

    fn cuMemcpyPeer(
        dstDevice: CUdeviceptr, dstContext: CUcontext, srcDevice: CUdeviceptr, srcContext: CUcontext,
        ByteCount: usize,
    ) {
        between(dstContext, srcContext)?;
        // Behind all that both contexts have to do, and before what they do next.
        let legacy = stream(CUstream::NULL)?;
        let sides = [context(dstContext)?, context(srcContext)?];
        for side in &sides {
            let mut last = vec![side.legacy().last()];
            side.for_each_stream(|stream| last.push(stream.last()));
            for ticket in last.into_iter().filter(|ticket| !Arc::ptr_eq(&ticket.stream, &legacy)) {
                legacy.submit_after(Some(ticket), Work::Marker);
            }
        }
        line(CUstream::NULL, (dstDevice, Side::Device), (srcDevice, Side::Device), ByteCount, true)?;
        let copied = legacy.last();
        for side in &sides {
            if !Arc::ptr_eq(&side.legacy(), &legacy) {
                side.legacy().submit_after(Some(copied.clone()), Work::Marker);
            }
            side.for_each_stream(|stream| {
                stream.submit_after(Some(copied.clone()), Work::Marker);
            });
        }
        Ok(())
    }

    fn cuMemcpyPeerAsync(
        dstDevice: CUdeviceptr, dstContext: CUcontext, srcDevice: CUdeviceptr, srcContext: CUcontext,
        ByteCount: usize, hStream: CUstream,
    ) {
        between(dstContext, srcContext)?;
        line(hStream, (dstDevice, Side::Device), (srcDevice, Side::Device), ByteCount, false)
    }

    fn cuMemcpy2D_v2(pCopy: *const CUDA_MEMCPY2D) {
        copy_2d(pCopy, CUstream::NULL, true)
    }

    fn cuMemcpy2DUnaligned_v2(pCopy: *const CUDA_MEMCPY2D) {
        copy_2d(pCopy, CUstream::NULL, true)
    }

    fn cuMemcpy2DAsync_v2(pCopy: *const CUDA_MEMCPY2D, hStream: CUstream) {
        copy_2d(pCopy, hStream, false)
    }

    fn cuMemcpy3D_v2(pCopy: *const CUDA_MEMCPY3D) {
        if pCopy.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        copy_3d(box_of!(pCopy.read()), CUstream::NULL, true)
    }

    fn cuMemcpy3DAsync_v2(pCopy: *const CUDA_MEMCPY3D, hStream: CUstream) {
        if pCopy.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        copy_3d(box_of!(pCopy.read()), hStream, false)
    }

    fn cuMemcpy3DPeer(pCopy: *const CUDA_MEMCPY3D_PEER) {
        if pCopy.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        copy_3d(box_of!(pCopy.read()), CUstream::NULL, true)
    }

    fn cuMemcpy3DPeerAsync(pCopy: *const CUDA_MEMCPY3D_PEER, hStream: CUstream) {
        if pCopy.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        copy_3d(box_of!(pCopy.read()), hStream, false)
    }
}
