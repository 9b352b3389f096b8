//! What leads from one server of the session to another: it goes through this process (ADR 21).

use std::ffi::c_void;

use cuda_abi::{CUcontext, CUdeviceptr, CUevent, CUstream};
use wire::cuda;
use wire::handle::{Context, Event, Handle as _, Stream};

use crate::client::{Client, index_of};
use crate::context::within;
use crate::convert::{handle, opaque};
use crate::entry::Answer;
use crate::event::Recorded;
use crate::exports::{cuMemcpyDtoHAsync_v2, cuMemcpyHtoDAsync_v2};
use crate::generated::remoted::cuStreamSynchronize;
use crate::memory::Range;
use crate::slab::Scope;
use crate::stream::NON_BLOCKING;
use crate::{capture, credit, hooks, report, servers, state, stream, thread};

/// Bytes of a copy that are in this process at a time.
const PIECE: usize = 32 << 20;

/// A side of a copy: the client that knows the memory, its range, and the address.
type Side = (&'static Client, Range, CUdeviceptr);

/// A copy from the device memory of one server to that of another; `None` for any other copy. In a stream it waits for what
/// the stream has done before, and what the stream does next comes after it; without one it waits for both contexts.
pub fn copy(
    destination: CUdeviceptr,
    source: CUdeviceptr,
    length: usize,
    stream: Option<CUstream>,
) -> Option<Answer> {
    if servers::count() == 1 {
        return None;
    }
    let side = |address| servers::device_memory(address).map(|(client, range)| (client, range, address));
    between(side(destination)?, side(source)?, length, stream)
}

/// The same where the contexts of the memory are named.
pub fn peer_copy(
    (destination, destination_context): (CUdeviceptr, CUcontext),
    (source, source_context): (CUdeviceptr, CUcontext),
    length: usize,
    stream: Option<CUstream>,
) -> Option<Answer> {
    if servers::count() == 1 {
        return None;
    }
    let side = |address, context: CUcontext| {
        let known = servers::device_memory_of(handle(context).ok()?, address);
        known.map(|(client, range)| (client, range, address))
    };
    between(side(destination, destination_context)?, side(source, source_context)?, length, stream)
}

fn between(to: Side, from: Side, length: usize, stream: Option<CUstream>) -> Option<Answer> {
    (to.0.server != from.0.server).then(|| carry(to, from, length, stream))
}

fn carry(to: Side, from: Side, length: usize, stream: Option<CUstream>) -> Answer {
    let current = state::client()?;
    current.contexts.current()?;
    current.check()?;
    for (client, _, address) in [to, from] {
        client.ranges.device_range(address, length as u64)?;
    }
    match stream {
        // SAFETY: a call without pointers.
        Some(stream) => unsafe { cuStreamSynchronize(stream) }.into_result()?,
        None => {
            for (client, range, _) in [to, from] {
                within(range.context, || client.call(&cuda::CuCtxSynchronize))?;
            }
        }
    }
    let home = stream.map(|stream| servers::with_handle(current, stream.0 as u64));
    let named = (home.unwrap_or(current).server, Stream(stream.map_or(0, |stream| stream.0 as u64)));
    let reading: CUstream = opaque(observer(from.0, (from.1.context, named.0, named.1))?);
    // The stream's next work is behind it; where the stream is not there, it is waited for.
    let is_own = home.is_some_and(|home| home.server == to.0.server);
    let writing: CUstream = match stream {
        Some(stream) if is_own => stream,
        _ => opaque(observer(to.0, (to.1.context, named.0, named.1))?),
    };
    let mut buffer = vec![0u8; PIECE.min(length)];
    for offset in (0..length).step_by(PIECE) {
        let size = PIECE.min(length - offset);
        let (at, of) = (to.2 + offset as u64, from.2 + offset as u64);
        let bytes = buffer.as_mut_ptr().cast::<c_void>();
        // SAFETY: the buffer has `size` bytes at least, and is pageable: each call is done with it when it returns.
        unsafe {
            within(from.1.context, || cuMemcpyDtoHAsync_v2(bytes, of, size, reading)).into_result()?;
            within(to.1.context, || cuMemcpyHtoDAsync_v2(at, bytes, size, writing)).into_result()?;
        }
    }
    if is_own {
        return Ok(());
    }
    // SAFETY: a call without pointers.
    unsafe { cuStreamSynchronize(writing) }.into_result()
}

/// `cuStreamWaitEvent` for an event of another server; `None` for one of the stream's own.
pub fn wait(stream: CUstream, event: CUevent, flags: u32) -> Option<Answer> {
    if servers::count() == 1 {
        return None;
    }
    let current = state::client().ok()?;
    let home = servers::with_handle(current, stream.0 as u64);
    let other = servers::with_handle(home, event.0 as u64);
    (home.server != other.server).then(|| wait_for(home, stream, (other, event), flags))
}

fn wait_for(
    home: &'static Client,
    stream: CUstream,
    (other, event): (&'static Client, CUevent),
    flags: u32,
) -> Answer {
    home.contexts.current()?;
    hooks::wait_flags(flags)?;
    let event: Event = hooks::known(other, handle(event)?)?;
    let context = home.context_of_handle(stream.0 as u64);
    let here = || {
        let stream = stream::find(home, stream.0 as u64)?;
        if home.captures.is_capturing(stream)? {
            report::once("a captured stream cannot wait for an event of another server with Farpool");
            capture::refuse(home, stream)?;
        }
        capture::check_uncaptured(other, event).inspect_err(|_| {
            report::once("a capture cannot go from one server to another with Farpool");
        })?;
        match fence_of(other, event, (home.server, stream))? {
            Some(number) => hold(home, stream, (other, number)),
            None => Ok(()),
        }
    };
    match context {
        Some(context) => within(context, here),
        // A default stream of the current context.
        None => here(),
    }
}

/// Holds a stream until another server has reached a fence. Each such wait has a thread: those behind it may be what the other
/// server waits for. No thread of the driver waits.
fn hold(home: &'static Client, stream: Stream, (other, number): (&'static Client, u64)) -> Answer {
    let token = home.new_number();
    credit::before_hold(home)?;
    // Copies from this process's memory are read when the stream gets there, as behind a host function.
    home.connection().expect_callback(token);
    let wait = move || {
        // A server that is lost reaches nothing any more, and its session ends.
        let _ = other.wait_for_fence(number);
        let released = home.post_in(0, &cuda::FarpoolRelease { token });
        home.connection().callback_done(token);
        released
    };
    // An error is told by the next call there.
    let in_background = move || {
        let _ = wait();
    };
    if thread::spawn("farpool-waiter", in_background).is_err() {
        // Then this thread waits.
        return wait();
    }
    home.post(&cuda::FarpoolHold { stream, token })
}

/// A fence that is reached when the work is done that an event is behind by now, for a stream of another server; `None` where
/// nothing is left to be done.
fn fence_of(client: &'static Client, event: Event, (server, stream): (usize, Stream)) -> Answer<Option<u64>> {
    match client.events.recorded(event)? {
        Recorded::Never => return Ok(None),
        Recorded::OnStream(recorded) if recorded.progress.has_finished(recorded.number) => return Ok(None),
        Recorded::OnStream(_) | Recorded::OnContext => {}
    }
    let context = Context::from_index(u64::from(client.events.context_index(event)?));
    let observer = observer(client, (context, server, stream))?;
    within(context, || {
        client.post(&cuda::CuStreamWaitEvent { hStream: observer, hEvent: event, Flags: 0 })?;
        credit::send_fence(client, Scope::Stream(context, observer)).map(Some)
    })
}

/// The stream of a context that waits and copies on behalf of a stream of another server, and does nothing else: what that
/// stream waits for is in its order anyway.
fn observer(client: &Client, observed: (Context, usize, Stream)) -> Answer<Stream> {
    let mut observers = client.observers();
    if let Some(stream) = observers.get(&observed) {
        return Ok(*stream);
    }
    let stream: Stream = client.new_handle();
    within(observed.0, || client.post(&cuda::CuStreamCreate { phStream: stream, Flags: NON_BLOCKING }))?;
    client.streams.insert(stream, NON_BLOCKING, 0, observed.0);
    observers.insert(observed, stream);
    Ok(stream)
}

/// A stream is destroyed: those that wait on its behalf go with it, when they are done.
pub fn stream_gone(client: &Client, stream: Stream) {
    if servers::count() == 1 {
        return;
    }
    for other in servers::clients().iter().filter(|other| other.server != client.server) {
        let mut gone = Vec::new();
        other.observers().retain(|(context, server, of), observer| {
            let goes = (*server, *of) == (client.server, stream);
            if goes {
                gone.push((*context, *observer));
            }
            !goes
        });
        for (context, observer) in gone {
            // A lost connection took it with it.
            let _ =
                other.connection().post(&cuda::CuStreamDestroyV2 { hStream: observer }, index_of(context));
            hooks::stream_destroyed(other, observer);
        }
    }
}
