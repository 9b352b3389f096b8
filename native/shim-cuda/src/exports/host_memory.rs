//! Pinned host memory. It is ordinary memory of this process, remembered as pinned: the GPU is elsewhere, so
//! nothing can be locked for its DMA, and kernels cannot reach it (`CAN_MAP_HOST_MEMORY` is 0).

use std::ffi::{c_uint, c_void};

use cuda_abi::{CUdeviceptr, CUresult};
use wire::handle::Context;

use crate::client::Client;
use crate::convert::out;
use crate::entry::Answer;
use crate::memory::{Range, RangeKind};
use crate::{capture, credit, servers};

/// `CU_MEMHOSTALLOC_*`: portable, device map, write combined.
const ALLOC_FLAGS: c_uint = 7;
/// `CU_MEMHOSTREGISTER_*`: portable, device map, io memory, read only.
const REGISTER_FLAGS: c_uint = 15;
/// `CU_MEMHOSTREGISTER_IOMEMORY`.
const REGISTER_IO_MEMORY: c_uint = 4;

exports! {
    fn cuMemAllocHost_v2(pp: *mut *mut c_void, bytesize: usize) enter_local |client| {
        *out(pp)? = allocate(client, bytesize, 0)?;
        Ok(())
    }

    fn cuMemHostAlloc(pp: *mut *mut c_void, bytesize: usize, Flags: c_uint) enter_local |client| {
        let place = out(pp)?;
        if Flags & !ALLOC_FLAGS != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        *place = allocate(client, bytesize, Flags)?;
        Ok(())
    }

    fn cuMemFreeHost(p: *mut c_void) enter_local |client| {
        owner(client)?;
        if p.is_null() {
            return Ok(());
        }
        let start = p.addr() as u64;
        let client = servers::with_address(client, start);
        capture::unsafe_call(client)?;
        let is_allocated = |range: &Range| matches!(range.kind, RangeKind::HostAllocated(_));
        if !client.ranges.find(start).is_some_and(|range| range.start == start && is_allocated(&range)) {
            return Err(CUresult::INVALID_VALUE);
        }
        settle(client)?;
        let range = client.ranges.remove(start, is_allocated).ok_or(CUresult::INVALID_VALUE)?;
        unmap(&range);
        Ok(())
    }

    fn cuMemHostRegister_v2(p: *mut c_void, bytesize: usize, Flags: c_uint) enter_local |client| {
        let (context, device) = owner(client)?;
        if p.is_null() || bytesize == 0 || Flags & !REGISTER_FLAGS != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        if Flags & REGISTER_IO_MEMORY != 0 {
            crate::report::once("cuMemHostRegister of IO memory is not supported by Farpool");
            return Err(CUresult::NOT_SUPPORTED);
        }
        capture::unsafe_call(client)?;
        let start = p.addr() as u64;
        if servers::of_address(start).is_some() {
            return Err(CUresult::HOST_MEMORY_ALREADY_REGISTERED);
        }
        client.ranges.insert(start, bytesize as u64, RangeKind::HostRegistered(Flags), context, device);
        Ok(())
    }

    fn cuMemHostUnregister(p: *mut c_void) enter_local |client| {
        owner(client)?;
        let client = servers::with_address(client, p.addr() as u64);
        capture::unsafe_call(client)?;
        settle(client)?;
        let known = client.ranges.remove(p.addr() as u64, |range| matches!(range.kind, RangeKind::HostRegistered(_)));
        known.map(drop).ok_or(CUresult::HOST_MEMORY_NOT_REGISTERED)
    }

    fn cuMemHostGetFlags(pFlags: *mut c_uint, p: *mut c_void) enter_local |client| {
        let place = out(pFlags)?;
        let client = servers::with_address(client, p.addr() as u64);
        match client.ranges.find(p.addr() as u64).map(|range| range.kind) {
            Some(RangeKind::HostAllocated(flags) | RangeKind::HostRegistered(flags)) => {
                *place = flags;
                Ok(())
            }
            _ => Err(CUresult::INVALID_VALUE),
        }
    }

    fn cuMemHostGetDevicePointer_v2(pdptr: *mut CUdeviceptr, p: *mut c_void, Flags: c_uint) enter_local |client| {
        let place = out(pdptr)?;
        let client = servers::with_address(client, p.addr() as u64);
        if Flags != 0 || client.ranges.find(p.addr() as u64).is_none() {
            return Err(CUresult::INVALID_VALUE);
        }
        *place = 0;
        crate::report::once("host memory mapped into the GPU's address space is not supported by Farpool yet");
        Err(CUresult::NOT_SUPPORTED)
    }
}

/// The current context and its device, unless an error ended it.
fn owner(client: &Client) -> Answer<(Context, usize)> {
    client.check()?;
    let (context, state) = client.contexts.current()?;
    Ok((context, state.device))
}

/// Waits for all work of all contexts where a program could tell, as CUDA does before it gives pinned memory back: any
/// of them may use it.
fn settle(client: &'static Client) -> Answer {
    for client in servers::all(client) {
        let connection = client.connection();
        let number = connection.last_sent();
        for context in client.own_contexts() {
            // A query would show it.
            connection.timelines.skipped(context.index()).context(number);
        }
        credit::settle_all_if_seen(client)?;
    }
    Ok(())
}

/// Gives pages of [`allocate`] back that were noted as `range`, and that nothing uses any more.
pub fn unmap(range: &Range) {
    let (Ok(start), Ok(length)) = (usize::try_from(range.start), usize::try_from(range.length)) else {
        return;
    };
    // SAFETY: the pages were mapped by `allocate` and are not noted any more, so they are given back once; what a program
    // still does with memory that it has freed is its own mistake.
    if let Err(error) = unsafe { rustix::mm::munmap(std::ptr::with_exposed_provenance_mut(start), length) } {
        crate::report::once(&format!("pinned memory was not given back: {error}"));
    }
}

/// Pages of this process, noted as pinned.
fn allocate(client: &Client, length: usize, flags: c_uint) -> Answer<*mut c_void> {
    use rustix::mm::{MapFlags, ProtFlags};
    let (context, device) = owner(client)?;
    capture::unsafe_call(client)?;
    if length == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: a fresh private mapping at an address of the kernel's choice disturbs nothing.
    let pages = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    };
    let pages = pages.map_err(|_| CUresult::OUT_OF_MEMORY)?;
    client.ranges.insert(
        pages.addr() as u64,
        length as u64,
        RangeKind::HostAllocated(flags),
        context,
        device,
    );
    Ok(pages)
}
