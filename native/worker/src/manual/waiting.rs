//! Calls that wait for the GPU. What is finished already is answered at once; the rest is handed to a waiter.

use std::sync::Arc;

use cuda_abi::{CUcontext, CUevent, CUresult, CUstream};
use wire::handle::{Context, Event, Handle};
use wire::{CallId, Reader, Request, WireError, cuda};

use super::launches::stream_of;
use crate::handles::HandleError;
use crate::waits::{Then, Until, WaiterKey};
use crate::worker::{Later, Worker, address};

/// Executes `call` if it is one that waits.
pub fn wait(worker: &mut Worker, call: CallId, reader: &Reader<'_>) -> Option<Result<CUresult, WireError>> {
    if worker.waits.has_fresh() {
        for event in recorded_events(call, reader) {
            if let Ok(raw) = worker.handles.get(call, event) {
                worker.capture_waits(CUevent(address(raw)));
            }
        }
    }
    let answer = match call {
        cuda::CuStreamSynchronize::CALL => {
            decode::<cuda::CuStreamSynchronize>(reader).and_then(|request| stream(worker, &request))
        }
        cuda::CuEventSynchronize::CALL => {
            decode::<cuda::CuEventSynchronize>(reader).and_then(|request| event(worker, &request))
        }
        cuda::CuCtxSynchronize::CALL => decode::<cuda::CuCtxSynchronize>(reader)
            .map(|_| context(worker, worker.context, worker.current())),
        cuda::CuCtxSynchronizeV2::CALL => {
            decode::<cuda::CuCtxSynchronizeV2>(reader).and_then(|request| other_context(worker, &request))
        }
        cuda::CuEventDestroyV2::CALL => match decode::<cuda::CuEventDestroyV2>(reader) {
            Ok(request) => Ok(destroy_event(worker, &request)?),
            Err(error) => Err(error),
        },
        _ => return None,
    };
    Some(answer.or_else(|error| match error {
        HandleError::Poisoned(code) => Ok(code),
        HandleError::Wire(error) => Err(error),
    }))
}

fn decode<Q: for<'a> Request<'a>>(reader: &Reader<'_>) -> Result<Q, HandleError> {
    let mut reader = reader.clone();
    let request = Q::decode(&mut reader);
    reader.finish(Q::CALL).map_err(HandleError::Wire)?;
    Ok(request)
}

/// The events that a record of `call` records, before it is executed.
fn recorded_events(call: CallId, reader: &Reader<'_>) -> Vec<Event> {
    let mut reader = reader.clone();
    match call {
        cuda::CuEventRecord::CALL => vec![cuda::CuEventRecord::decode(&mut reader).hEvent],
        cuda::CuEventRecordWithFlags::CALL => vec![cuda::CuEventRecordWithFlags::decode(&mut reader).hEvent],
        cuda::CuCtxRecordEvent::CALL => vec![cuda::CuCtxRecordEvent::decode(&mut reader).hEvent],
        cuda::CuGraphLaunch::CALL => {
            let events = cuda::CuGraphLaunch::decode(&mut reader).events;
            events.iter().map(|event| Event(event.event)).collect()
        }
        _ => Vec::new(),
    }
}

fn stream(worker: &mut Worker, request: &cuda::CuStreamSynchronize) -> Result<CUresult, HandleError> {
    let stream = stream_of(worker, cuda::CuStreamSynchronize::CALL, request.hStream)?;
    if worker.is_idle(stream) {
        // SAFETY: the stream is alive. Nothing is under way, so this only reports errors.
        return Ok(unsafe { worker.driver.cuStreamSynchronize(stream) });
    }
    let waiter = WaiterKey::Stream(worker.context, stream.0);
    Ok(match worker.waits.mark(worker.current(), stream) {
        Ok(event) => later(worker, waiter, Until::Own(event)),
        Err(code) => code,
    })
}

fn event(worker: &mut Worker, request: &cuda::CuEventSynchronize) -> Result<CUresult, HandleError> {
    let raw = worker.handles.get(cuda::CuEventSynchronize::CALL, request.hEvent)?;
    let event = CUevent(address(raw));
    // SAFETY: the event is alive.
    let code = unsafe { worker.driver.cuEventQuery(event) };
    if code != CUresult::NOT_READY {
        return Ok(code);
    }
    // The thread need not have a context: the wait takes place in the event's.
    let context = Context::from_index(u64::from(worker.handles.context_of(request.hEvent)));
    let context = CUcontext(address(worker.handles.get(cuda::CuEventSynchronize::CALL, context)?));
    Ok(later_in(worker, WaiterKey::Event(event.0), context, Until::Event(event)))
}

fn other_context(worker: &mut Worker, request: &cuda::CuCtxSynchronizeV2) -> Result<CUresult, HandleError> {
    if request.ctx.raw() == 0 {
        return Ok(context(worker, worker.context, worker.current()));
    }
    let raw = worker.handles.get(cuda::CuCtxSynchronizeV2::CALL, request.ctx)?;
    Ok(context(worker, request.ctx.index(), CUcontext(address(raw))))
}

