//! Parameters of nodes.

use cuda_abi::{
    CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEM_ALLOC_NODE_PARAMS,
    CUDA_MEMCPY3D, CUDA_MEMSET_NODE_PARAMS, CUcontext, CUdeviceptr, CUevent, CUfunction, CUgraph,
    CUgraphNode, CUgraphNodeParams, CUkernel, CUkernelNodeAttrID, CUkernelNodeAttrValue, CUmemLocation,
    CUmemPoolProps, CUresult,
};

use crate::event::event;
use crate::exports::graph_node::{any_action, copy_action, fill_action, host_action, kernel_action, newest};
use crate::graph::action::{Action, KernelCall, copy_parameters, fill_parameters};
use crate::graph::node;
use crate::guard::{Answer, exports, put};
use crate::library::KERNELS;
use graph::handle;

const ATTRIBUTE_COOPERATIVE: i32 = 2;
const LOCATION_DEVICE: i32 = 1;
const ALLOCATION_PINNED: i32 = 1;

fn kernel_parameters(call: &KernelCall) -> CUDA_KERNEL_NODE_PARAMS {
    let [gridDimX, gridDimY, gridDimZ] = call.shape.grid;
    let [blockDimX, blockDimY, blockDimZ] = call.shape.block;
    let kern = if KERNELS.find(call.handle).is_some() { CUkernel(call.handle) } else { CUkernel::NULL };
    CUDA_KERNEL_NODE_PARAMS {
        func: CUfunction(handle(&call.function)),
        gridDimX,
        gridDimY,
        gridDimZ,
        blockDimX,
        blockDimY,
        blockDimZ,
        sharedMemBytes: call.shape.shared_bytes,
        kernelParams: call.parameters(),
        extra: std::ptr::null_mut(),
        kern,
        ctx: CUcontext(call.function.module.context.handle()),
    }
}

/// Does something with what a node does, which must be of the right kind.
macro_rules! expect {
    ($node:expr, $kind:ident($value:ident) => $then:expr) => {{
        let action = node($node)?.action();
        let Action::$kind($value) = &*action else { return Err(CUresult::INVALID_VALUE) };
        $then
    }};
}

/// # Safety
/// The pointer is null or leads to parameters.
unsafe fn set_kernel(hNode: CUgraphNode, given: &CUDA_KERNEL_NODE_PARAMS) -> Answer {
    // SAFETY: the caller promises it.
    let new = unsafe { kernel_action(given) }?;
    // Attributes of the node stay.
    let cooperative = expect!(hNode, Kernel(call) => call.shape.cooperative);
    let Action::Kernel(new) = new else { return Err(CUresult::INVALID_VALUE) };
    let shape = crate::launch::Shape { cooperative, ..new.shape };
    node(hNode)?.set_action(Action::Kernel(new.with_shape(shape)))
}

