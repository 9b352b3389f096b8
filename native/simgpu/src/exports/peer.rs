//! Access of devices to each other's memory.

use std::sync::PoisonError;

use cuda_abi::{CUcontext, CUdevice, CUdevice_P2PAttribute, CUresult};

use crate::context::{CONTEXTS, current};
use crate::device::device;
use crate::guard::{exports, put};

exports! {
    fn cuDeviceCanAccessPeer(canAccessPeer: *mut i32, dev: CUdevice, peerDev: CUdevice) {
        device(dev)?;
        device(peerDev)?;
        put(canAccessPeer, i32::from(dev != peerDev))
    }

    fn cuDeviceGetP2PAttribute(
        value: *mut i32, attrib: CUdevice_P2PAttribute, srcDevice: CUdevice, dstDevice: CUdevice,
    ) {
        device(srcDevice)?;
        device(dstDevice)?;
        if srcDevice == dstDevice {
            return Err(CUresult::INVALID_DEVICE);
        }
        match attrib {
            1 => put(value, 0),
            2 | 3 => put(value, 1),
            4 | 5 => put(value, 0),
            _ => Err(CUresult::INVALID_VALUE),
        }
    }

    fn cuCtxEnablePeerAccess(peerContext: CUcontext, Flags: u32) {
        let context = current()?;
        let peer = CONTEXTS.find(peerContext.0).ok_or(CUresult::INVALID_CONTEXT)?;
        if Flags != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        if peer.device.ordinal == context.device.ordinal {
            return Err(CUresult::INVALID_DEVICE);
        }
        let mut peers = context.peers.write().unwrap_or_else(PoisonError::into_inner);
        if peers.contains(&peer.id) {
            return Err(CUresult::PEER_ACCESS_ALREADY_ENABLED);
        }
        peers.push(peer.id);
        Ok(())
    }

    fn cuCtxDisablePeerAccess(peerContext: CUcontext) {
        let context = current()?;
        let peer = CONTEXTS.find(peerContext.0).ok_or(CUresult::INVALID_CONTEXT)?;
        let mut peers = context.peers.write().unwrap_or_else(PoisonError::into_inner);
        let at = peers.iter().position(|other| *other == peer.id);
        peers.swap_remove(at.ok_or(CUresult::PEER_ACCESS_NOT_ENABLED)?);
        drop(peers);
        crate::memory::next_generation();
        Ok(())
    }
}
