//! Adding nodes to graphs. Parameters are checked here as far as CUDA does; nothing is sent.

use ::graph::node_handle;
use cuda_abi::{
    CU_GRAPH_NODE_TYPE_EMPTY, CU_GRAPH_NODE_TYPE_EVENT_RECORD, CU_GRAPH_NODE_TYPE_GRAPH,
    CU_GRAPH_NODE_TYPE_HOST, CU_GRAPH_NODE_TYPE_KERNEL, CU_GRAPH_NODE_TYPE_MEM_ALLOC,
    CU_GRAPH_NODE_TYPE_MEM_FREE, CU_GRAPH_NODE_TYPE_MEMCPY, CU_GRAPH_NODE_TYPE_MEMSET,
    CU_GRAPH_NODE_TYPE_WAIT_EVENT, CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS,
    CUDA_KERNEL_NODE_PARAMS_v1, CUDA_MEM_ALLOC_NODE_PARAMS, CUDA_MEMCPY_NODE_PARAMS, CUDA_MEMCPY3D,
    CUDA_MEMSET_NODE_PARAMS, CUcontext, CUdeviceptr, CUevent, CUfunction, CUgraph, CUgraphEdgeData,
    CUgraphNode, CUgraphNodeParams, CUkernel, CUresult,
};
use wire::handle::{Context, Event, Handle as _};

use crate::client::Client;
use crate::convert::{handle, out};
use crate::entry::Answer;
use crate::exports::graph::{check_edges, nodes, put};
use crate::exports::rectangle::solid;
use crate::graph::action::{Action, Filling, HostCall, KernelCall};
use crate::graph::graph;
use crate::graph::memory::{self, GraphMemory};
use crate::launch::{self, Geometry};
use crate::servers;

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

/// A context that a program names; null is the current one.
///
/// # Errors
/// INVALID_CONTEXT for one that does not exist.
pub fn context(client: &Client, context: CUcontext) -> Answer<Context> {
    if context.0 == 0 {
        return Ok(client.contexts.current()?.0);
    }
    let context = handle(context)?;
    client.contexts.state(context).map(|_| context)
}

/// An event that a program names.
///
/// # Errors
/// INVALID_HANDLE for one that does not exist.
pub fn event(client: &'static Client, event: CUevent) -> Answer<Event> {
    let event: Event = handle(event)?;
    crate::hooks::known(servers::with_handle(client, event.raw()), event)
}

/// A launch, checked, with a copy of its parameters.
///
/// # Errors
/// As `cuLaunchKernel`.
///
/// # Safety
/// The parameters are as `cuLaunchKernel` takes them.
pub unsafe fn kernel_action(client: &'static Client, it: &CUDA_KERNEL_NODE_PARAMS) -> Answer<Action> {
    let context = context(client, it.ctx)?;
    let client = servers::other(client, servers::of_context(context));
    let function = if it.func == CUfunction::NULL { CUfunction(it.kern.0) } else { it.func };
    let geometry = Geometry {
        grid: [it.gridDimX, it.gridDimY, it.gridDimZ],
        block: [it.blockDimX, it.blockDimY, it.blockDimZ],
        shared_bytes: it.sharedMemBytes,
    };
    let (raw, code) = launch::checked(client, function, geometry)?;
    // SAFETY: the caller promises it.
    let packed = unsafe { launch::parameters(&code, it.kernelParams, it.extra) }?;
    let context = code.module.and_then(|module| client.modules.context_of(module)).unwrap_or(context);
    Ok(Action::Kernel(KernelCall::new((raw, code), context, geometry, Vec::new(), packed)))
}

/// A copy, checked.
///
/// # Errors
/// As `cuMemcpy3D`.
///
/// # Safety
/// The pointer is null or leads to a request.
pub unsafe fn copy_action(
    client: &'static Client,
    given: *const CUDA_MEMCPY3D,
    context: Context,
) -> Answer<Action> {
    let client = servers::other(client, servers::of_context(context));
    // SAFETY: the caller promises it.
    let copy = solid(client, unsafe { out(given.cast_mut()) }?)?;
    copy.check(client)?;
    Ok(Action::Copy(copy, context))
}

