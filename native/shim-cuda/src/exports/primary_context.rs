//! Primary contexts: their state is the client's, their existence the worker's.

use std::ffi::{c_int, c_uint};

use cuda_abi::{CUcontext, CUdevice, CUresult};
use wire::cuda;

use crate::callback;
use crate::client::{Client, index_of};
use crate::convert::{opaque, out, write_if};
use crate::entry::Answer;
use crate::exports::context::outside;
use crate::{servers, state};

/// Flags that a context may have: scheduling (0, 1, 2, 4), map host, LMEM resize, coredump bits.
const KNOWN_FLAGS: c_uint = 0xff;

exports! {
    fn cuDevicePrimaryCtxRetain(pctx: *mut CUcontext, dev: CUdevice) enter |client| {
        let place = out(pctx)?;
        *place = opaque(retain(servers::with_device(client, dev)?, dev)?);
        Ok(())
    }

    fn cuDevicePrimaryCtxRelease_v2(dev: CUdevice) enter |client| {
        let client = servers::with_device(client, dev)?;
        let index = client.devices.index(dev)?;
        if client.contexts.release_primary(index)? {
            destroy(client, dev, |device| client.call_alone(&cuda::CuDevicePrimaryCtxReleaseV2 { device }))?;
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxReset_v2(dev: CUdevice) enter_found |found| {
        // What was never made is reset without a GPU.
        if found.contexts.reset_primary(found.devices.index(dev)?) {
            let client = servers::with_device(state::client()?, dev)?;
            destroy(client, dev, |device| client.call_alone(&cuda::CuDevicePrimaryCtxResetV2 { device }))?;
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(dev: CUdevice, flags: *mut c_uint, active: *mut c_int) enter_found |found| {
        let (current_flags, is_active) = found.contexts.primary_state(found.devices.index(dev)?);
        write_if(flags, current_flags);
        write_if(active, c_int::from(is_active));
        Ok(())
    }

    fn cuDevicePrimaryCtxSetFlags_v2(dev: CUdevice, flags: c_uint) enter_found |found| {
        let index = found.devices.index(dev)?;
        if flags & !KNOWN_FLAGS != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        found.contexts.set_primary_flags(index, flags);
        Ok(())
    }
}

/// Retains the primary context of `device`.
fn retain(client: &Client, device: CUdevice) -> Answer<wire::handle::Context> {
    let index = client.devices.index(device)?;
    let ordinal = client.devices.get(device)?.session_ordinal;
    outside(client, || {
        client.contexts.retain_primary(index, |context| {
            client.call_alone(&cuda::CuDevicePrimaryCtxRetain { device: ordinal, context })
        })
    })
}

/// Lets the worker destroy a primary context, and forgets what belonged to it.
fn destroy(client: &Client, device: CUdevice, request: impl FnOnce(i32) -> Answer) -> Answer {
    let ordinal = client.devices.get(device)?.session_ordinal;
    let context = client.contexts.primary_context(client.devices.index(device)?);
    let asked = context.map_or_else(Vec::new, |context| callback::asked_in(client, index_of(context)));
    let left = context.map(|context| client.forget_context(context)).unwrap_or_default();
    let destroyed = outside(client, || request(ordinal));
    callback::context_gone(client, &asked);
    client.context_destroyed(left, destroyed)
}
