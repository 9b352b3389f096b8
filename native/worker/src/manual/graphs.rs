//! Executable graphs: made from what the client sends, changed, launched.

use std::ffi::c_void;
use std::sync::Arc;

use cuda_abi::{
    CU_MEMORYTYPE_DEVICE, CU_MEMORYTYPE_HOST, CUDA_HOST_NODE_PARAMS, CUDA_KERNEL_NODE_PARAMS, CUDA_MEMCPY3D,
    CUDA_MEMSET_NODE_PARAMS, CUarray, CUcontext, CUevent, CUfunction, CUgraph, CUgraphExec, CUgraphNode,
    CUkernel, CUresult, CUstream,
};
use wire::cuda::{self, LaunchAttribute};
use wire::handle::{Context, Event, GraphExec, Handle, Kernel};
use wire::record::MAX_PAYLOAD;
use wire::{CallId, Request, Writer};

use super::Answer;
use super::copies::UNSENT_LIMIT;
use super::launches::{PLAIN_ATTRIBUTES, Packed, attribute, resolve_function, stream_of};
use crate::graphs::{self, Builder, Exec, Part, Slot, slot_function};
use crate::handles::HandleError;
use crate::waits::{Then, Until, WaiterKey};
use crate::worker::{Later, Worker, address};

/// Numbers of `kind` on the wire.
mod kind {
    pub const EMPTY: u32 = 0;
    pub const KERNEL: u32 = 1;
    pub const COPY: u32 = 2;
    pub const UPLOAD: u32 = 3;
    pub const DOWNLOAD: u32 = 4;
    pub const FILL: u32 = 5;
    pub const SLOT: u32 = 6;
    pub const WAIT: u32 = 7;
    pub const RECORD: u32 = 8;
}

/// Works of a stream that a launch may count as: a real driver counts graphs, the simulated one their parts.
const HEAVIEST_LAUNCH: usize = 512;

/// What a node does, as the client described it.
struct Description<'a> {
    context: u32,
    kind: u32,
    target: u64,
    numbers: [u64; 16],
    attributes: &'a [LaunchAttribute],
    data: &'a [u8],
}

/// The same as the driver takes it.
enum Node {
    Empty,
    Kernel(CUDA_KERNEL_NODE_PARAMS, Packed),
    Copy(CUDA_MEMCPY3D, CUcontext),
    Fill(CUDA_MEMSET_NODE_PARAMS, CUcontext),
    Slot(CUDA_HOST_NODE_PARAMS),
    Wait(CUevent),
    Record(CUevent),
}

/// A graph begins to be sent.
pub fn farpoolGraphBegin(
    worker: &mut Worker,
    request: cuda::FarpoolGraphBegin,
    _reply: &mut Writer<'_>,
) -> Answer {
    let mut graph = CUgraph::NULL;
    // SAFETY: `graph` is a valid place.
    let code = unsafe { worker.driver.cuGraphCreate(&raw mut graph, 0) };
    let sizes = request.slots.iter().map(|slot| slot.size);
    let slots = code
        .into_result()
        .and_then(|()| graphs::slots(&worker.driver, &worker.callbacks, &worker.graphs.pinned, sizes));
    // The instantiation behind the nodes answers what fails before it.
    let failed = slots.as_ref().err().copied();
    let builder = Builder { graph, nodes: Vec::new(), slots: slots.unwrap_or_default(), failed };
    worker.graphs.begin(request.graph, builder);
    Ok(CUresult::SUCCESS)
}

