//! Parameters of nodes.

use cuda_abi::{
    CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEM_ALLOC_NODE_PARAMS,
    CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS, CUdeviceptr, CUevent, CUgraph, CUgraphNode, CUgraphNodeParams,
    CUkernelNodeAttrID, CUkernelNodeAttrValue, CUmemLocation, CUmemPoolProps, CUresult,
};

use wire::cuda::LaunchAttribute;

use crate::client::Client;
use crate::convert::{opaque, out};
use crate::entry::Answer;
use crate::exports::graph::put;
use crate::exports::graph_node::{
    any_action, copy_action, event, fill_action, host_action, kernel_action, newest,
};
use crate::graph::action::{Action, copy_parameters};
use crate::graph::node;
use crate::launch;

const LOCATION_DEVICE: i32 = 1;
const ALLOCATION_PINNED: i32 = 1;

/// Does something with what a node does, which must be of the right kind.
macro_rules! expect {
    ($node:expr, $kind:ident($($value:ident),*) => $then:expr) => {{
        let action = node($node)?.action();
        let Action::$kind($($value),*) = &*action else { return Err(CUresult::INVALID_VALUE) };
        $then
    }};
}

/// # Safety
/// The pointer is null or leads to parameters.
unsafe fn set_kernel(
    client: &'static Client,
    changed: CUgraphNode,
    given: &CUDA_KERNEL_NODE_PARAMS,
) -> Answer {
    // SAFETY: the caller promises it.
    let new = unsafe { kernel_action(client, given) }?;
    // Attributes of the node stay.
    let attributes = expect!(changed, Kernel(call) => call.attributes.clone());
    let Action::Kernel(new) = new else { return Err(CUresult::INVALID_VALUE) };
    node(changed)?.set_action(Action::Kernel(new.with_attributes(attributes)))
}

/// The parameters of a kernel node.
fn kernel_parameters(changed: CUgraphNode) -> Answer<CUDA_KERNEL_NODE_PARAMS> {
    Ok(expect!(changed, Kernel(call) => call.parameters()))
}

