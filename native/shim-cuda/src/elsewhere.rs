//! What leads from one server of the session to another: it goes through this process (ADR 21).

use std::ffi::c_void;

use cuda_abi::{CUdeviceptr, CUevent, CUstream};
use wire::cuda;
use wire::handle::{Context, Event, Handle as _, Stream};

use crate::callback::{self, Action};
use crate::client::Client;
use crate::convert::handle;
use crate::entry::Answer;
use crate::event::Recorded;
use crate::exports::{cuMemcpyDtoH_v2, cuMemcpyHtoD_v2, cuMemcpyHtoDAsync_v2};
use crate::generated::remoted::cuStreamSynchronize;
use crate::slab::Scope;
use crate::stream::NON_BLOCKING;
use crate::{capture, context, credit, report, servers, state, stream};

/// Bytes of a copy that are in this process at a time.
const PIECE: usize = 32 << 20;

/// A copy from the device memory of one server to that of another; `None` for any other copy. In a stream it waits for what
/// the stream has done before, and what the stream does next comes after it.
pub fn copy(
    destination: CUdeviceptr,
    source: CUdeviceptr,
    length: usize,
    stream: Option<CUstream>,
) -> Option<Answer> {
    if servers::count() == 1 {
        return None;
    }
    let (to, from) = (servers::with_device_memory(destination)?, servers::with_device_memory(source)?);
    (to.server != from.server).then(|| between((to, destination), (from, source), length, stream))
}

fn between(
    (to, destination): (&'static Client, CUdeviceptr),
    (from, source): (&'static Client, CUdeviceptr),
    length: usize,
    stream: Option<CUstream>,
) -> Answer {
    let current = state::client()?;
    current.contexts.current()?;
    current.check()?;
    to.ranges.device_range(destination, length as u64)?;
    from.ranges.device_range(source, length as u64)?;
    if let Some(stream) = stream {
        // SAFETY: a call without pointers.
        unsafe { cuStreamSynchronize(stream) }.into_result()?;
    }
    let own =
        stream.map(|stream| (stream, servers::with_handle(current, stream.0 as u64).server == to.server));
    let mut buffer = vec![0u8; PIECE.min(length)];
    for offset in (0..length).step_by(PIECE) {
        let size = PIECE.min(length - offset);
        let (at, of) = (destination + offset as u64, source + offset as u64);
        let bytes = buffer.as_mut_ptr().cast::<c_void>();
        // SAFETY: the buffer has `size` bytes at least, and is pageable: each call is done with it when it returns.
        unsafe {
            cuMemcpyDtoH_v2(bytes, of, size).into_result()?;
            match own {
                // The stream's next work is behind it.
                Some((stream, true)) => cuMemcpyHtoDAsync_v2(at, bytes, size, stream),
                _ => cuMemcpyHtoD_v2(at, bytes, size),
            }
            .into_result()?;
        }
    }
    match own {
        // Nothing on that server would make the stream's next work wait.
        Some((_, false)) => {
            servers::at(to, || to.call(&cuda::CuStreamSynchronize { hStream: Stream::default() }))
        }
        _ => Ok(()),
    }
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
    crate::hooks::wait_flags(flags)?;
    let event: Event = crate::hooks::known(other, handle(event)?)?;
    servers::at(home, || {
        let stream = stream::find(home, stream.0 as u64)?;
        if home.captures.is_capturing(stream)? {
            report::once("a captured stream cannot wait for an event of another server with Farpool");
            capture::refuse(home, stream)?;
        }
        let Some(number) = servers::at(other, || fence_of(other, event))? else { return Ok(()) };
        callback::ask(home, stream, Action::Fence(other, number), |token| {
            home.post(&cuda::FarpoolHostFunction { stream, token })
        })
    })
}

/// A fence that is reached when the work is done that an event is behind by now; `None` where nothing is left to be done.
fn fence_of(client: &'static Client, event: Event) -> Answer<Option<u64>> {
    match client.events.recorded(event)? {
        Recorded::Never => return Ok(None),
        Recorded::OnStream(recorded) if recorded.progress.has_finished(recorded.number) => return Ok(None),
        Recorded::OnStream(_) | Recorded::OnContext => {}
    }
    let context = Context::from_index(u64::from(client.events.context_index(event)?));
    context::within(context, || {
        let observer = observer(client, context)?;
        client.post(&cuda::CuStreamWaitEvent { hStream: observer, hEvent: event, Flags: 0 })?;
        credit::send_fence(client, Scope::Stream(context, observer)).map(Some)
    })
}

/// The stream of a context that waits for events on behalf of other servers, and does nothing else.
fn observer(client: &Client, context: Context) -> Answer<Stream> {
    let mut observers = client.observers();
    if let Some(stream) = observers.get(&context) {
        return Ok(*stream);
    }
    let stream: Stream = client.new_handle();
    client.post(&cuda::CuStreamCreate { phStream: stream, Flags: NON_BLOCKING })?;
    observers.insert(context, stream);
    Ok(stream)
}
