//! Primary contexts.

use cuda_abi::{CUcontext, CUdevice, CUresult};

use crate::context;
use crate::device::{device, lock};
use crate::guard::{exports, put};

/// The flags that a context may have.
const FLAGS: u32 = 0x7f;

exports! {
    fn cuDevicePrimaryCtxRetain(pctx: *mut CUcontext, dev: CUdevice) {
        let device = device(dev)?;
        if pctx.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        let context = context::primary(device, true)?;
        put(pctx, CUcontext(context.handle()))
    }

    fn cuDevicePrimaryCtxRelease_v2(dev: CUdevice) {
        context::release_primary(device(dev)?)
    }

    fn cuDevicePrimaryCtxReset_v2(dev: CUdevice) {
        context::reset_primary(device(dev)?);
        Ok(())
    }

    fn cuDevicePrimaryCtxSetFlags_v2(dev: CUdevice, flags: u32) {
        if flags & !FLAGS != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let mut primary = lock(&device(dev)?.primary);
        primary.flags = flags;
        if let Some(context) = &primary.context {
            context.flags.store(flags, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(dev: CUdevice, flags: *mut u32, active: *mut i32) {
        let primary = lock(&device(dev)?.primary);
        put(flags, primary.flags)?;
        put(active, i32::from(primary.context.is_some()))
    }
}
