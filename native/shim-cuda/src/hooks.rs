//! What the client remembers when a generated call succeeds.

use cuda_abi::{CUfunction_attribute, CUresult};
use wire::handle::{Context, Event, Handle, Kernel, Kind, Stream};

use crate::client::Client;
use crate::context;
use crate::entry::Answer;

/// Checks that a handle of the right kind is alive, as far as the client keeps account of its kind. A worker
/// ends the connection over a handle that does not exist, so a program's mistake must stop here.
pub fn known<H: Handle>(client: &Client, handle: H) -> Answer<H> {
    let raw = handle.raw();
    match H::KIND {
        Kind::Context => client.contexts.state(Context::from_raw(raw)).map(drop)?,
        Kind::Stream => client.streams.state(Stream::from_raw(raw)).map(drop)?,
        Kind::Event => client.events.check(Event::from_raw(raw))?,
        Kind::Module | Kind::Library => client.modules.check_unit(raw)?,
        Kind::Function | Kind::Kernel => client.modules.code(raw).map(drop)?,
        Kind::MemoryPool | Kind::Graph | Kind::GraphNode | Kind::GraphExec | Kind::Array => {
            return Err(CUresult::INVALID_HANDLE);
        }
    }
    Ok(handle)
}

/// After `cuEventCreate`.
pub fn event_created(client: &Client, event: Event, _flags: u32) {
    client.events.insert(event, context::current_index());
}

/// After `cuEventDestroy`.
pub fn event_destroyed(client: &Client, event: Event) {
    client.events.remove(event);
}

/// After `cuStreamCreate`.
pub fn stream_created(client: &Client, stream: Stream, flags: u32) {
    stream_created_with_priority(client, stream, flags, 0);
}

/// After `cuStreamCreateWithPriority`.
pub fn stream_created_with_priority(client: &Client, stream: Stream, flags: u32, priority: i32) {
    if let Some(owner) = context::current() {
        client.streams.insert(stream, flags, priority, owner);
    }
}

/// After `cuStreamDestroy`.
pub fn stream_destroyed(client: &Client, stream: Stream) {
    client.streams.remove(stream);
}

/// After `cuFuncSetAttribute`; `function` may be a kernel.
pub fn function_attribute_set(client: &Client, function: u64, attribute: CUfunction_attribute, value: i32) {
    if let Ok(code) = client.modules.code(function) {
        code.set_attribute(attribute, value);
    }
}

/// After `cuKernelSetAttribute`.
pub fn kernel_attribute_set(
    client: &Client,
    attribute: CUfunction_attribute,
    value: i32,
    kernel: Kernel,
    _device: i32,
) {
    function_attribute_set(client, kernel.raw(), attribute, value);
}