exports! {
    fn cuGraphKernelNodeGetParams(hNode: CUgraphNode, nodeParams: *mut CUDA_KERNEL_NODE_PARAMS_v1) enter_local |_client| {
        let it = kernel_parameters(hNode)?;
        put(nodeParams, CUDA_KERNEL_NODE_PARAMS_v1 {
            func: it.func,
            gridDimX: it.gridDimX,
            gridDimY: it.gridDimY,
            gridDimZ: it.gridDimZ,
            blockDimX: it.blockDimX,
            blockDimY: it.blockDimY,
            blockDimZ: it.blockDimZ,
            sharedMemBytes: it.sharedMemBytes,
            kernelParams: it.kernelParams,
            extra: it.extra,
        })
    }

    fn cuGraphKernelNodeGetParams_v2(hNode: CUgraphNode, nodeParams: *mut CUDA_KERNEL_NODE_PARAMS) enter_local |_client| {
        put(nodeParams, kernel_parameters(hNode)?)
    }

    fn cuGraphKernelNodeSetParams(hNode: CUgraphNode, nodeParams: *const CUDA_KERNEL_NODE_PARAMS_v1) enter_local |client| {
        set_kernel(client, hNode, &newest(nodeParams)?)
    }

    fn cuGraphKernelNodeSetParams_v2(hNode: CUgraphNode, nodeParams: *const CUDA_KERNEL_NODE_PARAMS) enter_local |client| {
        if nodeParams.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        set_kernel(client, hNode, &nodeParams.read())
    }

    fn cuGraphKernelNodeGetAttribute(
        hNode: CUgraphNode, attr: CUkernelNodeAttrID, value_out: *mut CUkernelNodeAttrValue,
    ) enter_local |_client| {
        let attributes = expect!(hNode, Kernel(call) => call.attributes.clone());
        let bytes = attributes.iter().find(|known| known.id == attr).map_or([0; 8], |known| known.value);
        put(value_out, CUkernelNodeAttrValue { bytes })
    }

    fn cuGraphKernelNodeSetAttribute(
        hNode: CUgraphNode, attr: CUkernelNodeAttrID, value: *const CUkernelNodeAttrValue,
    ) enter_local |_client| {
        let bytes = out(value.cast_mut())?.bytes;
        let mut attributes = expect!(hNode, Kernel(call) => call.attributes.clone());
        if !launch::PLAIN_ATTRIBUTES.contains(&attr) {
            // The others are advice.
            return Ok(());
        }
        attributes.retain(|known| known.id != attr);
        attributes.push(LaunchAttribute { id: attr, value: bytes });
        expect!(hNode, Kernel(call) => {
            node(hNode)?.set_action(Action::Kernel(call.with_attributes(attributes)))
        })
    }

    fn cuGraphKernelNodeCopyAttributes(dst: CUgraphNode, src: CUgraphNode) enter_local |_client| {
        let attributes = expect!(src, Kernel(call) => call.attributes.clone());
        expect!(dst, Kernel(call) => {
            node(dst)?.set_action(Action::Kernel(call.with_attributes(attributes)))
        })
    }

    fn cuGraphMemcpyNodeGetParams(hNode: CUgraphNode, nodeParams: *mut CUDA_MEMCPY3D) enter_local |_client| {
        put(nodeParams, expect!(hNode, Copy(copy, _context) => copy_parameters(copy)))
    }

    fn cuGraphMemcpyNodeSetParams(hNode: CUgraphNode, nodeParams: *const CUDA_MEMCPY3D) enter_local |client| {
        let context = expect!(hNode, Copy(_copy, context) => *context);
        node(hNode)?.set_action(copy_action(client, nodeParams, context)?)
    }

    fn cuGraphMemsetNodeGetParams(hNode: CUgraphNode, nodeParams: *mut CUDA_MEMSET_NODE_PARAMS) enter_local |_client| {
        put(nodeParams, expect!(hNode, Fill(filling) => filling.parameters()))
    }

    fn cuGraphMemsetNodeSetParams(hNode: CUgraphNode, nodeParams: *const CUDA_MEMSET_NODE_PARAMS) enter_local |client| {
        let context = expect!(hNode, Fill(filling) => filling.context);
        node(hNode)?.set_action(fill_action(client, nodeParams, context)?)
    }

    fn cuGraphHostNodeGetParams(hNode: CUgraphNode, nodeParams: *mut CUDA_HOST_NODE_PARAMS) enter_local |_client| {
        put(nodeParams, expect!(hNode, Host(call) => call.parameters()))
    }

    fn cuGraphHostNodeSetParams(hNode: CUgraphNode, nodeParams: *const CUDA_HOST_NODE_PARAMS) enter_local |_client| {
        node(hNode)?.set_action(host_action(nodeParams)?)
    }

    fn cuGraphChildGraphNodeGetGraph(hNode: CUgraphNode, phGraph: *mut CUgraph) enter_local |_client| {
        put(phGraph, expect!(hNode, Child(child) => CUgraph(::graph::handle(child))))
    }

    fn cuGraphEventRecordNodeGetEvent(hNode: CUgraphNode, event_out: *mut CUevent) enter_local |_client| {
        put(event_out, expect!(hNode, Record(event) => opaque(*event)))
    }

    fn cuGraphEventRecordNodeSetEvent(hNode: CUgraphNode, event: CUevent) enter_local |client| {
        node(hNode)?.set_action(Action::Record(self::event(client, event)?))
    }

    fn cuGraphEventWaitNodeGetEvent(hNode: CUgraphNode, event_out: *mut CUevent) enter_local |_client| {
        put(event_out, expect!(hNode, Wait(event) => opaque(*event)))
    }

    fn cuGraphEventWaitNodeSetEvent(hNode: CUgraphNode, event: CUevent) enter_local |client| {
        node(hNode)?.set_action(Action::Wait(self::event(client, event)?))
    }

    fn cuGraphMemAllocNodeGetParams(hNode: CUgraphNode, params_out: *mut CUDA_MEM_ALLOC_NODE_PARAMS) enter_local |_client| {
        expect!(hNode, Allocate(memory) => put(params_out, CUDA_MEM_ALLOC_NODE_PARAMS {
            poolProps: CUmemPoolProps {
                allocType: ALLOCATION_PINNED,
                handleTypes: 0,
                location: CUmemLocation { r#type: LOCATION_DEVICE, id: i32::try_from(memory.device()).unwrap_or(0) },
                win32SecurityAttributes: std::ptr::null_mut(),
                maxSize: 0,
                usage: 0,
                reserved: [0; 54],
            },
            accessDescs: std::ptr::null(),
            accessDescCount: 0,
            bytesize: usize::try_from(memory.size()).unwrap_or(usize::MAX),
            dptr: memory.address(),
        }))
    }

    fn cuGraphMemFreeNodeGetParams(hNode: CUgraphNode, dptr_out: *mut CUdeviceptr) enter_local |_client| {
        put(dptr_out, expect!(hNode, Free(address) => *address))
    }

    fn cuGraphNodeSetParams(hNode: CUgraphNode, nodeParams: *mut CUgraphNodeParams) enter_local |client| {
        node(hNode)?.set_action(any_action(client, nodeParams)?)
    }
}
