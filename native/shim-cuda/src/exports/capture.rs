//! Stream capture. Runtimes ask about it before nearly every call, so all of it is answered here.

use cuda_abi::{
    CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_RELAXED, CU_STREAM_CAPTURE_STATUS_ACTIVE,
    CU_STREAM_CAPTURE_STATUS_INVALIDATED, CU_STREAM_CAPTURE_STATUS_NONE, CUgraph, CUgraphEdgeData,
    CUgraphNode, CUresult, CUstream, CUstreamCaptureMode, CUstreamCaptureStatus,
};
use wire::handle::{Handle as _, Stream};

use crate::capture::{self, Info};
use crate::client::Client;
use crate::convert::{out, write_if};
use crate::entry::Answer;
use crate::exports::graph::{check_edges, nodes, put};
use crate::graph::{PLAIN, graph};
use crate::stream;

/// `cuStreamUpdateCaptureDependencies` adds to what the stream waits for, or replaces it.
const ADD: u32 = 0;
const REPLACE: u32 = 1;

exports! {
    fn cuStreamBeginCapture(hStream: CUstream) enter |client| {
        capture::begin(client, stream::find(client, hStream.0 as u64)?, CU_STREAM_CAPTURE_MODE_GLOBAL, None)
    }

    fn cuStreamBeginCapture_v2(hStream: CUstream, mode: CUstreamCaptureMode) enter |client| {
        check_mode(mode)?;
        capture::begin(client, stream::find(client, hStream.0 as u64)?, mode, None)
    }

    fn cuStreamBeginCaptureToGraph(
        hStream: CUstream,
        hGraph: CUgraph,
        dependencies: *const CUgraphNode,
        dependencyData: *const CUgraphEdgeData,
        numDependencies: usize,
        mode: CUstreamCaptureMode,
    ) enter |client| {
        check_mode(mode)?;
        check_edges(dependencyData, numDependencies)?;
        let into = (graph(hGraph)?, nodes(dependencies, numDependencies)?);
        capture::begin(client, stream::find(client, hStream.0 as u64)?, mode, Some(into))
    }

    fn cuStreamEndCapture(hStream: CUstream, phGraph: *mut CUgraph) enter |client| {
        write_if(phGraph, CUgraph::NULL);
        let graph = capture::end(client, stream::find_at_any_time(client, hStream.0 as u64)?)?;
        write_if(phGraph, CUgraph(::graph::handle(&graph)));
        Ok(())
    }

    fn cuStreamIsCapturing(hStream: CUstream, captureStatus: *mut CUstreamCaptureStatus) enter_local |client| {
        let place = out(captureStatus)?;
        *place = status(asked(client, hStream)?.as_ref());
        Ok(())
    }

    fn cuStreamGetCaptureInfo(
        hStream: CUstream,
        captureStatus_out: *mut CUstreamCaptureStatus,
        id_out: *mut u64,
    ) enter_local |client| {
        let none = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        info(client, hStream, captureStatus_out, id_out, none)
    }

    fn cuStreamGetCaptureInfo_v2(
        hStream: CUstream,
        captureStatus_out: *mut CUstreamCaptureStatus,
        id_out: *mut u64,
        graph_out: *mut CUgraph,
        dependencies_out: *mut *const CUgraphNode,
        numDependencies_out: *mut usize,
    ) enter_local |client| {
        let places = (graph_out, dependencies_out, std::ptr::null_mut(), numDependencies_out);
        info(client, hStream, captureStatus_out, id_out, places)
    }

    fn cuStreamGetCaptureInfo_v3(
        hStream: CUstream,
        captureStatus_out: *mut CUstreamCaptureStatus,
        id_out: *mut u64,
        graph_out: *mut CUgraph,
        dependencies_out: *mut *const CUgraphNode,
        edgeData_out: *mut *const CUgraphEdgeData,
        numDependencies_out: *mut usize,
    ) enter_local |client| {
        let places = (graph_out, dependencies_out, edgeData_out, numDependencies_out);
        info(client, hStream, captureStatus_out, id_out, places)
    }

    fn cuStreamUpdateCaptureDependencies(
        hStream: CUstream,
        dependencies: *mut CUgraphNode,
        numDependencies: usize,
        flags: u32,
    ) enter |client| {
        update(client, hStream, dependencies, numDependencies, flags)
    }

    fn cuStreamUpdateCaptureDependencies_v2(
        hStream: CUstream,
        dependencies: *mut CUgraphNode,
        dependencyData: *const CUgraphEdgeData,
        numDependencies: usize,
        flags: u32,
    ) enter |client| {
        check_edges(dependencyData, numDependencies)?;
        update(client, hStream, dependencies, numDependencies, flags)
    }

    fn cuThreadExchangeStreamCaptureMode(mode: *mut CUstreamCaptureMode) enter_local |_client| {
        let place = out(mode)?;
        check_mode(*place)?;
        *place = capture::exchange_mode(*place);
        Ok(())
    }
}

