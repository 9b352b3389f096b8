//! Stream capture: not supported yet, so no stream is ever capturing. Runtimes ask before nearly every call.

use cuda_abi::{
    CUgraph, CUgraphEdgeData, CUgraphNode, CUresult, CUstream, CUstreamCaptureMode, CUstreamCaptureStatus,
};

use crate::client::Client;
use crate::convert::{out, write_if};
use crate::entry::Answer;
use crate::stream;

/// `CU_STREAM_CAPTURE_STATUS_NONE`.
const NOT_CAPTURING: CUstreamCaptureStatus = 0;
/// `CU_STREAM_CAPTURE_MODE_RELAXED`, the last of the modes.
const LAST_MODE: CUstreamCaptureMode = 2;

std::thread_local! {
    /// The thread's capture mode; global until it is exchanged.
    static MODE: std::cell::Cell<CUstreamCaptureMode> = const { std::cell::Cell::new(0) };
}

exports! {
    fn cuStreamIsCapturing(hStream: CUstream, captureStatus: *mut CUstreamCaptureStatus) enter_local |client| {
        let place = out(captureStatus)?;
        check(client, hStream)?;
        *place = NOT_CAPTURING;
        Ok(())
    }

    fn cuStreamGetCaptureInfo(
        hStream: CUstream,
        captureStatus_out: *mut CUstreamCaptureStatus,
        id_out: *mut u64,
    ) enter_local |client| {
        let place = out(captureStatus_out)?;
        check(client, hStream)?;
        *place = NOT_CAPTURING;
        write_if(id_out, 0);
        Ok(())
    }

    fn cuStreamGetCaptureInfo_v2(
        hStream: CUstream,
        captureStatus_out: *mut CUstreamCaptureStatus,
        id_out: *mut u64,
        _graph_out: *mut CUgraph,
        _dependencies_out: *mut *const CUgraphNode,
        _numDependencies_out: *mut usize,
    ) enter_local |client| {
        let place = out(captureStatus_out)?;
        check(client, hStream)?;
        *place = NOT_CAPTURING;
        write_if(id_out, 0);
        Ok(())
    }

    fn cuStreamGetCaptureInfo_v3(
        hStream: CUstream,
        captureStatus_out: *mut CUstreamCaptureStatus,
        id_out: *mut u64,
        _graph_out: *mut CUgraph,
        _dependencies_out: *mut *const CUgraphNode,
        _edgeData_out: *mut *const CUgraphEdgeData,
        _numDependencies_out: *mut usize,
    ) enter_local |client| {
        let place = out(captureStatus_out)?;
        check(client, hStream)?;
        *place = NOT_CAPTURING;
        write_if(id_out, 0);
        Ok(())
    }

    fn cuThreadExchangeStreamCaptureMode(mode: *mut CUstreamCaptureMode) enter_local |_client| {
        let place = out(mode)?;
        if !(0..=LAST_MODE).contains(place) {
            return Err(CUresult::INVALID_VALUE);
        }
        *place = MODE.with(|current| current.replace(*place));
        Ok(())
    }
}

fn check(client: &Client, stream: CUstream) -> Answer {
    match stream.0 as u64 {
        0 | stream::LEGACY | stream::PER_THREAD => Ok(()),
        raw => client.streams.state(wire::handle::Handle::from_raw(raw)).map(drop),
    }
}
