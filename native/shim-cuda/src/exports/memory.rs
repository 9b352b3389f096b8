//! Device memory.

use std::ffi::c_uint;

use cuda_abi::{CUdeviceptr, CUresult};
use wire::cuda;

use crate::client::Client;
use crate::convert::{out, write_if};
use crate::entry::Answer;
use crate::memory::RangeKind;
use crate::reserve;

exports! {
    fn cuMemAlloc_v2(dptr: *mut CUdeviceptr, bytesize: usize) enter |client| {
        let place = out(dptr)?;
        let (context, state) = client.contexts.current()?;
        if bytesize == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let (reply, length) = allocate(client, || {
            let reply = client.call(&cuda::CuMemAllocV2 { size: bytesize as u64 })?;
            let address = reply.address;
            Ok((reply, address, bytesize as u64))
        })?;
        client.ranges.insert(reply.address, length, RangeKind::Device, context, state.device);
        *place = reply.address;
        Ok(())
    }

    fn cuMemAllocPitch_v2(
        dptr: *mut CUdeviceptr,
        pPitch: *mut usize,
        WidthInBytes: usize,
        Height: usize,
        ElementSizeBytes: c_uint,
    ) enter |client| {
        let (place, pitch) = (out(dptr)?, out(pPitch)?);
        let (context, state) = client.contexts.current()?;
        if WidthInBytes == 0 || Height == 0 || !matches!(ElementSizeBytes, 4 | 8 | 16) {
            return Err(CUresult::INVALID_VALUE);
        }
        let (reply, length) = allocate(client, || {
            let reply = client.call(&cuda::CuMemAllocPitchV2 {
                width: WidthInBytes as u64,
                height: Height as u64,
                element_size: ElementSizeBytes,
            })?;
            let length = reply.pitch.checked_mul(Height as u64).ok_or(CUresult::UNKNOWN)?;
            let address = reply.address;
            Ok((reply, address, length))
        })?;
        client.ranges.insert(reply.address, length, RangeKind::Device, context, state.device);
        *place = reply.address;
        *pitch = number(reply.pitch)?;
        Ok(())
    }

    fn cuMemFree_v2(dptr: CUdeviceptr) enter |client| {
        client.contexts.current()?;
        if dptr == 0 {
            return Ok(());
        }
        let known = client.ranges.remove(dptr, |range| range.kind.is_freeable());
        let range = known.ok_or(CUresult::INVALID_VALUE)?;
        reserve::give(range.start, range.length);
        client.post(&cuda::CuMemFreeV2 { address: dptr })
    }

    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) enter |client| {
        client.contexts.current()?;
        let (free, total) = (out(free)?, out(total)?);
        let reply = client.call(&cuda::CuMemGetInfoV2)?;
        *free = number(reply.free)?;
        *total = number(reply.total)?;
        Ok(())
    }

    fn cuMemGetAddressRange_v2(pbase: *mut CUdeviceptr, psize: *mut usize, dptr: CUdeviceptr) enter_local |client| {
        client.contexts.current()?;
        let range = client.ranges.find(dptr).filter(|range| range.kind.is_device());
        let range = range.ok_or(CUresult::NOT_FOUND)?;
        write_if(pbase, range.start);
        write_if(psize, number(range.length)?);
        Ok(())
    }
}

/// Allocates until the addresses are free in this process too; allocations whose are not go back.
pub(super) fn allocate<T>(client: &Client, ask: impl Fn() -> Answer<(T, u64, u64)>) -> Answer<(T, u64)> {
    /// Tries before this process is taken to be full.
    const TRIES: usize = 16;
    let mut colliding = Vec::new();
    let mut answer = Err(CUresult::OUT_OF_MEMORY);
    for _ in 0..TRIES {
        match ask() {
            Ok((reply, address, length)) if reserve::take(address, length) => {
                answer = Ok((reply, length));
                break;
            }
            Ok((_, address, _)) => colliding.push(address),
            Err(code) => {
                answer = Err(code);
                break;
            }
        }
    }
    for address in colliding {
        client.post(&cuda::CuMemFreeV2 { address })?;
    }
    answer
}

fn number(value: u64) -> Answer<usize> {
    usize::try_from(value).map_err(|_| CUresult::UNKNOWN)
}