fn check_mode(mode: CUstreamCaptureMode) -> Answer {
    let known = CU_STREAM_CAPTURE_MODE_GLOBAL..=CU_STREAM_CAPTURE_MODE_RELAXED;
    if known.contains(&mode) { Ok(()) } else { Err(CUresult::INVALID_VALUE) }
}

/// What a stream answers to a question about captures.
fn asked(client: &Client, stream: CUstream) -> Answer<Option<Info>> {
    // The stream of a thread that never used one is not made for a question.
    if stream.0 as u64 == stream::PER_THREAD && !stream::has_own(client) {
        return Ok(None);
    }
    let stream: Stream = stream::find_at_any_time(client, stream.0 as u64)?;
    if stream.raw() == 0 && capture::hides_legacy(client) {
        return Err(CUresult::STREAM_CAPTURE_IMPLICIT);
    }
    Ok(capture::info(client, stream))
}

fn status(info: Option<&Info>) -> CUstreamCaptureStatus {
    match info {
        None => CU_STREAM_CAPTURE_STATUS_NONE,
        Some(info) if info.is_invalid => CU_STREAM_CAPTURE_STATUS_INVALIDATED,
        Some(_) => CU_STREAM_CAPTURE_STATUS_ACTIVE,
    }
}

/// Places for the graph, the dependencies, their edges, and how many there are.
type Places = (*mut CUgraph, *mut *const CUgraphNode, *mut *const CUgraphEdgeData, *mut usize);

/// # Safety
/// The pointers are null or writable.
unsafe fn info(
    client: &Client,
    stream: CUstream,
    status_out: *mut CUstreamCaptureStatus,
    id_out: *mut u64,
    (graph_out, dependencies_out, edges_out, count_out): Places,
) -> Answer {
    /// Edges of captures have no ports: as many as a stream may ever wait for.
    static EDGES: [CUgraphEdgeData; 1024] = [PLAIN; 1024];
    let info = asked(client, stream)?;
    // SAFETY: the caller's promise.
    unsafe {
        put(status_out, status(info.as_ref()))?;
        let Some(info) = info.filter(|info| !info.is_invalid) else { return Ok(()) };
        write_if(id_out, info.id);
        write_if(graph_out, CUgraph(::graph::handle(&info.graph)));
        let (dependencies, count) = info.dependencies;
        write_if(dependencies_out, dependencies);
        if !edges_out.is_null() {
            if count > EDGES.len() {
                return Err(CUresult::NOT_SUPPORTED);
            }
            edges_out.write(EDGES.as_ptr());
        }
        write_if(count_out, count);
    }
    Ok(())
}

/// # Safety
/// `dependencies` is null or has `count` handles.
unsafe fn update(
    client: &Client,
    stream: CUstream,
    dependencies: *const CUgraphNode,
    count: usize,
    flags: u32,
) -> Answer {
    // SAFETY: the caller's promise.
    let nodes = unsafe { nodes(dependencies, count) }?;
    if !matches!(flags, ADD | REPLACE) {
        return Err(CUresult::INVALID_VALUE);
    }
    let stream = stream::find(client, stream.0 as u64)?;
    capture::update_dependencies(client, stream, nodes, flags == REPLACE)
}