/// A node of a graph that is being sent.
pub fn farpoolGraphNode(
    worker: &mut Worker,
    request: cuda::FarpoolGraphNode<'_>,
    _reply: &mut Writer<'_>,
) -> Answer {
    let call = <cuda::FarpoolGraphNode<'_> as Request<'_>>::CALL;
    let Some(mut builder) = worker.graphs.take_builder(request.graph) else {
        return Ok(CUresult::INVALID_VALUE);
    };
    let mut added = Ok(CUgraphNode::NULL);
    if builder.failed.is_none() {
        let description = Description {
            context: request.context,
            kind: request.kind,
            target: request.target,
            numbers: request.numbers,
            attributes: &request.attributes,
            data: request.data,
        };
        let after: Option<Vec<CUgraphNode>> =
            request.after.iter().map(|edge| builder.nodes.get(edge.from as usize).copied()).collect();
        added = match after {
            Some(after) => add(worker, call, &builder, &description, &after),
            None => Err(HandleError::Poisoned(CUresult::INVALID_VALUE)),
        };
    }
    match added {
        Ok(node) => builder.nodes.push(node),
        Err(HandleError::Poisoned(code)) => builder.failed = Some(code),
        Err(wire) => return Err(wire),
    }
    worker.graphs.begin(request.graph, builder);
    Ok(CUresult::SUCCESS)
}

/// `cuGraphInstantiateWithFlags`, of the graph that was sent before.
pub fn cuGraphInstantiateWithFlags(
    worker: &mut Worker,
    request: cuda::CuGraphInstantiateWithFlags,
    _reply: &mut Writer<'_>,
) -> Answer {
    let call = cuda::CuGraphInstantiateWithFlags::CALL;
    worker.handles.check_free(call, request.exec).map_err(HandleError::Wire)?;
    let Some(builder) = worker.graphs.take_builder(request.graph) else {
        return Ok(CUresult::INVALID_VALUE);
    };
    let mut raw = CUgraphExec::NULL;
    let code = match builder.failed {
        Some(code) => code,
        // SAFETY: `raw` is a valid place, the graph is alive.
        None => unsafe {
            worker.driver.cuGraphInstantiateWithFlags(&raw mut raw, builder.graph, request.flags)
        },
    };
    worker.handles.put(request.exec, code.into_result().map(|()| raw.0 as u64));
    if code.is_success() {
        let Builder { graph, nodes, slots, .. } = builder;
        worker.graphs.insert(request.exec.raw(), Exec { raw, graph, nodes, slots, context: worker.context });
    } else {
        // SAFETY: the graph is this builder's.
        let _ = unsafe { worker.driver.cuGraphDestroy(builder.graph) };
    }
    Ok(code)
}

/// Other parameters for a node of an executable graph.
pub fn farpoolGraphNodeSet(
    worker: &mut Worker,
    request: cuda::FarpoolGraphNodeSet<'_>,
    _reply: &mut Writer<'_>,
) -> Answer {
    let call = <cuda::FarpoolGraphNodeSet<'_> as Request<'_>>::CALL;
    let (exec, node) = exec_node(worker, call, request.exec, request.node)?;
    let description = Description {
        context: request.context,
        kind: request.kind,
        target: request.target,
        numbers: request.numbers,
        attributes: &request.attributes,
        data: request.data,
    };
    let slots = worker.graphs.exec(request.exec.raw()).map(|exec| exec.slots.clone()).unwrap_or_default();
    let described = describe(worker, call, &slots, &description)?;
    let driver = &worker.driver;
    // SAFETY: executable graph and node are alive, the parameters are valid places, the driver checks the rest.
    Ok(unsafe {
        match described {
            Node::Kernel(mut parameters, mut packed) => {
                parameters.extra = packed.extra().as_mut_ptr();
                driver.cuGraphExecKernelNodeSetParams_v2(exec, node, &raw const parameters)
            }
            Node::Copy(copy, context) => {
                driver.cuGraphExecMemcpyNodeSetParams(exec, node, &raw const copy, context)
            }
            Node::Fill(fill, context) => {
                driver.cuGraphExecMemsetNodeSetParams(exec, node, &raw const fill, context)
            }
            Node::Wait(event) => driver.cuGraphExecEventWaitNodeSetEvent(exec, node, event),
            Node::Record(event) => driver.cuGraphExecEventRecordNodeSetEvent(exec, node, event),
            Node::Empty | Node::Slot(_) => CUresult::INVALID_VALUE,
        }
    })
}

