//! Contexts.

use std::sync::atomic::Ordering;

use cuda_abi::{
    CUcontext, CUctxCreateParams, CUdevice, CUevent, CUexecAffinityParam, CUfunc_cache, CUlimit, CUresult,
    CUsharedconfig,
};

use crate::capture;
use crate::context::{self, Context, Entry, context, current, top};
use crate::device::{device, lock};
use crate::guard::{Answer, exports, put, put_optional};
use crate::stream::Work;

/// The flags that a context may have.
const FLAGS: u32 = 0x7f;

fn create(flags: u32, ordinal: CUdevice, api_version: u32) -> Answer<CUcontext> {
    if flags & !FLAGS != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    context::unharmed()?;
    let context = Context::create(device(ordinal)?, flags, false, api_version)?;
    let made = CUcontext(context.handle());
    context::push(Entry::Created(context));
    Ok(made)
}

/// The device of a context on a thread's stack. cuda.h: whatever reaches for a destroyed context there, or for a
/// primary one that is not active, learns that it is destroyed.
fn alive(entry: Entry) -> Answer<CUdevice> {
    if entry.is_alive() { Ok(entry.device().ordinal) } else { Err(CUresult::CONTEXT_IS_DESTROYED) }
}

exports! {
    fn cuCtxCreate_v2(pctx: *mut CUcontext, flags: u32, dev: CUdevice) {
        if pctx.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        put(pctx, create(flags, dev, 3020)?)
    }

    fn cuCtxCreate_v3(
        pctx: *mut CUcontext, paramsArray: *mut CUexecAffinityParam, numParams: i32, flags: u32, dev: CUdevice,
    ) {
        let _ = paramsArray;
        if pctx.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        if numParams != 0 {
            return Err(CUresult::UNSUPPORTED_EXEC_AFFINITY);
        }
        put(pctx, create(flags, dev, 3030)?)
    }

    fn cuCtxCreate_v4(pctx: *mut CUcontext, ctxCreateParams: *mut CUctxCreateParams, flags: u32, dev: CUdevice) {
        if pctx.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        if !ctxCreateParams.is_null() {
            let parameters = ctxCreateParams.read();
            if parameters.numExecAffinityParams != 0 {
                return Err(CUresult::UNSUPPORTED_EXEC_AFFINITY);
            }
            if !parameters.cigParams.is_null() {
                return Err(CUresult::NOT_SUPPORTED);
            }
        }
        put(pctx, create(flags, dev, 3040)?)
    }

    fn cuCtxDestroy_v2(ctx: CUcontext) {
        let context = context::CONTEXTS.find(ctx.0).ok_or(CUresult::INVALID_CONTEXT)?;
        if context.primary {
            return Err(CUresult::INVALID_CONTEXT);
        }
        context.destroy();
        if top().is_some_and(|entry| entry.handle() == ctx) {
            context::pop();
        }
        Ok(())
    }

    fn cuCtxPushCurrent_v2(ctx: CUcontext) {
        context::push(Entry::of(ctx)?);
        Ok(())
    }

    fn cuCtxPopCurrent_v2(pctx: *mut CUcontext) {
        let popped = context::pop().ok_or(CUresult::INVALID_CONTEXT)?;
        put_optional(pctx, popped.handle());
        Ok(())
    }

    fn cuCtxSetCurrent(ctx: CUcontext) {
        if ctx.is_null() {
            context::set_current(None);
            return Ok(());
        }
        context::set_current(Some(Entry::of(ctx)?));
        Ok(())
    }

    fn cuCtxGetCurrent(pctx: *mut CUcontext) {
        put(pctx, top().map_or(CUcontext::NULL, |entry| entry.handle()))
    }

    fn cuCtxGetDevice(device: *mut CUdevice) {
        put(device, alive(top().ok_or(CUresult::INVALID_CONTEXT)?)?)
    }

    fn cuCtxGetDevice_v2(device: *mut CUdevice, ctx: CUcontext) {
        let entry = if ctx.is_null() { top().ok_or(CUresult::INVALID_CONTEXT)? } else { Entry::of(ctx)? };
        put(device, alive(entry)?)
    }

    fn cuCtxGetFlags(flags: *mut u32) {
        put(flags, context::current_at_any_time()?.flags.load(Ordering::Relaxed))
    }

    fn cuCtxSetFlags(flags: u32) {
        if flags & !FLAGS != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        current()?.flags.store(flags, Ordering::Relaxed);
        Ok(())
    }

    fn cuCtxGetId(ctx: CUcontext, ctxId: *mut u64) {
        put(ctxId, context(ctx)?.id)
    }

    fn cuCtxGetApiVersion(ctx: CUcontext, version: *mut u32) {
        put(version, context(ctx)?.api_version)
    }

    fn cuCtxSynchronize() {
        let context = current()?;
        capture::wait_for_context(&context)?;
        context.synchronize()
    }

    fn cuCtxSynchronize_v2(ctx: CUcontext) {
        let context = context(ctx)?;
        capture::wait_for_context(&context)?;
        context.synchronize()
    }

    fn cuCtxGetLimit(pvalue: *mut usize, limit: CUlimit) {
        let value = lock(&current()?.limits).get(&limit).copied();
        put(pvalue, value.ok_or(CUresult::UNSUPPORTED_LIMIT)?)
    }

    fn cuCtxSetLimit(limit: CUlimit, value: usize) {
        let context = current()?;
        let mut limits = lock(&context.limits);
        *limits.get_mut(&limit).ok_or(CUresult::UNSUPPORTED_LIMIT)? = value;
        Ok(())
    }

    fn cuCtxGetCacheConfig(pconfig: *mut CUfunc_cache) {
        put(pconfig, current()?.cache_config.load(Ordering::Relaxed))
    }

    fn cuCtxSetCacheConfig(config: CUfunc_cache) {
        if !(0..=3).contains(&config) {
            return Err(CUresult::INVALID_VALUE);
        }
        current()?.cache_config.store(config, Ordering::Relaxed);
        Ok(())
    }

    fn cuCtxGetSharedMemConfig(pConfig: *mut CUsharedconfig) {
        put(pConfig, current()?.shared_config.load(Ordering::Relaxed))
    }

    fn cuCtxSetSharedMemConfig(config: CUsharedconfig) {
        let _ = config;
        current().map(|_| ())
    }

    fn cuCtxGetStreamPriorityRange(leastPriority: *mut i32, greatestPriority: *mut i32) {
        current()?;
        put_optional(leastPriority, 0);
        put_optional(greatestPriority, -5);
        Ok(())
    }

    fn cuCtxResetPersistingL2Cache() {
        current().map(|_| ())
    }

    fn cuCtxRecordEvent(hCtx: CUcontext, hEvent: CUevent) {
        let context = context(hCtx)?;
        capture::wait_for_context(&context)?;
        let event = crate::event::event(hEvent)?;
        // A place behind everything: a marker of the legacy stream that waits for all other streams.
        let legacy = context.legacy();
        let mut last = Vec::new();
        context.for_each_stream(|stream| last.push(stream.last()));
        for ticket in last {
            legacy.submit_after(Some(ticket), Work::Marker);
        }
        event.record(&legacy);
        Ok(())
    }

    fn cuCtxWaitEvent(hCtx: CUcontext, hEvent: CUevent) {
        let context = context(hCtx)?;
        capture::wait_for_context(&context)?;
        let Some(ticket) = crate::event::event(hEvent)?.ticket() else { return Ok(()) };
        context.legacy().submit_after(Some(ticket.clone()), Work::Marker);
        context.for_each_stream(|stream| {
            stream.submit_after(Some(ticket.clone()), Work::Marker);
        });
        Ok(())
    }
}
