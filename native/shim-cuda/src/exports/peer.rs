//! Access of contexts to each other's memory.

use std::ffi::c_uint;

use cuda_abi::CUcontext;
use wire::cuda;

use crate::convert::handle;
use crate::hooks::known;

exports! {
    fn cuCtxEnablePeerAccess(peerContext: CUcontext, Flags: c_uint) enter |client| {
        client.call(&cuda::CuCtxEnablePeerAccess { peer: known(client, handle(peerContext)?)?, flags: Flags })
    }

    fn cuCtxDisablePeerAccess(peerContext: CUcontext) enter |client| {
        let peer = known(client, handle(peerContext)?)?;
        // What was launched before may still use the memory.
        client.call(&cuda::CuCtxSynchronize)?;
        client.call(&cuda::CuCtxDisablePeerAccess { peer })
    }
}
