//! Questions about work that are answered here, and waits that are over before they begin.

use std::sync::Arc;

use cuda_abi::CUresult;
use wire::cuda;
use wire::handle::{Context, Event, Stream};

use crate::client::{Client, index_of};
use crate::connection;
use crate::entry::Answer;
use crate::event::Recorded;
use crate::progress::Progress;
use crate::stream::NON_BLOCKING;

/// `cuStreamQuery`; `None` when only the worker knows: in strict mode it answers everything.
pub fn stream(client: &Client, stream: Stream) -> Option<Answer> {
    if let Err(code) = client.contexts.current() {
        return Some(Err(code));
    }
    let context = client.context_of(Some(stream));
    let progress = client.connection().timelines.of(context, stream);
    finished(client, (context, stream), &progress, progress.last())
}

/// `cuEventQuery`; `None` when only the worker knows.
pub fn event(client: &Client, event: Event) -> Option<Answer> {
    match client.events.recorded(event) {
        Ok(Recorded::Never) => Some(Ok(())),
        Ok(Recorded::OnStream(recorded)) => {
            let context = match client.events.context_index(event) {
                Ok(context) => context,
                Err(code) => return Some(Err(code)),
            };
            finished(client, (context, recorded.stream), &recorded.progress, recorded.number)
        }
        Ok(Recorded::OnContext) => None,
        Err(code) => Some(Err(code)),
    }
}

/// `cuStreamSynchronize` of a stream that has done nothing since it was synchronised with; `None` when it must be
/// waited for.
pub fn stream_is_idle(client: &Client, stream: Stream) -> Option<Answer> {
    let context = client.contexts.current().ok()?.0;
    if stream.0 == 0 {
        // The legacy stream waits for the blocking ones.
        return some_context_is_idle(client, context);
    }
    let timelines = &client.connection().timelines;
    let index = client.context_of(Some(stream));
    settled(
        client,
        index,
        [stream, Stream(0)].into_iter().all(|stream| is_settled(&timelines.of(index, stream))),
    )
}

/// After `cuStreamSynchronize`.
pub fn stream_synchronised(client: &Client, stream: Stream) {
    let timelines = &client.connection().timelines;
    timelines.of(client.context_of(Some(stream)), stream).synchronised(connection::last_number());
    give_back(client);
}

/// `cuEventSynchronize` of an event that was synchronised with; `None` when it must be waited for.
pub fn event_is_reached(client: &Client, event: Event) -> Option<Answer> {
    let is_reached = match client.events.recorded(event) {
        Ok(Recorded::Never) => true,
        Ok(Recorded::OnStream(recorded)) => {
            recorded.progress.has_finished(recorded.number)
                && recorded.progress.was_synchronised(recorded.number)
        }
        Ok(Recorded::OnContext) => false,
        Err(code) => return Some(Err(code)),
    };
    let context = match client.events.context_index(event) {
        Ok(context) => context,
        Err(code) => return Some(Err(code)),
    };
    settled(client, context, is_reached)
}

/// `cuCtxSynchronize` of a context that has done nothing since it was synchronised with; `None` when it must be
/// waited for.
pub fn context_is_idle(client: &Client) -> Option<Answer> {
    some_context_is_idle(client, Context(0))
}

/// The same for any context; 0 is the current one.
pub fn some_context_is_idle(client: &Client, context: Context) -> Option<Answer> {
    let context = this_or_current(client, context)?;
    let timelines = &client.connection().timelines;
    let index = index_of(context);
    let is_idle = streams_of(client, context).all(|stream| is_settled(&timelines.of(index, stream)));
    settled(client, index, is_idle && timelines.orphans(index).are_settled())
}

/// After `cuCtxSynchronize`.
pub fn context_synchronised(client: &Client) {
    some_context_synchronised(client, Context(0));
}

/// After `cuCtxSynchronize_v2`.
pub fn some_context_synchronised(client: &Client, context: Context) {
    let Some(context) = this_or_current(client, context) else { return };
    let timelines = &client.connection().timelines;
    for stream in streams_of(client, context) {
        timelines.of(index_of(context), stream).synchronised(connection::last_number());
    }
    timelines.orphans(index_of(context)).synchronised(connection::last_number());
    give_back(client);
}

/// As CUDA's pools do at synchronisations, this process gives back what it does not want to keep.
fn give_back(client: &Client) {
    // An error here is told by the next call.
    let _ = crate::credit::collect(client);
}

/// Before a destroyed stream is forgotten: its work goes on.
pub fn stream_goes(client: &Client, stream: Stream) {
    let Ok(state) = client.streams.state(stream) else { return };
    let timelines = &client.connection().timelines;
    let index = index_of(state.context);
    let progress = timelines.of(index, stream);
    if !is_settled(&progress) {
        timelines.orphans(index).left(progress.last());
    }
}

fn this_or_current(client: &Client, context: Context) -> Option<Context> {
    if context.0 == 0 { client.contexts.current().ok().map(|current| current.0) } else { Some(context) }
}

/// The streams of a context, its legacy one among them.
fn streams_of(client: &Client, context: Context) -> impl Iterator<Item = Stream> + use<> {
    std::iter::once(Stream(0)).chain(client.streams.of_context(context))
}

fn is_settled(progress: &Progress) -> bool {
    progress.is_idle() && progress.was_synchronised(progress.last())
}

/// There is nothing to wait for, unless an error of an earlier call must be told by a call that waits.
fn settled(client: &Client, context: u32, is_over: bool) -> Option<Answer> {
    (is_over && !client.is_strict() && !client.has_late_errors(context)).then_some(Ok(()))
}

/// Whether the work of `stream`, in the context with this index, is finished up to record `number`; `None` when the worker
/// must say.
fn finished(
    client: &Client,
    (context, stream): (u32, Stream),
    progress: &Arc<Progress>,
    number: u64,
) -> Option<Answer> {
    if !progress.has_finished(number) {
        client.connection().look();
    }
    if let Err(code) = client.check().and_then(|()| client.contexts.check_sticky_of(context)) {
        return Some(Err(code));
    }
    if progress.has_finished(number) {
        return (!client.is_strict()).then_some(Ok(()));
    }
    let is_blocking = client.streams.state(stream).is_ok_and(|state| state.flags & NON_BLOCKING == 0);
    let is_blocking = stream.0 == 0 || is_blocking;
    if client.connection().timelines.skipped(context).covers(number, is_blocking) {
        return Some(client.call_in(context, &cuda::CuStreamSynchronize { hStream: stream }));
    }
    // Of a destroyed stream only the worker knows.
    if client.is_strict() || progress.is_gone() {
        return None;
    }
    if progress.wants(number)
        && let Err(code) = client.post_in(context, &cuda::FarpoolWatch { stream, number })
    {
        return Some(Err(code));
    }
    Some(Err(CUresult::NOT_READY))
}
