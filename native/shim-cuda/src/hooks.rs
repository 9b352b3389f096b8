//! What generated calls refuse before they are sent, and what the client remembers when they succeed.

use cuda_abi as abi;
use cuda_abi::{CUfunc_cache, CUfunction_attribute, CUlimit, CUresult};
use wire::handle::{Context, Event, Handle, Kernel, Kind, Stream};

use crate::client::{Client, index_of};
use crate::context;
use crate::entry::Answer;
use crate::event::{Recorded, RecordedOnStream};

/// Checks that a handle of the right kind is alive, as far as the client keeps account of its kind: a program's mistake is
/// answered here.
pub fn known<H: Handle>(client: &Client, handle: H) -> Answer<H> {
    let raw = handle.raw();
    match H::KIND {
        Kind::Context => client.contexts.state(Context::from_raw(raw)).map(drop)?,
        Kind::Stream => {
            let context = client.streams.state(Stream::from_raw(raw))?.context;
            client.contexts.check_sticky_of(index_of(context))?;
        }
        Kind::Event => client.contexts.check_sticky_of(client.events.context_index(Event::from_raw(raw))?)?,
        Kind::Module | Kind::Library => client.modules.check_unit(raw)?,
        Kind::Function | Kind::Kernel => client.modules.code(raw).map(drop)?,
        Kind::MemoryPool | Kind::Graph | Kind::GraphNode | Kind::GraphExec | Kind::Array => {
            return Err(CUresult::INVALID_HANDLE);
        }
    }
    Ok(handle)
}

/// Before a memset of `count` elements of `element` bytes.
pub fn fill(client: &Client, address: u64, count: usize, element: u64) -> Answer {
    fill_rows(client, address, 0, count, 1, element)
}

/// Before a memset of `height` rows of `width` elements of `element` bytes.
pub fn fill_rows(
    client: &Client,
    address: u64,
    pitch: usize,
    width: usize,
    height: usize,
    element: u64,
) -> Answer {
    let (pitch, width, height) = (pitch as u64, width as u64, height as u64);
    if width == 0 || height == 0 {
        return Ok(());
    }
    let row = width.checked_mul(element).ok_or(CUresult::INVALID_VALUE)?;
    if height > 1 && (pitch < row || !pitch.is_multiple_of(element)) {
        return Err(CUresult::INVALID_VALUE);
    }
    let length = pitch.checked_mul(height - 1).and_then(|above| above.checked_add(row));
    client.ranges.device_range(address, length.ok_or(CUresult::INVALID_VALUE)?)?;
    if address.is_multiple_of(element) { Ok(()) } else { Err(CUresult::INVALID_VALUE) }
}

/// Before a copy from device memory to device memory.
pub fn copy_on_devices(client: &Client, destination: u64, source: u64, length: usize) -> Answer {
    if length > 0 {
        client.ranges.device_range(destination, length as u64)?;
        client.ranges.device_range(source, length as u64)?;
    }
    Ok(())
}

/// Before `cuCtxSetLimit`.
pub fn limit(limit: CUlimit) -> Answer {
    if (0..abi::CU_LIMIT_CIG_ENABLED).contains(&limit) { Ok(()) } else { Err(CUresult::UNSUPPORTED_LIMIT) }
}

/// Before `cuCtxSetCacheConfig`.
pub fn cache_config(config: CUfunc_cache) -> Answer {
    let known = abi::CU_FUNC_CACHE_PREFER_NONE..=abi::CU_FUNC_CACHE_PREFER_EQUAL;
    if known.contains(&config) { Ok(()) } else { Err(CUresult::INVALID_VALUE) }
}

/// Before a stream is made.
pub fn stream_flags(flags: u32) -> Answer {
    if flags & !crate::stream::NON_BLOCKING == 0 { Ok(()) } else { Err(CUresult::INVALID_VALUE) }
}

/// Before an event is made.
pub fn event_flags(flags: u32) -> Answer {
    /// Blocking wait, no timing, between processes.
    const KNOWN: u32 = 7;
    const BETWEEN_PROCESSES: u32 = 4;
    if flags & !KNOWN != 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    if flags & BETWEEN_PROCESSES != 0 {
        crate::report::once("events between processes are not supported by Farpool yet");
        return Err(CUresult::NOT_SUPPORTED);
    }
    Ok(())
}