/// A fill, checked.
///
/// # Errors
/// As `cuMemsetD2D32`.
///
/// # Safety
/// The pointer is null or leads to parameters.
pub unsafe fn fill_action(
    client: &'static Client,
    given: *const CUDA_MEMSET_NODE_PARAMS,
    context: Context,
) -> Answer<Action> {
    let client = servers::other(client, servers::of_context(context));
    // SAFETY: the caller promises it.
    Filling::new(client, unsafe { out(given.cast_mut()) }?, context).map(Action::Fill)
}

/// A function of the program.
///
/// # Errors
/// INVALID_VALUE without one.
///
/// # Safety
/// The pointer is null or leads to parameters.
pub unsafe fn host_action(given: *const CUDA_HOST_NODE_PARAMS) -> Answer<Action> {
    // SAFETY: the caller promises it.
    HostCall::new(unsafe { out(given.cast_mut()) }?).map(Action::Host)
}

/// # Safety
/// The pointer is null or leads to parameters.
unsafe fn allocate_action(client: &Client, given: *mut CUDA_MEM_ALLOC_NODE_PARAMS) -> Answer<Action> {
    // SAFETY: the caller promises it.
    let given = unsafe { out(given) }?;
    let place = given.poolProps.location;
    if place.r#type != LOCATION_DEVICE || given.poolProps.handleTypes != 0 {
        return Err(CUresult::NOT_SUPPORTED);
    }
    let device = client.devices.index(place.id)?;
    let (context, current) = client.contexts.current()?;
    if current.device != device {
        crate::report::once(
            "allocation nodes on another than the current device are not supported by Farpool yet",
        );
        return Err(CUresult::NOT_SUPPORTED);
    }
    if given.bytesize == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let memory = GraphMemory::create(client, context, device, given.bytesize as u64)?;
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

fn number(value: u64) -> Answer<usize> {
    usize::try_from(value).map_err(|_| CUresult::INVALID_VALUE)
}

/// Whatever the general parameters describe.
///
/// # Errors
/// As the calls for each kind; NOT_SUPPORTED for kinds that do not exist here.
///
/// # Safety
/// The pointer is null or leads to parameters.
pub unsafe fn any_action(client: &'static Client, given: *mut CUgraphNodeParams) -> Answer<Action> {
    if given.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the payload is a union of the kinds' parameters, which are plain values; newer versions of a
    // kind's parameters only add members.
    unsafe {
        let payload = &raw mut (*given).payload;
        let first = (*given).payload[0];
        match (*given).r#type {
            CU_GRAPH_NODE_TYPE_KERNEL => {
                kernel_action(client, &payload.cast::<CUDA_KERNEL_NODE_PARAMS>().read())
            }
            CU_GRAPH_NODE_TYPE_MEMCPY => {
                let request = payload.cast::<CUDA_MEMCPY_NODE_PARAMS>();
                let context = context(client, (*request).copyCtx)?;
                copy_action(client, &raw const (*request).copyParams, context)
            }
            CU_GRAPH_NODE_TYPE_MEMSET => {
                // Behind the parameters is the context.
                let given = context(client, CUcontext(usize::try_from((*given).payload[5]).unwrap_or(0)))?;
                fill_action(client, payload.cast_const().cast(), given)
            }
            CU_GRAPH_NODE_TYPE_HOST => host_action(payload.cast_const().cast()),
            CU_GRAPH_NODE_TYPE_GRAPH => {
                child_action(CUgraph(number(first)?), (*given).payload[1] & u64::from(u32::MAX))
            }
            CU_GRAPH_NODE_TYPE_EMPTY => Ok(Action::Empty),
            CU_GRAPH_NODE_TYPE_WAIT_EVENT => event(client, CUevent(number(first)?)).map(Action::Wait),
            CU_GRAPH_NODE_TYPE_EVENT_RECORD => event(client, CUevent(number(first)?)).map(Action::Record),
            CU_GRAPH_NODE_TYPE_MEM_ALLOC => allocate_action(client, payload.cast()),
            CU_GRAPH_NODE_TYPE_MEM_FREE => free_action(first),
            kind => {
                crate::report::once(&format!("nodes of type {kind} are not supported by Farpool yet"));
                Err(CUresult::NOT_SUPPORTED)
            }
        }
    }
}

