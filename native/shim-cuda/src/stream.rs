//! Streams: what the client remembers of them, and the stream that each host thread has for itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cuda_abi::CUresult;
use wire::handle::{Context, Handle, Stream};

use crate::client::Client;
use crate::entry::Answer;

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
    alive: Mutex<HashMap<Stream, StreamState>>,
}

thread_local! {
    /// The stream that stands for `CU_STREAM_PER_THREAD` in each context this thread used.
    static OWN: RefCell<Vec<(Context, Stream)>> = const { RefCell::new(Vec::new()) };
}

impl Streams {
    fn table(&self) -> MutexGuard<'_, HashMap<Stream, StreamState>> {
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

    /// The state of a stream that a program made.
    pub fn state(&self, stream: Stream) -> Answer<StreamState> {
        self.table().get(&stream).copied().ok_or(CUresult::INVALID_HANDLE)
    }
}

/// The stream behind what a program passed, as the worker knows it: 0 for the legacy stream.
///
/// Errors: `INVALID_HANDLE` for a stream that does not exist.
pub fn resolve(client: &Client, raw: u64) -> Answer<Stream> {
    match raw {
        0 | LEGACY => Ok(Stream::from_raw(0)),
        PER_THREAD => own(client),
        _ => {
            let stream = Stream::from_raw(raw);
            client.streams.state(stream)?;
            Ok(stream)
        }
    }
}

/// The calling thread's own stream in its current context, made at its first use. Like CUDA's it is a
/// blocking stream: it synchronises with the legacy stream.
fn own(client: &Client) -> Answer<Stream> {
    let (context, _) = client.contexts.current()?;
    let known = OWN
        .try_with(|own| own.borrow().iter().find(|(owner, _)| *owner == context).map(|(_, stream)| *stream))
        .ok()
        .flatten();
    if let Some(stream) = known.filter(|stream| client.streams.state(*stream).is_ok()) {
        return Ok(stream);
    }
    let stream: Stream = client.new_handle();
    client.post(&wire::cuda::CuStreamCreate { phStream: stream, Flags: 0 })?;
    client.streams.insert(stream, 0, 0, context);
    let _ = OWN.try_with(|own| own.borrow_mut().push((context, stream)));
    Ok(stream)
}
