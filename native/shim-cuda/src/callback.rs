//! What this process does while a stream waits for it: host functions, stream callbacks, and the bytes of copies
//! whose source may still change. One service thread does it all, in the order in which streams get there. It also
//! reads for programs that look at memory which a copy will write, instead of asking CUDA.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use cuda_abi::{CUresult, CUstream};
use wire::cuda;
use wire::handle::Stream;

use crate::client::Client;
use crate::connection::Data;
use crate::entry::Answer;
use crate::graph::action::HostCall;
use crate::rectangle::Copy3d;
use crate::{credit, report, state};

type HostFunction = unsafe extern "C" fn(*mut c_void);
type StreamCallback = unsafe extern "C" fn(CUstream, CUresult, *mut c_void);

/// Something to do when a stream gets there.
#[derive(Debug)]
pub enum Action {
    /// `cuLaunchHostFunc`
    Host(HostFunction, *mut c_void),
    /// `cuStreamAddCallback`
    Stream(StreamCallback, CUstream, *mut c_void),
    /// The bytes of a copy.
    Pull(*const u8, usize),
    /// The bytes of several pieces of memory, one behind the other.
    Gather(Vec<(*const u8, usize)>),
    /// A copy inside this process.
    Move(Copy3d),
}

// SAFETY: the program gave function and pointer to be used on another thread: CUDA's contract for callbacks, and
// for the source of an asynchronous copy, which must stay as it is until the copy is complete.
unsafe impl Send for Action {}

/// Everything that was asked for and has not happened.
#[derive(Debug, Default)]
pub struct Actions {
    /// By token, with the index of the context whose stream gets there.
    table: Mutex<HashMap<u64, (u32, Action)>>,
    service: OnceLock<bool>,
}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs a callback of the program's: CUDA permits no calls there.
pub fn is_running() -> bool {
    IN_CALLBACK.try_with(Cell::get).unwrap_or(false)
}

impl Actions {
    fn table(&self) -> MutexGuard<'_, HashMap<u64, (u32, Action)>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for `action`; `request` makes the request that holds `stream` until it is done.
pub fn ask(
    client: &'static Client,
    stream: Stream,
    action: Action,
    request: impl FnOnce(u64) -> Answer,
) -> Answer {
    if !start(client) {
        return Err(CUresult::OPERATING_SYSTEM);
    }
    let token = client.new_number();
    let context = client.context_of(Some(stream));
    credit::before_hold(client)?;
    client.actions.table().insert(token, (context, action));
    client.connection().expect_callback(token);
    let asked = request(token);
    if asked.is_err() {
        client.actions.table().remove(&token);
        client.connection().callback_done(token);
    }
    asked
}

/// Starts the service thread, once.
pub fn start(client: &'static Client) -> bool {
    *client.actions.service.get_or_init(|| {
        let spawned = crate::thread::spawn("farpool-service", move || serve(client));
        if let Err(error) = &spawned {
            report::once(&format!("the thread for host functions cannot be started: {error}"));
        }
        spawned.is_ok()
    })
}

/// What streams of the context with this index will come to.
pub fn asked_in(client: &Client, context: u32) -> Vec<u64> {
    let table = client.actions.table();
    let mut tokens: Vec<u64> =
        table.iter().filter(|(_, (of, _))| *of == context).map(|(token, _)| *token).collect();
    tokens.sort_unstable();
    tokens
}

/// Those of `tokens` that no stream will get to any more, as its context ended with `code`: host functions are not called
/// then, stream callbacks are told the code.
pub fn abandon(client: &Client, tokens: &[u64], code: CUresult) {
    for token in client.connection().not_reached(tokens) {
        let mut table = client.actions.table();
        match table.get(&token) {
            Some((_, Action::Stream(..))) => {
                drop(table);
                client.connection().call_back(token, code.0);
            }
            Some(_) => {
                table.remove(&token);
                drop(table);
                client.connection().callback_done(token);
            }
            // The service thread is at it.
            None => {}
        }
    }
}

/// After the context whose streams would have got to `tokens` was destroyed: returns when no function of the program's
/// is running for it.
pub fn context_gone(client: &Client, tokens: &[u64]) {
    abandon(client, tokens, CUresult::CONTEXT_IS_DESTROYED);
    if !is_running() {
        client.connection().wait_for_callbacks(tokens);
    }
}

fn serve(client: &'static Client) {
    while let Some(callback) = client.connection().next_callback() {
        let action = client.actions.table().remove(&callback.token);
        let gathered;
        let data: &[u8] = match action.map(|(_, action)| action) {
            Some(Action::Host(function, user)) => {
                // SAFETY: the program gave both for this call.
                in_callback(|| unsafe { function(user) });
                &[]
            }
            Some(Action::Stream(function, stream, user)) => {
                // SAFETY: the program gave all of it for this call.
                in_callback(|| unsafe { function(stream, CUresult(callback.code), user) });
                &[]
            }
            // SAFETY: the source of an asynchronous copy stays readable until the copy is complete.
            Some(Action::Pull(source, length)) => unsafe { std::slice::from_raw_parts(source, length) },
            Some(Action::Gather(pieces)) => {
                let piece = |(source, length)| {
                    // SAFETY: as for a pull.
                    unsafe { std::slice::from_raw_parts(source, length) }
                };
                gathered = pieces.into_iter().map(piece).collect::<Vec<&[u8]>>().concat();
                &gathered
            }
            Some(Action::Move(copy)) => {
                copy.move_here();
                &[]
            }
            None => &[],
        };
        let done = client.connection().post_with_data(
            <cuda::FarpoolCallbackDone<'_> as wire::Request<'_>>::CALL,
            (0, None),
            |writer| writer.put_u64(callback.token),
            Data::Passing(data),
        );
        client.connection().callback_done(callback.token);
        if done.is_err() || state::client().is_err() {
            return;
        }
    }
}

/// Runs a function of the program's as a callback, on this thread.
pub fn run(call: HostCall) {
    // SAFETY: the program gave function and pointer for this call.
    in_callback(|| unsafe { (call.function)(call.data) });
}

fn in_callback(body: impl FnOnce()) {
    IN_CALLBACK.with(|flag| flag.set(true));
    body();
    IN_CALLBACK.with(|flag| flag.set(false));
}
