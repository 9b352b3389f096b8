//! Adding nodes to graphs.

use std::sync::Arc;

use cuda_abi::{
    CU_GRAPH_NODE_TYPE_EMPTY, CU_GRAPH_NODE_TYPE_EVENT_RECORD, CU_GRAPH_NODE_TYPE_GRAPH,
    CU_GRAPH_NODE_TYPE_HOST, CU_GRAPH_NODE_TYPE_KERNEL, CU_GRAPH_NODE_TYPE_MEM_ALLOC,
    CU_GRAPH_NODE_TYPE_MEM_FREE, CU_GRAPH_NODE_TYPE_MEMCPY, CU_GRAPH_NODE_TYPE_MEMSET,
    CU_GRAPH_NODE_TYPE_WAIT_EVENT, CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS,
    CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEM_ALLOC_NODE_PARAMS, CUDA_MEMCPY_NODE_PARAMS, CUDA_MEMCPY3D,
    CUDA_MEMSET_NODE_PARAMS, CUcontext, CUdeviceptr, CUevent, CUfunction, CUgraph, CUgraphEdgeData,
    CUgraphNode, CUgraphNodeParams, CUkernel, CUresult,
};

use crate::context::{context, current, primary};
use crate::device::device;
use crate::event::event;
use crate::exports::copy::transfer_3d;
use crate::exports::graph::{check_edges, nodes};
use crate::graph::action::{Action, HostCall, KernelCall, filling};
use crate::graph::memory::{self, GraphMemory};
use crate::graph::{graph, node_handle};
use crate::guard::{Answer, exports, put};
use crate::launch::{Shape, check, pack};
use crate::library::kernel;
use crate::module::function;

const LOCATION_DEVICE: i32 = 1;
/// A child graph becomes the node's own instead of being copied.
const MOVE: u64 = 1;

/// The older parameters of a kernel node as the newer ones.
///
/// # Errors
/// INVALID_VALUE for null.
///
/// # Safety
/// The pointer is null or leads to parameters.
pub unsafe fn newest(given: *const CUDA_KERNEL_NODE_PARAMS_v1) -> Answer<CUDA_KERNEL_NODE_PARAMS> {
    if given.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller promises the rest.
    let it = unsafe { given.read() };
    Ok(CUDA_KERNEL_NODE_PARAMS {
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
        kern: CUkernel::NULL,
        ctx: CUcontext::NULL,
    })
}

/// A launch, checked, with a copy of its parameters.
///
/// # Errors
/// As `cuLaunchKernel`.
///
/// # Safety
/// The parameters are as `cuLaunchKernel` takes them.
pub unsafe fn kernel_action(it: &CUDA_KERNEL_NODE_PARAMS) -> Answer<Action> {
    let (function, handle) = if it.func == CUfunction::NULL {
        (kernel(it.kern)?.function(&context(it.ctx)?)?, it.kern.0)
    } else {
        (function(it.func)?, it.func.0)
    };
    let shape = Shape {
        grid: [it.gridDimX, it.gridDimY, it.gridDimZ],
        block: [it.blockDimX, it.blockDimY, it.blockDimZ],
        shared_bytes: it.sharedMemBytes,
        cooperative: false,
    };
    let parsed = function.kernel()?;
    check(&function, parsed, &shape)?;
    // SAFETY: the caller promises it.
    let packed = unsafe { pack(parsed, it.kernelParams, it.extra) }?;
    KernelCall::new(Arc::clone(&function), handle, shape, packed).map(Action::Kernel)
}

/// A copy, checked.
///
/// # Errors
/// As `cuMemcpy3D`.
///
/// # Safety
/// The pointer is null or leads to a request.
pub unsafe fn copy_action(given: *const CUDA_MEMCPY3D) -> Answer<Action> {
    if given.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller promises the rest.
    let transfer = transfer_3d(&unsafe { given.read() })?;
    transfer.check()?;
    Ok(Action::Copy(transfer))
}

/// A fill, checked.
///
/// # Errors
/// As `cuMemsetD2D32`.
///
/// # Safety
/// The pointer is null or leads to parameters.
pub unsafe fn fill_action(given: *const CUDA_MEMSET_NODE_PARAMS) -> Answer<Action> {
    if given.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller promises the rest.
    filling(&unsafe { given.read() }).map(Action::Fill)
}

/// A function of the program.
///
/// # Errors
/// INVALID_VALUE without one.
///
/// # Safety
/// The pointer is null or leads to parameters.
pub unsafe fn host_action(given: *const CUDA_HOST_NODE_PARAMS) -> Answer<Action> {
    if given.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller promises the rest.
    HostCall::new(&unsafe { given.read() }).map(Action::Host)
}

/// # Safety
/// The pointer is null or leads to parameters.
unsafe fn allocate_action(given: *mut CUDA_MEM_ALLOC_NODE_PARAMS) -> Answer<Action> {
    if given.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller promises the rest.
    let given = unsafe { &mut *given };
    let place = given.poolProps.location;
    if place.r#type != LOCATION_DEVICE || given.poolProps.handleTypes != 0 {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let device = device(place.id)?;
    let context = current()?;
    let context = if context.device.ordinal == device.ordinal { context } else { primary(device, false)? };
    let memory = GraphMemory::create(&context, given.bytesize as u64)?;
    given.dptr = memory.address();
    Ok(Action::Allocate(memory))
}

fn free_action(address: CUdeviceptr) -> Answer<Action> {
    memory::find(address).map(|_| Action::Free(address)).ok_or(CUresult::INVALID_VALUE)
}

fn child_action(child: CUgraph, ownership: u64) -> Answer<Action> {
    let child = graph(child)?;
    match ownership {
        0 => child.duplicate().map(Action::Child),
        MOVE if !child.is_owned() => Ok(Action::Child(child)),
        _ => Err(CUresult::INVALID_VALUE),
    }
}