/// Before a stream waits for an event.
pub fn wait_flags(flags: u32) -> Answer {
    /// `CU_EVENT_WAIT_EXTERNAL`.
    const EXTERNAL: u32 = 1;
    if flags & !EXTERNAL == 0 { Ok(()) } else { Err(CUresult::INVALID_VALUE) }
}

/// Before an event is recorded: it must belong to the stream's context.
pub fn recordable(client: &Client, event: Event, stream: Stream) -> Answer {
    let context = match client.streams.state(stream) {
        Ok(state) => crate::client::index_of(state.context),
        // A default stream.
        Err(_) => context::current_index(),
    };
    if client.events.context_index(event)? == context { Ok(()) } else { Err(CUresult::INVALID_HANDLE) }
}

/// Before an attribute of a function or kernel is set.
pub fn function_attribute(
    client: &Client,
    function: u64,
    attribute: CUfunction_attribute,
    value: i32,
) -> Answer {
    let is_good = match attribute {
        abi::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES => {
            let device = client.contexts.current()?.1.device;
            let device = client.devices.get(i32::try_from(device).map_err(|_| CUresult::INVALID_DEVICE)?)?;
            let most = device.attribute(abi::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
            let fixed = client.modules.code(function)?.attribute(abi::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
            let most = most.map(|most| most - fixed.unwrap_or(0));
            value >= 0 && most.is_none_or(|most| value <= most)
        }
        abi::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT => (-1..=100).contains(&value),
        // Clusters: the driver knows best.
        abi::CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH
            ..=abi::CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE => true,
        _ => false,
    };
    if is_good { Ok(()) } else { Err(CUresult::INVALID_VALUE) }
}

/// After `cuEventCreate`.
pub fn event_created(client: &Client, event: Event, _flags: u32) {
    client.events.insert(event, context::current_index());
}

pub use crate::queries::{context_synchronised, some_context_synchronised, stream_synchronised};

/// After `cuEventRecord`.
pub fn event_recorded(client: &Client, event: Event, stream: Stream) {
    let progress = client.connection().timelines.of(context::current_index(), stream);
    let number = crate::connection::last_number();
    client.events.record(event, Recorded::OnStream(RecordedOnStream { stream, progress, number }));
}

/// After `cuEventRecordWithFlags`.
pub fn event_recorded_with_flags(client: &Client, event: Event, stream: Stream, _flags: u32) {
    event_recorded(client, event, stream);
}

/// After `cuCtxRecordEvent`.
pub fn event_recorded_on_context(client: &Client, _context: Context, event: Event) {
    client.events.record(event, Recorded::OnContext);
}

/// After `cuCtxWaitEvent`: every stream of the context has something to wait for.
pub fn context_waits(client: &Client, waiting: Context, _event: Event) {
    let Some(context) = Some(waiting).filter(|context| context.0 != 0).or_else(context::current) else {
        return;
    };
    let number = crate::connection::last_number();
    let timelines = &client.connection().timelines;
    let index = crate::client::index_of(context);
    timelines.put(index, Stream::default(), number);
    for stream in client.streams.of_context(context) {
        timelines.put(index, stream, number);
    }
}

/// After `cuEventDestroy`.
pub fn event_destroyed(client: &Client, event: Event) {
    client.events.remove(event);
    crate::capture::event_gone(client, event);
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

/// Before `cuStreamDestroy`.
pub fn stream_goes(client: &Client, stream: Stream) -> Answer {
    crate::credit::before_stream_goes(client, stream)
}

/// After `cuStreamDestroy`.
pub fn stream_destroyed(client: &Client, stream: Stream) {
    crate::capture::stream_gone(client, stream);
    crate::queries::stream_goes(client, stream);
    crate::elsewhere::stream_gone(client, stream);
    client.streams.remove(stream);
    crate::prepared::forget();
    client.connection().timelines.forget(stream);
}

/// After `cuFuncSetAttribute`; `function` may be a kernel.
pub fn function_attribute_set(client: &Client, function: u64, attribute: CUfunction_attribute, value: i32) {
    if let Ok(code) = client.modules.code(function) {
        code.set_attribute(attribute, value);
        crate::prepared::forget();
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
    // The driver hands it to the functions that the kernel has become.
    for function in client.modules.functions_of(kernel) {
        function.set_attribute(attribute, value);
    }
}
