//! Streams: what the client remembers of them, and the stream that each host thread has for itself.

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cuda_abi::CUresult;
use cuda_abi::per_thread::PerThread;
use rustc_hash::FxHashMap;
use wire::handle::{Context, Handle, Stream};

use crate::client::Client;
use crate::entry::Answer;
use crate::{capture, hooks, servers};

/// The legacy default stream, spelled out.
pub const LEGACY: u64 = 1;

/// The calling thread's own default stream.
pub const PER_THREAD: u64 = 2;

/// `CU_STREAM_NON_BLOCKING`.
pub const NON_BLOCKING: u32 = 1;

/// What is known about a stream.
#[derive(Debug, Clone, Copy)]
pub struct StreamState {
    /// Flags it was made with.
    pub flags: u32,
    /// Its priority.
    pub priority: i32,
    /// The context it belongs to.
    pub context: Context,
    /// Its number for `cuStreamGetId`.
    pub id: u64,
}

/// All streams of this process.
#[derive(Debug, Default)]
pub struct Streams {
    alive: Mutex<FxHashMap<Stream, StreamState>>,
}

/// The streams that stand for `CU_STREAM_PER_THREAD`, one in each context that the thread used. They end with it.
static OWN: PerThread<OwnStreams> = PerThread::new();

#[derive(Default)]
struct OwnStreams(RefCell<Vec<(Context, Stream)>>);

impl Drop for OwnStreams {
    fn drop(&mut self) {
        let Some(client) = crate::state::client_if_any() else { return };
        for (context, stream) in self.0.take() {
            let client = servers::with_handle(client, stream.raw());
            // One that is not known any more went with its context.
            if client.streams.state(stream).is_err() {
                capture::stream_gone(client, stream);
                continue;
            }
            // The work that it has is done all the same. A lost connection took the stream with it.
            let request = wire::cuda::CuStreamDestroyV2 { hStream: stream };
            let _ = client.connection().post(&request, crate::client::index_of(context));
            hooks::stream_destroyed(client, stream);
        }
    }
}

impl Streams {
    fn table(&self) -> MutexGuard<'_, FxHashMap<Stream, StreamState>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a new stream.
    pub fn insert(&self, stream: Stream, flags: u32, priority: i32, context: Context) {
        let id = (stream.raw() >> 4) & 0xffff_ffff;
        self.table().insert(stream, StreamState { flags, priority, context, id });
    }

    /// Forgets a destroyed stream.
    pub fn remove(&self, stream: Stream) {
        self.table().remove(&stream);
    }

    /// Forgets the streams of a destroyed context.
    pub fn forget_context(&self, context: Context) {
        self.table().retain(|_, state| state.context != context);
    }

    /// The streams of a context but for its legacy one.
    pub fn of_context(&self, context: Context) -> impl Iterator<Item = Stream> + use<> {
        let streams: Vec<Stream> = self
            .table()
            .iter()
            .filter(|(_, state)| state.context == context)
            .map(|(stream, _)| *stream)
            .collect();
        streams.into_iter()
    }

    /// The state of a stream that a program made.
    pub fn state(&self, stream: Stream) -> Answer<StreamState> {
        self.table().get(&stream).copied().ok_or(CUresult::INVALID_HANDLE)
    }
}

/// The stream behind what a program passed, as the worker knows it: 0 for the legacy stream.
///
/// Errors: `INVALID_HANDLE` for a stream that does not exist.
pub fn resolve(client: &Client, raw: u64) -> Answer<Stream> {
    let stream = find(client, raw)?;
    capture::refuse(client, stream)?;
    Ok(stream)
}

/// The same for calls that know what to do when the stream captures.
///
/// Errors: `INVALID_HANDLE` for a stream that does not exist, `STREAM_CAPTURE_IMPLICIT` for the legacy stream where it
/// would wait for one that captures.
pub fn find(client: &Client, raw: u64) -> Answer<Stream> {
    if matches!(raw, 0 | LEGACY) {
        capture::legacy_used(client)?;
    }
    find_at_any_time(client, raw)
}

/// The same for questions about captures.
///
/// Errors: `INVALID_HANDLE` for a stream that does not exist.
pub fn find_at_any_time(client: &Client, raw: u64) -> Answer<Stream> {
    match raw {
        0 | LEGACY => Ok(Stream::from_raw(0)),
        PER_THREAD => own(client),
        _ => {
            let stream = Stream::from_raw(raw);
            match client.streams.state(stream) {
                Ok(state) => {
                    client.contexts.check_sticky_of(crate::client::index_of(state.context))?;
                    Ok(stream)
                }
                // CUDA looks at the thread's context first.
                Err(wrong) => Err(client.contexts.current().err().unwrap_or(wrong)),
            }
        }
    }
}

/// Whether the calling thread has used its own stream in its current context.
pub fn has_own(client: &Client) -> bool {
    let Ok((context, _)) = client.contexts.current() else { return false };
    OWN.with(|own| own.0.borrow().iter().any(|(owner, _)| *owner == context))
}

/// The calling thread's own stream in its current context, made at its first use. Like CUDA's it is a
/// blocking stream: it synchronises with the legacy stream.
fn own(client: &Client) -> Answer<Stream> {
    let (context, _) = client.contexts.current()?;
    OWN.with(|own| {
        let mut streams = own.0.borrow_mut();
        let known = streams.iter().position(|(owner, _)| *owner == context);
        if let Some(position) = known {
            let stream = streams[position].1;
            if client.streams.state(stream).is_ok() {
                return Ok(stream);
            }
            streams.swap_remove(position);
        }
        let stream: Stream = client.new_handle();
        client.post(&wire::cuda::CuStreamCreate { phStream: stream, Flags: 0 })?;
        client.streams.insert(stream, 0, 0, context);
        streams.push((context, stream));
        Ok(stream)
    })
}
