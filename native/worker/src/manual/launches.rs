//! Launches. Parameters come packed; the driver takes them as one buffer.

use std::ffi::c_void;
use std::sync::Arc;

use cuda_abi::{CUfunction, CUlaunchAttribute, CUlaunchConfig, CUresult, CUstream};
use wire::handle::{Function, Handle, Kernel, Stream};
use wire::{CallId, Request, Writer, cuda};

use super::Answer;
use crate::callbacks::{Callbacks, host_function};
use crate::counters::Counters;
use crate::handles::HandleError;
use crate::waits::{Then, Until, WaiterKey};
use crate::worker::{Later, Worker, address};

/// Markers of the `extra` argument of `cuLaunchKernel`.
const PARAM_END: usize = 0;
const PARAM_BUFFER_POINTER: usize = 1;
const PARAM_BUFFER_SIZE: usize = 2;

/// Attributes that hold nothing but numbers; the others hold handles or addresses of the driver.
pub(super) const PLAIN_ATTRIBUTES: [i32; 6] = [2, 4, 5, 6, 8, 14];

/// `cuLaunchKernel`
pub fn cuLaunchKernel(
    worker: &mut Worker,
    request: cuda::CuLaunchKernel<'_>,
    _reply: &mut Writer<'_>,
) -> Answer {
    let call = <cuda::CuLaunchKernel<'_> as Request<'_>>::CALL;
    let (function, stream) = resolve(worker, call, request.function, request.stream)?;
    let state = Arc::clone(worker.stream_state(request.stream, stream));
    worker.prepared.remember(&request, worker.context, worker.handles.removals(), function, &state);
    let mut packed = Packed::default();
    packed.set(request.parameters);
    Counters::add(&worker.counters.kernel_launches, 1);
    // SAFETY: function and stream are alive; `extra` is a well-formed list whose buffer stays through the call.
    // What the kernel does with its parameters happens on the GPU, inside this client's own context.
    Ok(unsafe {
        worker.driver.cuLaunchKernel(
            function,
            request.grid_x,
            request.grid_y,
            request.grid_z,
            request.block_x,
            request.block_y,
            request.block_z,
            request.shared_bytes,
            stream,
            std::ptr::null_mut(),
            packed.extra().as_mut_ptr(),
        )
    })
}

/// `cuLaunchCooperativeKernel`: as a launch with the cooperative attribute, which takes packed parameters.
pub fn cuLaunchCooperativeKernel(
    worker: &mut Worker,
    request: cuda::CuLaunchCooperativeKernel<'_>,
    reply: &mut Writer<'_>,
) -> Answer {
    /// `CU_LAUNCH_ATTRIBUTE_COOPERATIVE`
    const COOPERATIVE: i32 = 2;
    let attributes = vec![cuda::LaunchAttribute { id: COOPERATIVE, value: [1, 0, 0, 0, 0, 0, 0, 0] }];
    let request = cuda::CuLaunchKernelEx {
        function: request.function,
        grid_x: request.grid_x,
        grid_y: request.grid_y,
        grid_z: request.grid_z,
        block_x: request.block_x,
        block_y: request.block_y,
        block_z: request.block_z,
        shared_bytes: request.shared_bytes,
        stream: request.stream,
        attributes,
        parameters: request.parameters,
    };
    cuLaunchKernelEx(worker, request, reply)
}

/// `cuLaunchKernelEx`
pub fn cuLaunchKernelEx(
    worker: &mut Worker,
    request: cuda::CuLaunchKernelEx<'_>,
    _reply: &mut Writer<'_>,
) -> Answer {
    let call = <cuda::CuLaunchKernelEx<'_> as Request<'_>>::CALL;
    let (function, stream) = resolve(worker, call, request.function, request.stream)?;
    if request.attributes.iter().any(|attribute| !PLAIN_ATTRIBUTES.contains(&attribute.id)) {
        return Ok(CUresult::NOT_SUPPORTED);
    }
    let mut attributes: Vec<CUlaunchAttribute> = request.attributes.iter().map(attribute).collect();
    let config = CUlaunchConfig {
        gridDimX: request.grid_x,
        gridDimY: request.grid_y,
        gridDimZ: request.grid_z,
        blockDimX: request.block_x,
        blockDimY: request.block_y,
        blockDimZ: request.block_z,
        sharedMemBytes: request.shared_bytes,
        hStream: stream,
        attrs: attributes.as_mut_ptr(),
        numAttrs: u32::try_from(attributes.len()).unwrap_or(0),
    };
    let mut packed = Packed::default();
    packed.set(request.parameters);
    Counters::add(&worker.counters.kernel_launches, 1);
    // SAFETY: as for cuLaunchKernel; the attributes hold plain numbers and stay through the call.
    Ok(unsafe {
        worker.driver.cuLaunchKernelEx(
            &raw const config,
            function,
            std::ptr::null_mut(),
            packed.extra().as_mut_ptr(),
        )
    })
}

/// `cuLaunchHostFunc` and `cuStreamAddCallback`: the client runs it, the stream waits meanwhile.
pub fn farpoolHostFunction(
    worker: &mut Worker,
    request: cuda::FarpoolHostFunction,
    _reply: &mut Writer<'_>,
) -> Answer {
    let stream = stream_of(worker, cuda::FarpoolHostFunction::CALL, request.stream)?;
    let hold = worker.callbacks.hold(request.token, None);
    // SAFETY: the driver calls the function once with this hold, or, after an error, not at all.
    let code = unsafe { worker.driver.cuLaunchHostFunc(stream, Some(host_function), hold) };
    if !code.is_success() {
        // SAFETY: the driver refused the function.
        unsafe { Callbacks::take_back(hold) };
    }
    Ok(code)
}