/// `cuGraphNodeSetEnabled`
pub fn cuGraphNodeSetEnabled(
    worker: &mut Worker,
    request: cuda::CuGraphNodeSetEnabled,
    _reply: &mut Writer<'_>,
) -> Answer {
    let call = cuda::CuGraphNodeSetEnabled::CALL;
    let (exec, node) = exec_node(worker, call, request.exec, request.node)?;
    // SAFETY: both are alive.
    Ok(unsafe { worker.driver.cuGraphNodeSetEnabled(exec, node, request.enabled) })
}

/// Bytes that a launch to come reads.
pub fn farpoolGraphInput(
    worker: &mut Worker,
    request: cuda::FarpoolGraphInput<'_>,
    _reply: &mut Writer<'_>,
) -> Answer {
    let part = Part::Bytes(request.offset, request.data.to_vec());
    Ok(code(worker.graphs.bring(request.launch, request.slot, part)))
}

/// Bytes that the client sends when the launch to come is there.
pub fn farpoolGraphPull(
    worker: &mut Worker,
    request: cuda::FarpoolGraphPull,
    _reply: &mut Writer<'_>,
) -> Answer {
    let part = Part::Pull(request.offset, request.token);
    Ok(code(worker.graphs.bring(request.launch, request.slot, part)))
}

/// A function that the client runs when the launch to come is there.
pub fn farpoolGraphCall(
    worker: &mut Worker,
    request: cuda::FarpoolGraphCall,
    _reply: &mut Writer<'_>,
) -> Answer {
    Ok(code(worker.graphs.bring(request.launch, request.slot, Part::Call(request.token))))
}

/// Bytes that the client gets from the launch to come.
pub fn farpoolGraphOutput(
    worker: &mut Worker,
    request: cuda::FarpoolGraphOutput,
    _reply: &mut Writer<'_>,
) -> Answer {
    let Some(to) = worker.reply_to else { return Ok(CUresult::INVALID_VALUE) };
    // Clients cut larger copies.
    if request.size > u64::from(MAX_PAYLOAD / 2) {
        return Ok(CUresult::INVALID_VALUE);
    }
    let part = Part::Send(request.offset, request.size, graphs::owed(to));
    if let Err(code) = worker.graphs.bring(request.launch, request.slot, part) {
        return Ok(code);
    }
    worker.later = Later::Answered;
    Ok(CUresult::SUCCESS)
}

/// `cuGraphLaunch`
pub fn cuGraphLaunch(worker: &mut Worker, request: cuda::CuGraphLaunch, _reply: &mut Writer<'_>) -> Answer {
    let call = cuda::CuGraphLaunch::CALL;
    let stream = stream_of(worker, call, request.stream);
    let known = worker.handles.get(call, request.exec);
    let ready = worker.outbox.waiting() <= UNSENT_LIMIT;
    if stream.is_ok() && known.is_ok() && !ready {
        worker.later = Later::TryAgain;
        return Ok(CUresult::SUCCESS);
    }
    let mut packet = worker.graphs.take_packet(request.launch);
    let launched = stream.and_then(|stream| known.map(|_| stream)).map(|stream| {
        let Some(exec) = worker.graphs.exec(request.exec.raw()) else {
            return (CUresult::INVALID_VALUE, stream, 0);
        };
        for (number, slot) in (0u32..).zip(&exec.slots) {
            slot.push(packet.parts.remove(&number).unwrap_or_default());
        }
        // SAFETY: executable graph and stream are alive.
        let code = unsafe { worker.driver.cuGraphLaunch(exec.raw, stream) };
        if !code.is_success() {
            exec.slots.iter().for_each(|slot| slot.take_back());
        }
        // Each slot parts the work before it from the work behind it.
        (code, stream, (2 * (exec.slots.len() + request.events.len()) + 1).min(HEAVIEST_LAUNCH))
    });
    let refused = match &launched {
        Ok((code, ..)) => (!code.is_success()).then_some(*code),
        Err(HandleError::Poisoned(code)) => Some(*code),
        Err(HandleError::Wire(_)) => None,
    };
    if let Some(code) = refused {
        packet.owed.iter().for_each(|owed| owed.answer(&worker.outbox, code, &[]));
    }
    let (code, stream, weight) = launched?;
    let state = Arc::clone(worker.stream_state(request.stream, stream));
    if code.is_success() {
        (0..weight).for_each(|_| worker.count_work(&state));
    }
    if code.is_success() && !packet.owed.is_empty() {
        answer_when_done(worker, stream, packet.owed);
    }
    Ok(code)
}

