//! What graphs own: objects of the program, and memory.

use std::ffi::c_void;

use cuda_abi::{CUdevice, CUgraph, CUgraphMem_attribute, CUhostFn, CUresult, CUuserObject};

use ::graph::{Held, UserObject, user_object};

use crate::callback;
use crate::exports::graph::put;
use crate::graph::action::HostCall;
use crate::graph::graph;
use crate::graph::memory::{reset_high, usage};

/// The destructor may run whenever it likes: the only kind there is.
const NO_DESTRUCTOR_SYNC: u32 = 1;
/// The program's references become the graph's.
const MOVE: u32 = 1;

exports! {
    fn cuUserObjectCreate(
        object_out: *mut CUuserObject, ptr: *mut c_void, destroy: CUhostFn, initialRefcount: u32, flags: u32,
    ) enter_local |_client| {
        let destroy = destroy.ok_or(CUresult::INVALID_VALUE)?;
        if object_out.is_null() || flags != NO_DESTRUCTOR_SYNC || initialRefcount == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let call = HostCall { function: destroy, data: ptr };
        put(object_out, UserObject::create(Box::new(move || callback::run(call)), initialRefcount))
    }

    fn cuUserObjectRetain(object: CUuserObject, count: u32) enter_local |_client| {
        user_object(object)?.retain(count.into());
        Ok(())
    }

    fn cuUserObjectRelease(object: CUuserObject, count: u32) enter_local |_client| {
        user_object(object)?.release(count.into())
    }

    fn cuGraphRetainUserObject(graph: CUgraph, object: CUuserObject, count: u32, flags: u32) enter_local |_client| {
        let (graph, object) = (self::graph(graph)?, user_object(object)?);
        if flags & !MOVE != 0 || count == 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        if flags & MOVE == 0 {
            object.retain(count.into());
        }
        graph.hold(Held { object, count: count.into() });
        Ok(())
    }

    fn cuGraphReleaseUserObject(graph: CUgraph, object: CUuserObject, count: u32) enter_local |_client| {
        self::graph(graph)?.let_go(&user_object(object)?, count.into())
    }

    fn cuDeviceGraphMemTrim(device: CUdevice) enter_local |client| {
        // Memory of graphs is kept for their nodes only.
        client.devices.index(device).map(drop)
    }

    fn cuDeviceGetGraphMemAttribute(device: CUdevice, attr: CUgraphMem_attribute, value: *mut c_void) enter_local |client| {
        let usage = usage(client.devices.index(device)?);
        let wanted = usage.get(usize::try_from(attr).unwrap_or(usize::MAX)).ok_or(CUresult::INVALID_VALUE)?;
        put(value.cast::<u64>(), *wanted)
    }

    fn cuDeviceSetGraphMemAttribute(device: CUdevice, attr: CUgraphMem_attribute, value: *mut c_void) enter_local |client| {
        let device = client.devices.index(device)?;
        // Only the high-water marks change, and only to 0.
        if value.is_null() || value.cast::<u64>().read() != 0 || !matches!(attr, 1 | 3) {
            return Err(CUresult::INVALID_VALUE);
        }
        reset_high(device, attr == 1);
        Ok(())
    }
}
