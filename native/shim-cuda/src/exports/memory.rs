//! Device memory.

use std::ffi::c_uint;

use cuda_abi::{CUdeviceptr, CUresult};
use wire::cuda;

use crate::capture;
use crate::convert::{out, write_if};
use crate::credit;
use crate::entry::Answer;
use crate::graph::memory as graph_memory;

/// Rows of pitched memory begin at multiples of this.
const PITCH: u64 = 512;

exports! {
    fn cuMemAlloc_v2(dptr: *mut CUdeviceptr, bytesize: usize) enter |client| {
        let place = out(dptr)?;
        let (context, state) = client.contexts.current()?;
        if bytesize == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        capture::unsafe_call(client)?;
        *place = credit::allocate(client, context, state.device, bytesize as u64)?;
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
        capture::unsafe_call(client)?;
        // Memory of this process is its own to lay out; this is also the pitch of NVIDIA's drivers.
        let row = (WidthInBytes as u64).checked_next_multiple_of(PITCH).ok_or(CUresult::INVALID_VALUE)?;
        let length = row.checked_mul(Height as u64).ok_or(CUresult::INVALID_VALUE)?;
        *place = credit::allocate(client, context, state.device, length)?;
        *pitch = number(row)?;
        Ok(())
    }

    fn cuMemFree_v2(dptr: CUdeviceptr) enter |client| {
        client.contexts.current()?;
        if dptr == 0 {
            return Ok(());
        }
        capture::unsafe_call(client)?;
        if let Some(memory) = graph_memory::find(dptr) {
            client.call(&cuda::CuCtxSynchronize)?;
            return if memory.set_outstanding(false) { Ok(()) } else { Err(CUresult::INVALID_VALUE) };
        }
        let known = client.ranges.remove(dptr, |range| range.kind.is_freeable());
        credit::free(client, &known.ok_or(CUresult::INVALID_VALUE)?)
    }

    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) enter |client| {
        let (_, state) = client.contexts.current()?;
        let (free, total) = (out(free)?, out(total)?);
        let unused = credit::unused(client, state.device);
        let reply = client.call(&cuda::CuMemGetInfoV2)?;
        *free = number((reply.free + unused).min(reply.total))?;
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

fn number(value: u64) -> Answer<usize> {
    usize::try_from(value).map_err(|_| CUresult::UNKNOWN)
}
