//! Contexts of a program's own, and the stack of current ones.

use std::ffi::{c_int, c_uint, c_ulonglong};

use cuda_abi::{CUcontext, CUctxCreateParams, CUdevice, CUexecAffinityParam, CUresult};
use wire::cuda;
use wire::handle::{Context, Handle};

use crate::client::Client;
use crate::context::{self, API_VERSION, ContextState};
use crate::convert::{handle, opaque, out, write_if};
use crate::entry::Answer;
use crate::found::Found;
use crate::{callback, servers};

exports! {
    fn cuCtxCreate_v2(pctx: *mut CUcontext, flags: c_uint, dev: CUdevice) enter |client| {
        *out(pctx)? = opaque(create(servers::with_device(client, dev)?, flags, dev)?);
        Ok(())
    }

    fn cuCtxCreate_v3(
        pctx: *mut CUcontext,
        paramsArray: *mut CUexecAffinityParam,
        numParams: c_int,
        flags: c_uint,
        dev: CUdevice,
    ) enter |client| {
        let place = out(pctx)?;
        if !paramsArray.is_null() || numParams != 0 {
            crate::report::once("cuCtxCreate_v3 with an execution affinity is not supported by Farpool yet");
            return Err(CUresult::UNSUPPORTED_EXEC_AFFINITY);
        }
        *place = opaque(create(servers::with_device(client, dev)?, flags, dev)?);
        Ok(())
    }

    fn cuCtxCreate_v4(
        pctx: *mut CUcontext,
        ctxCreateParams: *mut CUctxCreateParams,
        flags: c_uint,
        dev: CUdevice,
    ) enter |client| {
        let place = out(pctx)?;
        if let Some(parameters) = ctxCreateParams.as_ref()
            && (parameters.numExecAffinityParams != 0 || !parameters.cigParams.is_null())
        {
            crate::report::once("cuCtxCreate_v4 with affinity or graphics parameters is not supported by Farpool yet");
            return Err(CUresult::NOT_SUPPORTED);
        }
        *place = opaque(create(servers::with_device(client, dev)?, flags, dev)?);
        Ok(())
    }

    fn cuCtxDestroy_v2(ctx: CUcontext) enter_stack |client| {
        let context = known(ctx)?;
        if client.contexts.state(context)?.primary {
            return Err(CUresult::INVALID_CONTEXT);
        }
        if context::current() == Some(context) {
            context::pop();
        }
        let asked = callback::asked_in(client, crate::client::index_of(context));
        client.contexts.remove(context);
        let left = client.forget_context(context);
        let destroyed = outside(client, || client.call_alone(&cuda::CuCtxDestroyV2 { context }));
        callback::context_gone(client, &asked);
        client.context_destroyed(left, destroyed)
    }

    fn cuCtxGetCurrent(pctx: *mut CUcontext) enter_found |_found| {
        *out(pctx)? = context::current().map_or(CUcontext::NULL, opaque);
        Ok(())
    }

    fn cuCtxSetCurrent(ctx: CUcontext) enter_found |found| {
        if ctx.is_null() {
            context::set_current(None);
            return Ok(());
        }
        let context = known(ctx)?;
        may_be_current(found, context)?;
        context::set_current(Some(context));
        Ok(())
    }

    fn cuCtxPushCurrent_v2(ctx: CUcontext) enter_found |found| {
        let context = known(ctx)?;
        may_be_current(found, context)?;
        context::push(context);
        Ok(())
    }

    fn cuCtxPopCurrent_v2(pctx: *mut CUcontext) enter_found |_found| {
        let context = context::pop().ok_or(CUresult::INVALID_CONTEXT)?;
        write_if(pctx, opaque(context));
        Ok(())
    }

    fn cuCtxGetDevice(device: *mut CUdevice) enter_found |found| {
        let place = out(device)?;
        *place = ordinal(found.contexts.current()?.1)?;
        Ok(())
    }

    fn cuCtxGetDevice_v2(device: *mut CUdevice, ctx: CUcontext) enter_found |found| {
        let place = out(device)?;
        *place = ordinal(state_or_current(found, ctx)?)?;
        Ok(())
    }

    fn cuCtxGetFlags(flags: *mut c_uint) enter_found |found| {
        *out(flags)? = found.contexts.current()?.1.flags;
        Ok(())
    }

    fn cuCtxGetApiVersion(ctx: CUcontext, version: *mut c_uint) enter_found |found| {
        let place = out(version)?;
        state_or_current(found, ctx)?;
        *place = API_VERSION;
        Ok(())
    }

    fn cuCtxGetId(ctx: CUcontext, ctxId: *mut c_ulonglong) enter_found |found| {
        let place = out(ctxId)?;
        let context = if ctx.is_null() { found.contexts.current()?.0 } else { known(ctx)? };
        found.contexts.state(context)?;
        *place = c_ulonglong::from(crate::client::index_of(context));
        Ok(())
    }
}

/// Makes a context and pushes it on the thread's stack; also behind a private table.
pub fn create(client: &Client, flags: c_uint, device: CUdevice) -> Answer<Context> {
    let index = client.devices.index(device)?;
    let ordinal = client.devices.get(device)?.session_ordinal;
    let context: Context = client.new_handle();
    outside(client, || client.call_alone(&cuda::CuCtxCreateV2 { context, flags, device: ordinal }))?;
    client.contexts.insert(context, ContextState { device: index, flags, primary: false });
    context::push(context);
    Ok(context)
}

/// Makes a call that needs no context, although the thread's current one may be destroyed, or be another server's.
pub fn outside<T>(client: &Client, call: impl FnOnce() -> Answer<T>) -> Answer<T> {
    let is_here = |(context, _)| servers::of_context(context) == client.server;
    if client.contexts.current().is_ok_and(is_here) {
        return call();
    }
    context::within(Context::from_raw(0), call)
}

fn known(context: CUcontext) -> Answer<Context> {
    handle(context).map_err(|_| CUresult::INVALID_CONTEXT)
}

/// A context that lives, or a primary one: its handle stays good when it is released, and calls in it answer
/// that it is destroyed.
fn may_be_current(found: &Found, context: Context) -> Answer {
    let devices = 0..found.devices.iter().count();
    if devices.into_iter().any(|device| found.contexts.primary_context(device) == Some(context)) {
        return Ok(());
    }
    found.contexts.state(context).map(drop)
}

fn state_or_current(found: &Found, context: CUcontext) -> Answer<ContextState> {
    if context.is_null() { Ok(found.contexts.current()?.1) } else { found.contexts.state(known(context)?) }
}

fn ordinal(state: ContextState) -> Answer<CUdevice> {
    CUdevice::try_from(state.device).map_err(|_| CUresult::UNKNOWN)
}
