//! Stream capture.

use std::sync::Arc;

use cuda_abi::{
    CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_STATUS_ACTIVE, CU_STREAM_CAPTURE_STATUS_INVALIDATED,
    CU_STREAM_CAPTURE_STATUS_NONE, CUgraph, CUgraphEdgeData, CUgraphNode, CUresult, CUstream,
    CUstreamCaptureMode, CUstreamCaptureStatus,
};

use crate::capture::{self, State};
use crate::exports::graph::{check_edges, nodes};
use crate::graph::{PLAIN, graph};
use crate::guard::{Answer, exports, put, put_optional};
use crate::stream::{Role, Stream, stream, stream_at_any_time};
use graph::handle;

/// `cuStreamUpdateCaptureDependencies` adds to what the stream waits for, or replaces it.
const ADD: u32 = 0;
const REPLACE: u32 = 1;

fn check_mode(mode: CUstreamCaptureMode) -> Answer {
    if (0..=2).contains(&mode) { Ok(()) } else { Err(CUresult::INVALID_VALUE) }
}

/// The stream of a question about captures.
fn asked(handle: CUstream) -> Answer<Arc<Stream>> {
    let stream = stream_at_any_time(handle)?;
    if stream.role == Role::Legacy && capture::hides_legacy(&stream.context) {
        return Err(CUresult::STREAM_CAPTURE_IMPLICIT);
    }
    Ok(stream)
}

fn status(state: Option<&State>) -> CUstreamCaptureStatus {
    match state {
        None => CU_STREAM_CAPTURE_STATUS_NONE,
        Some(state) if state.invalid => CU_STREAM_CAPTURE_STATUS_INVALIDATED,
        Some(_) => CU_STREAM_CAPTURE_STATUS_ACTIVE,
    }
}

/// # Safety
/// The pointers are null or writable.
unsafe fn info(
    hStream: CUstream,
    status_out: *mut CUstreamCaptureStatus,
    id_out: *mut u64,
    graph_out: *mut CUgraph,
    dependencies_out: *mut *const CUgraphNode,
    edges_out: *mut *const CUgraphEdgeData,
    count_out: *mut usize,
) -> Answer {
    /// Edges of captures have no ports: as many as a stream may ever wait for.
    static EDGES: [CUgraphEdgeData; 1024] = [PLAIN; 1024];
    let stream = asked(hStream)?;
    let state = capture::state(&stream);
    // SAFETY: the caller promises it.
    unsafe {
        put(status_out, status(state.as_ref()))?;
        let Some(state) = state.filter(|state| !state.invalid) else { return Ok(()) };
        put_optional(id_out, state.id);
        put_optional(graph_out, CUgraph(handle(&state.graph)));
        let (dependencies, count) = capture::dependencies(&stream);
        put_optional(dependencies_out, dependencies);
        if !edges_out.is_null() {
            if count > EDGES.len() {
                return Err(CUresult::NOT_SUPPORTED);
            }
            edges_out.write(EDGES.as_ptr());
        }
        put_optional(count_out, count);
    }
    Ok(())
}

/// # Safety
/// `dependencies` is null or has `count` handles.
unsafe fn update(hStream: CUstream, dependencies: *const CUgraphNode, count: usize, flags: u32) -> Answer {
    // SAFETY: the caller promises it.
    let nodes = unsafe { nodes(dependencies, count) }?;
    let updated = capture::with_branch(&stream(hStream)?, |branch| {
        match flags {
            ADD => {
                for node in nodes {
                    if !branch.dependencies.iter().any(|other| other.id == node.id) {
                        branch.dependencies.push(node);
                    }
                }
            }
            REPLACE => branch.dependencies = nodes,
            _ => return Err(CUresult::INVALID_VALUE),
        }
        Ok(())
    });
    updated?.ok_or(CUresult::ILLEGAL_STATE)
}

exports! {
    fn cuStreamBeginCapture(hStream: CUstream) {
        capture::begin(&stream(hStream)?, CU_STREAM_CAPTURE_MODE_GLOBAL, None)
    }

    fn cuStreamBeginCapture_v2(hStream: CUstream, mode: CUstreamCaptureMode) {
        check_mode(mode)?;
        capture::begin(&stream(hStream)?, mode, None)
    }

    fn cuStreamBeginCaptureToGraph(
        hStream: CUstream, hGraph: CUgraph, dependencies: *const CUgraphNode,
        dependencyData: *const CUgraphEdgeData, numDependencies: usize, mode: CUstreamCaptureMode,
    ) {
        check_mode(mode)?;
        check_edges(dependencyData, numDependencies)?;
        let into = (graph(hGraph)?, nodes(dependencies, numDependencies)?);
        capture::begin(&stream(hStream)?, mode, Some(into))
    }

    fn cuStreamEndCapture(hStream: CUstream, phGraph: *mut CUgraph) {
        put_optional(phGraph, CUgraph::NULL);
        let graph = capture::end(&stream_at_any_time(hStream)?)?;
        put_optional(phGraph, CUgraph(handle(&graph)));
        Ok(())
    }

    fn cuStreamIsCapturing(hStream: CUstream, captureStatus: *mut CUstreamCaptureStatus) {
        put(captureStatus, status(capture::state(&*asked(hStream)?).as_ref()))
    }

    fn cuStreamGetCaptureInfo(hStream: CUstream, captureStatus_out: *mut CUstreamCaptureStatus, id_out: *mut u64) {
        let null = std::ptr::null_mut;
        info(hStream, captureStatus_out, id_out, null(), std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut())
    }

    fn cuStreamGetCaptureInfo_v2(
        hStream: CUstream, captureStatus_out: *mut CUstreamCaptureStatus, id_out: *mut u64, graph_out: *mut CUgraph,
        dependencies_out: *mut *const CUgraphNode, numDependencies_out: *mut usize,
    ) {
        let none = std::ptr::null_mut();
        info(hStream, captureStatus_out, id_out, graph_out, dependencies_out, none, numDependencies_out)
    }

    fn cuStreamGetCaptureInfo_v3(
        hStream: CUstream, captureStatus_out: *mut CUstreamCaptureStatus, id_out: *mut u64, graph_out: *mut CUgraph,
        dependencies_out: *mut *const CUgraphNode, edgeData_out: *mut *const CUgraphEdgeData,
        numDependencies_out: *mut usize,
    ) {
        info(
            hStream, captureStatus_out, id_out, graph_out, dependencies_out, edgeData_out, numDependencies_out,
        )
    }

    fn cuStreamUpdateCaptureDependencies(
        hStream: CUstream, dependencies: *mut CUgraphNode, numDependencies: usize, flags: u32,
    ) {
        update(hStream, dependencies, numDependencies, flags)
    }

    fn cuStreamUpdateCaptureDependencies_v2(
        hStream: CUstream, dependencies: *mut CUgraphNode, dependencyData: *const CUgraphEdgeData,
        numDependencies: usize, flags: u32,
    ) {
        check_edges(dependencyData, numDependencies)?;
        update(hStream, dependencies, numDependencies, flags)
    }

    fn cuThreadExchangeStreamCaptureMode(mode: *mut CUstreamCaptureMode) {
        if mode.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        check_mode(mode.read())?;
        put(mode, capture::exchange_mode(mode.read()))
    }
}