/// `cuGraphUpload`
pub fn cuGraphUpload(worker: &mut Worker, request: cuda::CuGraphUpload, _reply: &mut Writer<'_>) -> Answer {
    let call = cuda::CuGraphUpload::CALL;
    let stream = stream_of(worker, call, request.stream)?;
    let raw = worker.handles.get(call, request.exec)?;
    // SAFETY: both are alive.
    Ok(unsafe { worker.driver.cuGraphUpload(CUgraphExec(address(raw)), stream) })
}

/// `cuGraphExecDestroy`: launches that are queued still run.
pub fn cuGraphExecDestroy(
    worker: &mut Worker,
    request: cuda::CuGraphExecDestroy,
    _reply: &mut Writer<'_>,
) -> Answer {
    worker.handles.get(cuda::CuGraphExecDestroy::CALL, request.exec)?;
    worker.handles.remove(request.exec);
    let Some(exec) = worker.graphs.remove(request.exec.raw()) else { return Ok(CUresult::INVALID_VALUE) };
    let code = destroy(worker, &exec);
    if !exec.slots.is_empty() {
        let then = Then::Drop(exec.slots);
        worker.waits.push(WaiterKey::Context(worker.context), worker.current(), Until::Context, then);
    }
    Ok(code)
}

/// Ends the driver's objects of an executable graph.
pub fn destroy(worker: &Worker, exec: &Exec) -> CUresult {
    // SAFETY: both are alive and their handle is gone.
    unsafe {
        let code = worker.driver.cuGraphExecDestroy(exec.raw);
        let _ = worker.driver.cuGraphDestroy(exec.graph);
        code
    }
}

fn code(result: Result<(), CUresult>) -> CUresult {
    result.err().unwrap_or(CUresult::SUCCESS)
}

/// Sees to it that the client gets its answers also when an error keeps the graph from its end.
fn answer_when_done(worker: &mut Worker, stream: CUstream, owed: Vec<Arc<graphs::Owed>>) {
    match worker.waits.mark(worker.current(), stream) {
        Ok(event) => worker.waits.push(
            WaiterKey::Stream(worker.context, stream.0),
            worker.current(),
            Until::Own(event),
            Then::Answer(owed),
        ),
        Err(code) => owed.iter().for_each(|owed| owed.answer(&worker.outbox, code, &[])),
    }
}

fn exec_node(
    worker: &Worker,
    call: CallId,
    exec: GraphExec,
    node: u32,
) -> Result<(CUgraphExec, CUgraphNode), HandleError> {
    worker.handles.get(call, exec)?;
    let wrong = HandleError::Poisoned(CUresult::INVALID_VALUE);
    let Some(exec) = worker.graphs.exec(exec.raw()) else { return Err(wrong) };
    exec.nodes.get(node as usize).map(|node| (exec.raw, *node)).ok_or(wrong)
}

