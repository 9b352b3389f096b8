//! Access of contexts to each other's memory.

use std::ffi::c_uint;

use cuda_abi::{CUcontext, CUresult};
use wire::cuda;
use wire::handle::Context;

use crate::client::Client;
use crate::convert::handle;
use crate::entry::Answer;
use crate::hooks::known;
use crate::servers;

exports! {
    fn cuCtxEnablePeerAccess(peerContext: CUcontext, Flags: c_uint) enter_here |client| {
        if is_elsewhere(client, peerContext)? {
            return Err(CUresult::PEER_ACCESS_UNSUPPORTED);
        }
        client.call(&cuda::CuCtxEnablePeerAccess { peer: known(client, handle(peerContext)?)?, flags: Flags })
    }

    fn cuCtxDisablePeerAccess(peerContext: CUcontext) enter_here |client| {
        if is_elsewhere(client, peerContext)? {
            return Err(CUresult::PEER_ACCESS_NOT_ENABLED);
        }
        let peer = known(client, handle(peerContext)?)?;
        // What was launched before may still use the memory.
        client.call(&cuda::CuCtxSynchronize)?;
        client.call(&cuda::CuCtxDisablePeerAccess { peer })
    }
}

/// Whether a context is one of another server than the current one: memory of other servers is out of reach.
fn is_elsewhere(client: &Client, context: CUcontext) -> Answer<bool> {
    let context: Context = known(client, handle(context)?)?;
    client.contexts.current()?;
    Ok(servers::of_context(context) != client.server)
}