/// The client has done what a callback asked for.
pub fn farpoolCallbackDone(
    worker: &mut Worker,
    request: cuda::FarpoolCallbackDone<'_>,
    _reply: &mut Writer<'_>,
) -> Answer {
    worker.callbacks.finished(request.token, request.data);
    Ok(CUresult::SUCCESS)
}

/// The stream goes no further until the client says so: this record waits, and those on the stream behind it.
pub fn farpoolHold(worker: &mut Worker, request: cuda::FarpoolHold, _reply: &mut Writer<'_>) -> Answer {
    stream_of(worker, cuda::FarpoolHold::CALL, request.stream)?;
    if !worker.released.remove(&request.token) {
        worker.later = Later::TryAgain;
    }
    Ok(CUresult::SUCCESS)
}

/// What a stream was held for is done, perhaps before the stream is held.
pub fn farpoolRelease(worker: &mut Worker, request: cuda::FarpoolRelease, _reply: &mut Writer<'_>) -> Answer {
    /// Held streams of a client; a program has some.
    const MOST: usize = 1 << 16;
    if worker.released.len() >= MOST {
        return Ok(CUresult::OUT_OF_MEMORY);
    }
    worker.released.insert(request.token);
    Ok(CUresult::SUCCESS)
}

pub(super) fn attribute(given: &cuda::LaunchAttribute) -> CUlaunchAttribute {
    CUlaunchAttribute {
        id: given.id,
        pad: [0; 4],
        // SAFETY: the union is 64 plain bytes in which every pattern is a value.
        value: unsafe { std::mem::transmute_copy(&given.value) },
    }
}

/// The driver's function and stream.
fn resolve(
    worker: &Worker,
    call: CallId,
    function: u64,
    stream: Stream,
) -> Result<(CUfunction, CUstream), HandleError> {
    Ok((resolve_function(worker, call, function)?, stream_of(worker, call, stream)?))
}

/// The driver's function, or kernel, which it takes as well.
pub(super) fn resolve_function(
    worker: &Worker,
    call: CallId,
    function: u64,
) -> Result<CUfunction, HandleError> {
    let kernel = Kernel::from_raw(function);
    let raw = if kernel.has_kind() {
        worker.handles.get(call, kernel)?
    } else {
        worker.handles.get(call, Function::from_raw(function))?
    };
    Ok(CUfunction(address(raw)))
}

/// The driver's stream; 0 is the legacy stream.
pub fn stream_of(worker: &Worker, call: CallId, stream: Stream) -> Result<CUstream, HandleError> {
    if stream.raw() == 0 {
        return Ok(CUstream::NULL);
    }
    Ok(CUstream(address(worker.handles.get(call, stream)?)))
}

/// Packed parameters in the form of the `extra` argument.
#[derive(Debug, Default)]
pub struct Packed {
    /// 16-byte aligned: the widest type of a kernel parameter.
    buffer: Vec<u128>,
    length: usize,
    extra: Extra,
}

/// The list of markers and values.
#[derive(Debug)]
struct Extra([*mut c_void; 5]);

impl Default for Extra {
    fn default() -> Self {
        Self([std::ptr::null_mut(); 5])
    }
}

impl Packed {
    /// Takes the parameters of a launch.
    pub fn set(&mut self, parameters: &[u8]) {
        self.length = parameters.len();
        self.buffer.clear();
        self.buffer.extend(parameters.chunks(16).map(|bytes| {
            let mut whole = [0; 16];
            whole[..bytes.len()].copy_from_slice(bytes);
            u128::from_ne_bytes(whole)
        }));
    }

    /// The list; it points into `self`, which must stay where it is until the call returned.
    pub fn extra(&mut self) -> &mut [*mut c_void] {
        let Extra(list) = &mut self.extra;
        if self.length == 0 {
            list[0] = std::ptr::without_provenance_mut(PARAM_END);
            return list;
        }
        *list = [
            std::ptr::without_provenance_mut(PARAM_BUFFER_POINTER),
            self.buffer.as_mut_ptr().cast(),
            std::ptr::without_provenance_mut(PARAM_BUFFER_SIZE),
            (&raw mut self.length).cast(),
            std::ptr::without_provenance_mut(PARAM_END),
        ];
        list
    }
}

/// The client wants to know when a stream has finished its work up to a record. What is finished is told before
/// anything else leaves; for the rest somebody waits.
pub fn farpoolWatch(worker: &mut Worker, request: cuda::FarpoolWatch, _reply: &mut Writer<'_>) -> Answer {
    let stream = stream_of(worker, cuda::FarpoolWatch::CALL, request.stream)?;
    let state = Arc::clone(worker.stream_state(request.stream, stream));
    // Whatever was told before is told again: the client does not know it.
    worker.streams.wanted(&state, request.number);
    let waiter = WaiterKey::Stream(state.context, stream.0);
    let known = state.events().iter().find(|recorded| recorded.number == request.number).copied();
    match known {
        Some(recorded) => {
            let waiter = WaiterKey::Event(recorded.event.0);
            let then = Then::Tell(Arc::clone(&state), recorded.number);
            worker.waits.push_soon(waiter, worker.current(), Until::Watched(recorded.event), then);
        }
        None => match worker.waits.mark(worker.current(), stream) {
            Ok(event) => {
                let then = Then::Tell(Arc::clone(&state), state.issued());
                worker.waits.push_soon(waiter, worker.current(), Until::Own(event), then);
            }
            Err(code) => return Ok(code),
        },
    }
    Ok(CUresult::SUCCESS)
}