fn add(
    worker: &Worker,
    call: CallId,
    builder: &Builder,
    description: &Description<'_>,
    after: &[CUgraphNode],
) -> Result<CUgraphNode, HandleError> {
    let described = describe(worker, call, &builder.slots, description)?;
    let driver = &worker.driver;
    let mut node = CUgraphNode::NULL;
    let (place, graph, count) = (&raw mut node, builder.graph, after.len());
    let after = after.as_ptr();
    // SAFETY: the graph is alive, the list has `count` live nodes of it, parameters and places are valid; the
    // driver checks what they say.
    let code = unsafe {
        match described {
            Node::Empty => driver.cuGraphAddEmptyNode(place, graph, after, count),
            Node::Kernel(mut parameters, mut packed) => {
                parameters.extra = packed.extra().as_mut_ptr();
                let parameters = &raw const parameters;
                let mut code = driver.cuGraphAddKernelNode_v2(place, graph, after, count, parameters);
                for given in description.attributes {
                    let given = attribute(given);
                    if code.is_success() {
                        code = driver.cuGraphKernelNodeSetAttribute(node, given.id, &raw const given.value);
                    }
                }
                code
            }
            Node::Copy(copy, context) => {
                driver.cuGraphAddMemcpyNode(place, graph, after, count, &raw const copy, context)
            }
            Node::Fill(fill, context) => {
                driver.cuGraphAddMemsetNode(place, graph, after, count, &raw const fill, context)
            }
            Node::Slot(host) => driver.cuGraphAddHostNode(place, graph, after, count, &raw const host),
            Node::Wait(event) => driver.cuGraphAddEventWaitNode(place, graph, after, count, event),
            Node::Record(event) => driver.cuGraphAddEventRecordNode(place, graph, after, count, event),
        }
    };
    code.into_result().map(|()| node).map_err(HandleError::Poisoned)
}

fn describe(
    worker: &Worker,
    call: CallId,
    slots: &[Arc<Slot>],
    it: &Description<'_>,
) -> Result<Node, HandleError> {
    let wrong = || HandleError::Poisoned(CUresult::INVALID_VALUE);
    let context = |index: u32| -> Result<CUcontext, HandleError> {
        let raw = worker.handles.get(call, Context::from_index(u64::from(index)))?;
        Ok(CUcontext(address(raw)))
    };
    let slot =
        |number: u64| usize::try_from(number).ok().and_then(|number| slots.get(number)).ok_or_else(wrong);
    let event = |raw: u64| -> Result<CUevent, HandleError> {
        Ok(CUevent(address(worker.handles.get(call, Event::from_raw(raw))?)))
    };
    Ok(match it.kind {
        kind::EMPTY => Node::Empty,
        kind::KERNEL => {
            if it.attributes.iter().any(|attribute| !PLAIN_ATTRIBUTES.contains(&attribute.id)) {
                return Err(HandleError::Poisoned(CUresult::NOT_SUPPORTED));
            }
            let raw = resolve_function(worker, call, it.target)?;
            let is_kernel = Kernel::from_raw(it.target).has_kind();
            let side = |at: usize| u32::try_from(it.numbers[at]).map_err(|_| wrong());
            let parameters = CUDA_KERNEL_NODE_PARAMS {
                func: if is_kernel { CUfunction::NULL } else { raw },
                gridDimX: side(0)?,
                gridDimY: side(1)?,
                gridDimZ: side(2)?,
                blockDimX: side(3)?,
                blockDimY: side(4)?,
                blockDimZ: side(5)?,
                sharedMemBytes: side(6)?,
                kernelParams: std::ptr::null_mut(),
                extra: std::ptr::null_mut(),
                kern: if is_kernel { CUkernel(raw.0) } else { CUkernel::NULL },
                ctx: if is_kernel { context(it.context)? } else { CUcontext::NULL },
            };
            let mut packed = Packed::default();
            packed.set(it.data);
            Node::Kernel(parameters, packed)
        }
        kind::COPY => Node::Copy(copy(&it.numbers), context(it.context)?),
        kind::UPLOAD | kind::DOWNLOAD => {
            let slot = slot(it.target)?;
            let mut copy = copy(&it.numbers);
            let is_upload = it.kind == kind::UPLOAD;
            let offset = it.numbers[if is_upload { 0 } else { 6 }];
            let bytes = [12, 13, 14]
                .iter()
                .try_fold(1u64, |bytes, at| bytes.checked_mul(it.numbers[*at]))
                .ok_or_else(wrong)?;
            if !slot.holds(offset, bytes) {
                return Err(wrong());
            }
            let place = slot.memory().wrapping_byte_add(address(offset));
            put_host_side(&mut copy, is_upload, place);
            Node::Copy(copy, context(it.context)?)
        }
        kind::FILL => {
            let fill = CUDA_MEMSET_NODE_PARAMS {
                dst: it.numbers[0],
                pitch: address(it.numbers[1]),
                value: u32::try_from(it.numbers[2]).map_err(|_| wrong())?,
                elementSize: u32::try_from(it.numbers[3]).map_err(|_| wrong())?,
                width: address(it.numbers[4]),
                height: address(it.numbers[5]),
            };
            Node::Fill(fill, context(it.context)?)
        }
        kind::SLOT => Node::Slot(CUDA_HOST_NODE_PARAMS {
            r#fn: Some(slot_function),
            userData: slot(it.target)?.as_user_data(),
        }),
        kind::WAIT => Node::Wait(event(it.target)?),
        kind::RECORD => Node::Record(event(it.target)?),
        _ => return Err(wrong()),
    })
}