/// Whatever the general parameters describe.
///
/// # Errors
/// As the calls for each kind; NOT_SUPPORTED for kinds that do not exist here.
///
/// # Safety
/// The pointer is null or leads to parameters.
pub unsafe fn any_action(given: *mut CUgraphNodeParams) -> Answer<Action> {
    if given.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the payload is a union of the kinds' parameters, which are plain values; newer versions of a
    // kind's parameters only add members.
    unsafe {
        let payload = &raw mut (*given).payload;
        let first = (*given).payload[0];
        match (*given).r#type {
            CU_GRAPH_NODE_TYPE_KERNEL => kernel_action(&payload.cast::<CUDA_KERNEL_NODE_PARAMS>().read()),
            CU_GRAPH_NODE_TYPE_MEMCPY => {
                let request = payload.cast::<CUDA_MEMCPY_NODE_PARAMS>();
                context((*request).copyCtx)?;
                copy_action(&raw const (*request).copyParams)
            }
            CU_GRAPH_NODE_TYPE_MEMSET => fill_action(payload.cast_const().cast()),
            CU_GRAPH_NODE_TYPE_HOST => host_action(payload.cast_const().cast()),
            CU_GRAPH_NODE_TYPE_GRAPH => {
                child_action(CUgraph(first as usize), (*given).payload[1] & u64::from(u32::MAX))
            }
            CU_GRAPH_NODE_TYPE_EMPTY => Ok(Action::Empty),
            CU_GRAPH_NODE_TYPE_WAIT_EVENT => event(CUevent(first as usize)).map(Action::Wait),
            CU_GRAPH_NODE_TYPE_EVENT_RECORD => event(CUevent(first as usize)).map(Action::Record),
            CU_GRAPH_NODE_TYPE_MEM_ALLOC => allocate_action(payload.cast()),
            CU_GRAPH_NODE_TYPE_MEM_FREE => free_action(first),
            _ => Err(CUresult::NOT_SUPPORTED),
        }
    }
}

/// Adds a node; a child graph that was given away stays the caller's when that fails.
///
/// # Safety
/// `out` is null or writable, `after` is null or has `count` handles.
unsafe fn add(
    out: *mut CUgraphNode,
    hGraph: CUgraph,
    after: *const CUgraphNode,
    count: usize,
    action: impl FnOnce() -> Answer<Action>,
) -> Answer {
    if out.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller promises it.
    unsafe {
        let (graph, after) = (graph(hGraph)?, nodes(after, count)?);
        put(out, node_handle(&graph.add(action()?, &after)?))
    }
}

exports! {
    fn cuGraphAddKernelNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        nodeParams: *const CUDA_KERNEL_NODE_PARAMS_v1,
    ) {
        add(phGraphNode, hGraph, dependencies, numDependencies, || kernel_action(&newest(nodeParams)?))
    }

    fn cuGraphAddKernelNode_v2(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        nodeParams: *const CUDA_KERNEL_NODE_PARAMS,
    ) {
        if nodeParams.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        add(phGraphNode, hGraph, dependencies, numDependencies, || kernel_action(&nodeParams.read()))
    }

    fn cuGraphAddMemcpyNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        copyParams: *const CUDA_MEMCPY3D, ctx: CUcontext,
    ) {
        context(ctx)?;
        add(phGraphNode, hGraph, dependencies, numDependencies, || copy_action(copyParams))
    }

    fn cuGraphAddMemsetNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        memsetParams: *const CUDA_MEMSET_NODE_PARAMS, ctx: CUcontext,
    ) {
        context(ctx)?;
        add(phGraphNode, hGraph, dependencies, numDependencies, || fill_action(memsetParams))
    }

    fn cuGraphAddHostNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        nodeParams: *const CUDA_HOST_NODE_PARAMS,
    ) {
        add(phGraphNode, hGraph, dependencies, numDependencies, || host_action(nodeParams))
    }

    fn cuGraphAddEmptyNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
    ) {
        add(phGraphNode, hGraph, dependencies, numDependencies, || Ok(Action::Empty))
    }

    fn cuGraphAddChildGraphNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        childGraph: CUgraph,
    ) {
        add(phGraphNode, hGraph, dependencies, numDependencies, || child_action(childGraph, 0))
    }

    fn cuGraphAddEventRecordNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        event: CUevent,
    ) {
        add(phGraphNode, hGraph, dependencies, numDependencies, || self::event(event).map(Action::Record))
    }

    fn cuGraphAddEventWaitNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        event: CUevent,
    ) {
        add(phGraphNode, hGraph, dependencies, numDependencies, || self::event(event).map(Action::Wait))
    }

    fn cuGraphAddMemAllocNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        nodeParams: *mut CUDA_MEM_ALLOC_NODE_PARAMS,
    ) {
        add(phGraphNode, hGraph, dependencies, numDependencies, || allocate_action(nodeParams))
    }

    fn cuGraphAddMemFreeNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        dptr: CUdeviceptr,
    ) {
        add(phGraphNode, hGraph, dependencies, numDependencies, || free_action(dptr))
    }

    fn cuGraphAddNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        nodeParams: *mut CUgraphNodeParams,
    ) {
        add(phGraphNode, hGraph, dependencies, numDependencies, || any_action(nodeParams))
    }

    fn cuGraphAddNode_v2(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode,
        dependencyData: *const CUgraphEdgeData, numDependencies: usize, nodeParams: *mut CUgraphNodeParams,
    ) {
        check_edges(dependencyData, numDependencies)?;
        add(phGraphNode, hGraph, dependencies, numDependencies, || any_action(nodeParams))
    }
}