exports! {
    fn cuGraphKernelNodeGetParams(hNode: CUgraphNode, nodeParams: *mut CUDA_KERNEL_NODE_PARAMS_v1) {
        let it = expect!(hNode, Kernel(call) => kernel_parameters(call));
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

    fn cuGraphKernelNodeGetParams_v2(hNode: CUgraphNode, nodeParams: *mut CUDA_KERNEL_NODE_PARAMS) {
        put(nodeParams, expect!(hNode, Kernel(call) => kernel_parameters(call)))
    }

    fn cuGraphKernelNodeSetParams(hNode: CUgraphNode, nodeParams: *const CUDA_KERNEL_NODE_PARAMS_v1) {
        set_kernel(hNode, &newest(nodeParams)?)
    }

    fn cuGraphKernelNodeSetParams_v2(hNode: CUgraphNode, nodeParams: *const CUDA_KERNEL_NODE_PARAMS) {
        if nodeParams.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        set_kernel(hNode, &nodeParams.read())
    }

    fn cuGraphKernelNodeGetAttribute(
        hNode: CUgraphNode, attr: CUkernelNodeAttrID, value_out: *mut CUkernelNodeAttrValue,
    ) {
        let mut value = CUkernelNodeAttrValue { bytes: [0; 8] };
        if attr == ATTRIBUTE_COOPERATIVE {
            value.bytes[0] = expect!(hNode, Kernel(call) => u64::from(call.shape.cooperative));
        }
        expect!(hNode, Kernel(_call) => put(value_out, value))
    }

    fn cuGraphKernelNodeSetAttribute(
        hNode: CUgraphNode, attr: CUkernelNodeAttrID, value: *const CUkernelNodeAttrValue,
    ) {
        if value.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        expect!(hNode, Kernel(call) => {
            if attr != ATTRIBUTE_COOPERATIVE {
                // The others are advice.
                return Ok(());
            }
            let cooperative = value.read().bytes[0] as u32 != 0;
            let shape = crate::launch::Shape { cooperative, ..call.shape };
            crate::launch::check(&call.function, call.function.kernel()?, &shape)?;
            node(hNode)?.set_action(Action::Kernel(call.with_shape(shape)))
        })
    }

    fn cuGraphKernelNodeCopyAttributes(dst: CUgraphNode, src: CUgraphNode) {
        let cooperative = expect!(src, Kernel(call) => call.shape.cooperative);
        expect!(dst, Kernel(call) => {
            let shape = crate::launch::Shape { cooperative, ..call.shape };
            node(dst)?.set_action(Action::Kernel(call.with_shape(shape)))
        })
    }

    fn cuGraphMemcpyNodeGetParams(hNode: CUgraphNode, nodeParams: *mut CUDA_MEMCPY3D) {
        put(nodeParams, expect!(hNode, Copy(transfer) => copy_parameters(transfer)))
    }

    fn cuGraphMemcpyNodeSetParams(hNode: CUgraphNode, nodeParams: *const CUDA_MEMCPY3D) {
        node(hNode)?.set_action(copy_action(nodeParams)?)
    }

    fn cuGraphMemsetNodeGetParams(hNode: CUgraphNode, nodeParams: *mut CUDA_MEMSET_NODE_PARAMS) {
        put(nodeParams, expect!(hNode, Fill(filling) => fill_parameters(filling)))
    }

    fn cuGraphMemsetNodeSetParams(hNode: CUgraphNode, nodeParams: *const CUDA_MEMSET_NODE_PARAMS) {
        node(hNode)?.set_action(fill_action(nodeParams)?)
    }

    fn cuGraphHostNodeGetParams(hNode: CUgraphNode, nodeParams: *mut CUDA_HOST_NODE_PARAMS) {
        put(nodeParams, expect!(hNode, Host(call) => call.parameters()))
    }

    fn cuGraphHostNodeSetParams(hNode: CUgraphNode, nodeParams: *const CUDA_HOST_NODE_PARAMS) {
        node(hNode)?.set_action(host_action(nodeParams)?)
    }

    fn cuGraphChildGraphNodeGetGraph(hNode: CUgraphNode, phGraph: *mut CUgraph) {
        put(phGraph, expect!(hNode, Child(child) => CUgraph(handle(child))))
    }

    fn cuGraphEventRecordNodeGetEvent(hNode: CUgraphNode, event_out: *mut CUevent) {
        put(event_out, expect!(hNode, Record(event) => CUevent(handle(event))))
    }

    fn cuGraphEventRecordNodeSetEvent(hNode: CUgraphNode, event: CUevent) {
        node(hNode)?.set_action(Action::Record(self::event(event)?))
    }

    fn cuGraphEventWaitNodeGetEvent(hNode: CUgraphNode, event_out: *mut CUevent) {
        put(event_out, expect!(hNode, Wait(event) => CUevent(handle(event))))
    }

    fn cuGraphEventWaitNodeSetEvent(hNode: CUgraphNode, event: CUevent) {
        node(hNode)?.set_action(Action::Wait(self::event(event)?))
    }

    fn cuGraphMemAllocNodeGetParams(hNode: CUgraphNode, params_out: *mut CUDA_MEM_ALLOC_NODE_PARAMS) {
        expect!(hNode, Allocate(memory) => put(params_out, CUDA_MEM_ALLOC_NODE_PARAMS {
            poolProps: CUmemPoolProps {
                allocType: ALLOCATION_PINNED,
                handleTypes: 0,
                location: CUmemLocation { r#type: LOCATION_DEVICE, id: memory.device() },
                win32SecurityAttributes: std::ptr::null_mut(),
                maxSize: 0,
                usage: 0,
                reserved: [0; 54],
            },
            accessDescs: std::ptr::null(),
            accessDescCount: 0,
            bytesize: memory.size() as usize,
            dptr: memory.address(),
        }))
    }

    fn cuGraphMemFreeNodeGetParams(hNode: CUgraphNode, dptr_out: *mut CUdeviceptr) {
        put(dptr_out, expect!(hNode, Free(address) => *address))
    }

    fn cuGraphNodeSetParams(hNode: CUgraphNode, nodeParams: *mut CUgraphNodeParams) {
        node(hNode)?.set_action(any_action(nodeParams)?)
    }
}