fn context(worker: &mut Worker, index: u32, context: CUcontext) -> CUresult {
    if index == 0 {
        return CUresult::INVALID_CONTEXT;
    }
    if index == worker.context && !worker.waits.frees().any_in(index) && worker.is_all_idle() {
        // SAFETY: nothing is under way in the current context, so this only reports errors.
        return unsafe { worker.driver.cuCtxSynchronize() };
    }
    let Some(to) = worker.reply_to else { return CUresult::INVALID_VALUE };
    worker.waits.push_soon(WaiterKey::Context(index), context, Until::Context, Then::Reply(to));
    worker.later = Later::Answered;
    CUresult::SUCCESS
}

fn later(worker: &mut Worker, waiter: WaiterKey, until: Until) -> CUresult {
    later_in(worker, waiter, worker.current(), until)
}

fn later_in(worker: &mut Worker, waiter: WaiterKey, context: CUcontext, until: Until) -> CUresult {
    let Some(to) = worker.reply_to else { return CUresult::INVALID_VALUE };
    worker.waits.push_soon(waiter, context, until, Then::Reply(to));
    worker.later = Later::Answered;
    CUresult::SUCCESS
}

/// Notes events that were recorded, and what a wait of a whole context has put on its streams.
pub fn note_events(worker: &mut Worker, call: CallId, payload: &[u8]) {
    let mut reader = Reader::new(payload);
    let (event, stream) = match call {
        cuda::CuEventRecord::CALL => {
            let request = cuda::CuEventRecord::decode(&mut reader);
            (request.hEvent, request.hStream)
        }
        cuda::CuEventRecordWithFlags::CALL => {
            let request = cuda::CuEventRecordWithFlags::decode(&mut reader);
            (request.hEvent, request.hStream)
        }
        cuda::CuCtxWaitEvent::CALL => {
            let request = cuda::CuCtxWaitEvent::decode(&mut reader);
            let context = if request.hCtx.raw() == 0 { worker.context } else { request.hCtx.index() };
            worker.streams.all_used(context, worker.number);
            return;
        }
        _ => return,
    };
    if let (Ok(raw), Ok(driver_stream)) = (worker.handles.get(call, event), stream_of(worker, call, stream)) {
        let state = Arc::clone(worker.stream_state(stream, driver_stream));
        worker.streams.recorded(&state, CUevent(address(raw)), worker.number);
    }
}

/// Before an event is destroyed: it is forgotten. Somebody may still wait for it, who then destroys it: in that case
/// this is all that happens now.
fn destroy_event(worker: &mut Worker, request: &cuda::CuEventDestroyV2) -> Option<CUresult> {
    let raw = worker.handles.get(cuda::CuEventDestroyV2::CALL, request.hEvent).ok()?;
    let event = CUevent(address(raw));
    worker.streams.forget_event(event);
    if !worker.waits.destroys_later(event) {
        return None;
    }
    worker.handles.remove(request.hEvent);
    Some(CUresult::SUCCESS)
}

/// Notes new streams that ignore the legacy stream, and forgets destroyed ones.
pub fn note_stream_calls(worker: &mut Worker, call: CallId, payload: &[u8]) {
    const NON_BLOCKING: u32 = 1;
    let mut reader = Reader::new(payload);
    let made = match call {
        cuda::CuStreamCreate::CALL => {
            let request = cuda::CuStreamCreate::decode(&mut reader);
            (request.phStream, request.Flags)
        }
        cuda::CuStreamCreateWithPriority::CALL => {
            let request = cuda::CuStreamCreateWithPriority::decode(&mut reader);
            (request.phStream, request.flags)
        }
        _ => return,
    };
    if made.1 & NON_BLOCKING != 0
        && let Ok(stream) = stream_of(worker, call, made.0)
    {
        worker.streams.made_non_blocking(made.0.raw(), stream);
    }
}

/// Before `stream` is destroyed: its work may go on, and memory that the work uses must not be handed out.
fn note_orphan(worker: &mut Worker, stream: CUstream) {
    for context in worker.streams.contexts_using(stream) {
        // A context that cannot be made current is dead, and its work with it.
        let _ = worker.in_context(cuda::CuStreamDestroyV2::CALL, context, |worker| {
            if !worker.is_idle(stream) {
                let until = worker.waits.mark(worker.current(), stream).map_or(Until::Context, Until::Own);
                let then = Then::Orphan(worker.streams.orphaned(context));
                worker.waits.push(WaiterKey::Orphans(context), worker.current(), until, then);
            }
            Ok(CUresult::SUCCESS)
        });
    }
}

/// Before a stream is destroyed: it is forgotten.
pub fn forget_stream(worker: &mut Worker, call: CallId, payload: &[u8]) {
    if call != cuda::CuStreamDestroyV2::CALL {
        return;
    }
    let request = cuda::CuStreamDestroyV2::decode(&mut Reader::new(payload));
    if let Ok(stream) = stream_of(worker, call, request.hStream)
        && stream != CUstream::NULL
    {
        note_orphan(worker, stream);
        worker.streams.forget(request.hStream.raw(), stream);
    }
}
