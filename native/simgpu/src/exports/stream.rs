//! Streams, callbacks and host functions.

use std::ffi::c_void;
use std::sync::Arc;

use cuda_abi::{
    CUDA_HOST_NODE_PARAMS, CUcontext, CUdevice, CUdeviceptr, CUevent, CUgreenCtx, CUhostFn, CUresult,
    CUstream, CUstreamAttrID, CUstreamAttrValue, CUstreamCallback,
};

use crate::capture;
use crate::context::{current, current_at_any_time};
use crate::graph::action::{Action, HostCall};
use crate::guard::{Answer, exports, in_host_function, put, put_optional};
use crate::stream::{STREAMS, Stream, Work, stream};

/// The event is one of the graph's surroundings, not a place in the capture.
pub const EXTERNAL: u32 = 1;

/// A program's pointer on its way to the thread that calls it back.
struct UserData(*mut c_void);

// SAFETY: the program hands the pointer over for its own function, which CUDA calls on another thread by contract.
unsafe impl Send for UserData {}

impl UserData {
    fn pointer(&self) -> *mut c_void {
        self.0
    }
}

fn create(flags: u32, priority: i32) -> Answer<CUstream> {
    if flags & !cuda_abi::CU_STREAM_NON_BLOCKING != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let stream = current()?.create_stream(flags, priority.clamp(-5, 0));
    Ok(CUstream(STREAMS.insert(&stream)))
}

/// A stream that is only asked what it is: programs ask for the context that they should make current.
fn described(handle: CUstream) -> Answer<Arc<Stream>> {
    match handle.0 {
        0 | 1 => Ok(current_at_any_time()?.legacy()),
        2 => Ok(current_at_any_time()?.per_thread()),
        other => STREAMS.find(other).ok_or(CUresult::INVALID_HANDLE),
    }
}

exports! {
    fn cuStreamCreate(phStream: *mut CUstream, Flags: u32) {
        if phStream.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        put(phStream, create(Flags, 0)?)
    }

    fn cuStreamCreateWithPriority(phStream: *mut CUstream, flags: u32, priority: i32) {
        if phStream.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        put(phStream, create(flags, priority)?)
    }

    fn cuStreamDestroy_v2(hStream: CUstream) {
        // Programs have seen NVIDIA's driver answer the error that ended the context here, too.
        current()?;
        STREAMS.find(hStream.0).ok_or(CUresult::INVALID_HANDLE)?.context.check()?;
        let stream = STREAMS.remove(hStream.0).ok_or(CUresult::INVALID_HANDLE)?;
        capture::stream_gone(&stream);
        stream.retire();
        Ok(())
    }

    fn cuStreamGetPriority(hStream: CUstream, priority: *mut i32) {
        put(priority, described(hStream)?.priority)
    }

    fn cuStreamGetFlags(hStream: CUstream, flags: *mut u32) {
        put(flags, described(hStream)?.flags)
    }

    fn cuStreamGetId(hStream: CUstream, streamId: *mut u64) {
        put(streamId, described(hStream)?.id)
    }

    fn cuStreamGetCtx(hStream: CUstream, pctx: *mut CUcontext) {
        put(pctx, CUcontext(described(hStream)?.context.handle()))
    }

    fn cuStreamGetCtx_v2(hStream: CUstream, pCtx: *mut CUcontext, pGreenCtx: *mut CUgreenCtx) {
        put(pCtx, CUcontext(described(hStream)?.context.handle()))?;
        put_optional(pGreenCtx, CUgreenCtx::NULL);
        Ok(())
    }

    fn cuStreamGetDevice(hStream: CUstream, device: *mut CUdevice) {
        put(device, described(hStream)?.context.device.ordinal)
    }

    fn cuStreamQuery(hStream: CUstream) {
        let stream = stream(hStream)?;
        capture::refuse(&stream)?;
        capture::unsafe_call()?;
        if stream.is_idle() { stream.context.check() } else { Err(CUresult::NOT_READY) }
    }

    fn cuStreamSynchronize(hStream: CUstream) {
        let stream = stream(hStream)?;
        capture::refuse(&stream)?;
        capture::unsafe_call()?;
        stream.synchronize()
    }

    fn cuStreamWaitEvent(hStream: CUstream, hEvent: CUevent, Flags: u32) {
        if Flags & !EXTERNAL != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let stream = stream(hStream)?;
        let event = crate::event::event(hEvent)?;
        if Flags & EXTERNAL != 0 && capture::record(&stream, || Ok(Action::Wait(Arc::clone(&event))))? {
            return Ok(());
        }
        if capture::wait_event(&stream, &event)? {
            return Ok(());
        }
        if let Some(ticket) = event.ticket().filter(|ticket| !ticket.is_done()) {
            stream.submit_after(Some(ticket), Work::Marker);
        }
        Ok(())
    }

    fn cuStreamAddCallback(hStream: CUstream, callback: CUstreamCallback, userData: *mut c_void, flags: u32) {
        let callback = callback.filter(|_| flags == 0).ok_or(CUresult::INVALID_VALUE)?;
        let data = UserData(userData);
        let stream = stream(hStream)?;
        capture::refuse(&stream)?;
        stream.submit(Work::Callback(Box::new(move |status| {
            // SAFETY: the program gave function and pointer for this call.
            in_host_function(|| unsafe { callback(hStream, status, data.pointer()) });
        })));
        Ok(())
    }

    fn cuLaunchHostFunc(hStream: CUstream, r#fn: CUhostFn, userData: *mut c_void) {
        let call = HostCall::new(&CUDA_HOST_NODE_PARAMS { r#fn, userData })?;
        let stream = stream(hStream)?;
        if capture::record(&stream, || Ok(Action::Host(call)))? {
            return Ok(());
        }
        stream.submit(Work::Host(Box::new(move || call.call())));
        Ok(())
    }

    fn cuStreamAttachMemAsync(hStream: CUstream, dptr: CUdeviceptr, length: usize, flags: u32) {
        let _ = (length, flags);
        stream(hStream)?;
        crate::memory::find(dptr)
            .filter(|allocation| allocation.kind == crate::memory::Kind::Managed)
            .map(|_| ())
            .ok_or(CUresult::INVALID_VALUE)
    }

    fn cuStreamCopyAttributes(dst: CUstream, src: CUstream) {
        stream(dst)?;
        stream(src).map(|_| ())
    }

    fn cuStreamGetAttribute(hStream: CUstream, attr: CUstreamAttrID, value_out: *mut CUstreamAttrValue) {
        let stream = stream(hStream)?;
        let mut value = CUstreamAttrValue { bytes: [0; 8] };
        if attr == 8 {
            // The priority is the first of the value's 64 bytes, as an int.
            value.bytes[0] = u64::from(stream.priority as u32);
        }
        put(value_out, value)
    }

    fn cuStreamSetAttribute(hStream: CUstream, attr: CUstreamAttrID, value: *const CUstreamAttrValue) {
        let _ = attr;
        if value.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        stream(hStream).map(|_| ())
    }
}
