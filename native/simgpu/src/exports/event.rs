//! Events.

use cuda_abi::{CUevent, CUresult, CUstream};

use crate::capture;
use crate::context::current;
use crate::event::{EVENTS, Event, event};
use crate::exports::stream::EXTERNAL;
use crate::graph::action::Action;
use crate::guard::{exports, put};
use crate::stream::{Ticket, stream};

/// Blocking wait, no timing, interprocess.
const FLAGS: u32 = 7;
const INTERPROCESS: u32 = 4;

exports! {
    fn cuEventCreate(phEvent: *mut CUevent, Flags: u32) {
        if phEvent.is_null() || Flags & !FLAGS != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        if Flags & INTERPROCESS != 0 {
            return Err(CUresult::NOT_SUPPORTED);
        }
        put(phEvent, CUevent(EVENTS.insert(&Event::new(&current()?, Flags))))
    }

    fn cuEventDestroy_v2(hEvent: CUevent) {
        // Programs have seen NVIDIA's driver answer the error that ended the context here, too.
        current()?;
        event(hEvent)?.context.check()?;
        EVENTS.remove(hEvent.0).map(|_| ()).ok_or(CUresult::INVALID_HANDLE)
    }

    fn cuEventRecord(hEvent: CUevent, hStream: CUstream) {
        let stream = stream(hStream)?;
        let event = event(hEvent)?;
        if event.context.id != stream.context.id {
            return Err(CUresult::INVALID_HANDLE);
        }
        if !capture::record_event(&stream, &event)? {
            event.record(&stream);
        }
        Ok(())
    }

    fn cuEventRecordWithFlags(hEvent: CUevent, hStream: CUstream, flags: u32) {
        if flags & !EXTERNAL != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let node = || Ok(Action::Record(event(hEvent)?));
        if flags & EXTERNAL != 0 && capture::record(&stream(hStream)?, node)? {
            return Ok(());
        }
        cuEventRecord(hEvent, hStream).into_result()
    }

    fn cuEventQuery(hEvent: CUevent) {
        let event = event(hEvent)?;
        event.context.check()?;
        event.check_uncaptured()?;
        capture::unsafe_call()?;
        if event.ticket().is_none_or(|ticket| ticket.is_done()) { Ok(()) } else { Err(CUresult::NOT_READY) }
    }

    fn cuEventSynchronize(hEvent: CUevent) {
        let event = event(hEvent)?;
        event.context.check()?;
        event.check_uncaptured()?;
        capture::unsafe_call()?;
        event.ticket().as_ref().inspect(|ticket: &&Ticket| ticket.wait());
        event.context.output.flush();
        event.context.check()
    }

    fn cuEventElapsedTime(pMilliseconds: *mut f32, hStart: CUevent, hEnd: CUevent) {
        put(pMilliseconds, event(hEnd)?.milliseconds_since(&*event(hStart)?)?)
    }

    fn cuEventElapsedTime_v2(pMilliseconds: *mut f32, hStart: CUevent, hEnd: CUevent) {
        put(pMilliseconds, event(hEnd)?.milliseconds_since(&*event(hStart)?)?)
    }
}
