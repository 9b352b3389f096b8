//! What the client knows of streams by itself.

use std::ffi::{c_int, c_uint, c_ulonglong};

use cuda_abi::{CUcontext, CUdevice, CUgreenCtx, CUresult, CUstream};
use wire::handle::{Handle, Stream};

use crate::client::Client;
use crate::convert::{opaque, out, write_if};
use crate::entry::Answer;
use crate::stream::{self, NON_BLOCKING, StreamState};

exports! {
    fn cuStreamGetFlags(hStream: CUstream, flags: *mut c_uint) enter_local |client| {
        let place = out(flags)?;
        *place = state(client, hStream)?.flags & NON_BLOCKING;
        Ok(())
    }

    fn cuStreamGetPriority(hStream: CUstream, priority: *mut c_int) enter_local |client| {
        let place = out(priority)?;
        *place = state(client, hStream)?.priority;
        Ok(())
    }

    fn cuStreamGetId(hStream: CUstream, streamId: *mut c_ulonglong) enter_local |client| {
        let place = out(streamId)?;
        *place = state(client, hStream)?.id;
        Ok(())
    }

    fn cuStreamGetCtx(hStream: CUstream, pctx: *mut CUcontext) enter_local |client| {
        let place = out(pctx)?;
        *place = opaque(state(client, hStream)?.context);
        Ok(())
    }

    fn cuStreamGetCtx_v2(hStream: CUstream, pCtx: *mut CUcontext, pGreenCtx: *mut CUgreenCtx) enter_local |client| {
        let place = out(pCtx)?;
        *place = opaque(state(client, hStream)?.context);
        write_if(pGreenCtx, CUgreenCtx::NULL);
        Ok(())
    }

    fn cuStreamGetDevice(hStream: CUstream, device: *mut CUdevice) enter_local |client| {
        let place = out(device)?;
        let context = state(client, hStream)?.context;
        let index = client.contexts.state(context)?.device;
        *place = CUdevice::try_from(index).map_err(|_| CUresult::UNKNOWN)?;
        Ok(())
    }
}

/// The state of a stream; the default streams have one too.
fn state(client: &Client, stream: CUstream) -> Answer<StreamState> {
    match stream.0 as u64 {
        raw @ (0 | stream::LEGACY | stream::PER_THREAD) => {
            let (context, _) = client.contexts.current()?;
            Ok(StreamState { flags: 0, priority: 0, context, id: raw })
        }
        raw => client.streams.state(Stream::from_raw(raw)),
    }
}