/// Adds a node; a child graph that was given away stays the caller's when that fails.
///
/// # Safety
/// `out` is null or writable, `after` is null or has `count` handles.
unsafe fn add(
    out: *mut CUgraphNode,
    target: CUgraph,
    after: *const CUgraphNode,
    count: usize,
    action: impl FnOnce() -> Answer<Action>,
) -> Answer {
    if out.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the caller promises it.
    unsafe {
        let (graph, after) = (graph(target)?, nodes(after, count)?);
        put(out, node_handle(&graph.add(action()?, &after)?))
    }
}

exports! {
    fn cuGraphAddKernelNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        nodeParams: *const CUDA_KERNEL_NODE_PARAMS_v1,
    ) enter_local |client| {
        add(phGraphNode, hGraph, dependencies, numDependencies, || kernel_action(client, &newest(nodeParams)?))
    }

    fn cuGraphAddKernelNode_v2(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        nodeParams: *const CUDA_KERNEL_NODE_PARAMS,
    ) enter_local |client| {
        if nodeParams.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        add(phGraphNode, hGraph, dependencies, numDependencies, || kernel_action(client, &nodeParams.read()))
    }

    fn cuGraphAddMemcpyNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        copyParams: *const CUDA_MEMCPY3D, ctx: CUcontext,
    ) enter_local |client| {
        let context = context(client, ctx)?;
        add(phGraphNode, hGraph, dependencies, numDependencies, || copy_action(client, copyParams, context))
    }

    fn cuGraphAddMemsetNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        memsetParams: *const CUDA_MEMSET_NODE_PARAMS, ctx: CUcontext,
    ) enter_local |client| {
        let context = context(client, ctx)?;
        add(phGraphNode, hGraph, dependencies, numDependencies, || fill_action(client, memsetParams, context))
    }

    fn cuGraphAddHostNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        nodeParams: *const CUDA_HOST_NODE_PARAMS,
    ) enter_local |_client| {
        add(phGraphNode, hGraph, dependencies, numDependencies, || host_action(nodeParams))
    }

    fn cuGraphAddEmptyNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
    ) enter_local |_client| {
        add(phGraphNode, hGraph, dependencies, numDependencies, || Ok(Action::Empty))
    }

    fn cuGraphAddChildGraphNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        childGraph: CUgraph,
    ) enter_local |_client| {
        add(phGraphNode, hGraph, dependencies, numDependencies, || child_action(childGraph, 0))
    }

    fn cuGraphAddEventRecordNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        event: CUevent,
    ) enter_local |client| {
        add(phGraphNode, hGraph, dependencies, numDependencies, || self::event(client, event).map(Action::Record))
    }

    fn cuGraphAddEventWaitNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        event: CUevent,
    ) enter_local |client| {
        add(phGraphNode, hGraph, dependencies, numDependencies, || self::event(client, event).map(Action::Wait))
    }

    fn cuGraphAddMemAllocNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        nodeParams: *mut CUDA_MEM_ALLOC_NODE_PARAMS,
    ) enter |client| {
        add(phGraphNode, hGraph, dependencies, numDependencies, || allocate_action(client, nodeParams))
    }

    fn cuGraphAddMemFreeNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        dptr: CUdeviceptr,
    ) enter_local |_client| {
        add(phGraphNode, hGraph, dependencies, numDependencies, || free_action(dptr))
    }

    fn cuGraphAddNode(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode, numDependencies: usize,
        nodeParams: *mut CUgraphNodeParams,
    ) enter |client| {
        add(phGraphNode, hGraph, dependencies, numDependencies, || any_action(client, nodeParams))
    }

    fn cuGraphAddNode_v2(
        phGraphNode: *mut CUgraphNode, hGraph: CUgraph, dependencies: *const CUgraphNode,
        dependencyData: *const CUgraphEdgeData, numDependencies: usize, nodeParams: *mut CUgraphNodeParams,
    ) enter |client| {
        check_edges(dependencyData, numDependencies)?;
        add(phGraphNode, hGraph, dependencies, numDependencies, || any_action(client, nodeParams))
    }
}