/// Has one side of a copy be the bytes at `place`, which hold the box without padding: whatever the client says of that
/// side would lead elsewhere in this process.
fn put_host_side(copy: &mut CUDA_MEMCPY3D, is_source: bool, place: *mut c_void) {
    let (pitch, height) = (copy.WidthInBytes, copy.Height);
    if is_source {
        (copy.srcMemoryType, copy.srcHost, copy.srcDevice) = (CU_MEMORYTYPE_HOST, place, 0);
        (copy.srcXInBytes, copy.srcY, copy.srcZ) = (0, 0, 0);
        (copy.srcPitch, copy.srcHeight) = (pitch, height);
    } else {
        (copy.dstMemoryType, copy.dstHost, copy.dstDevice) = (CU_MEMORYTYPE_HOST, place, 0);
        (copy.dstXInBytes, copy.dstY, copy.dstZ) = (0, 0, 0);
        (copy.dstPitch, copy.dstHeight) = (pitch, height);
    }
}

/// A copy between two places of device memory: address, pitch, height, x, y, z of both, and the box.
fn copy(numbers: &[u64; 16]) -> CUDA_MEMCPY3D {
    let number = |at: usize| address(numbers[at]);
    CUDA_MEMCPY3D {
        srcXInBytes: number(3),
        srcY: number(4),
        srcZ: number(5),
        srcLOD: 0,
        srcMemoryType: CU_MEMORYTYPE_DEVICE,
        srcHost: std::ptr::null(),
        srcDevice: numbers[0],
        srcArray: CUarray::NULL,
        reserved0: std::ptr::null_mut(),
        srcPitch: number(1),
        srcHeight: number(2),
        dstXInBytes: number(9),
        dstY: number(10),
        dstZ: number(11),
        dstLOD: 0,
        dstMemoryType: CU_MEMORYTYPE_DEVICE,
        dstHost: std::ptr::null_mut(),
        dstDevice: numbers[6],
        dstArray: CUarray::NULL,
        reserved1: std::ptr::null_mut(),
        dstPitch: number(7),
        dstHeight: number(8),
        WidthInBytes: number(12),
        Height: number(13),
        Depth: number(14),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: a node's copy went to 4 MiB behind its slot's memory.
    #[test]
    fn the_host_side_of_a_graphs_copy_stays_inside_its_slot() {
        let place = std::ptr::without_provenance_mut(0x1000);
        let numbers = [7; 16];
        let mut upload = copy(&numbers);
        put_host_side(&mut upload, true, place);
        let source = (upload.srcXInBytes, upload.srcY, upload.srcZ, upload.srcPitch, upload.srcHeight);
        assert_eq!((source, upload.srcHost, upload.dstXInBytes), ((0, 0, 0, 7, 7), place.cast_const(), 7));
        let mut download = copy(&numbers);
        put_host_side(&mut download, false, place);
        let target =
            (download.dstXInBytes, download.dstY, download.dstZ, download.dstPitch, download.dstHeight);
        assert_eq!((target, download.dstHost, download.srcXInBytes), ((0, 0, 0, 7, 7), place, 7));
    }
}
