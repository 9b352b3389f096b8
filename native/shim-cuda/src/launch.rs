//! Launches: checked here as far as CUDA reports at once, then sent without waiting.

use std::ffi::c_void;
use std::sync::Arc;

use cuda_abi as abi;
use cuda_abi::{CUfunction, CUlaunchConfig, CUresult, CUstream};
use wire::cuda::LaunchAttribute;
use wire::handle::{Handle, Kernel, Stream};

use crate::capture;
use crate::client::Client;
use crate::convert::handle;
use crate::device::Device;
use crate::entry::Answer;
use crate::graph::action::{Action, KernelCall};
use crate::module::Code;
use crate::stream;

/// Markers of the `extra` argument of `cuLaunchKernel`.
const LAUNCH_PARAM_END: usize = 0;
const LAUNCH_PARAM_BUFFER_POINTER: usize = 1;
const LAUNCH_PARAM_BUFFER_SIZE: usize = 2;

/// Bytes of packed parameters that a kernel may have.
const MAX_PARAMETER_BYTES: usize = 32 << 10;

/// Launch attributes that hold nothing but numbers: 2 cooperative, 4 cluster dimensions, 5 its policy, 6 and 7
/// programmatic completion (7 holds an event), 8 priority, 14 carve-out. Those with handles are refused by name.
pub const PLAIN_ATTRIBUTES: [i32; 6] = [2, 4, 5, 6, 8, 14];

/// `CU_LAUNCH_ATTRIBUTE_COOPERATIVE`.
pub const COOPERATIVE: i32 = 2;

/// `CU_LAUNCH_ATTRIBUTE_IGNORE`.
const ATTRIBUTE_IGNORE: i32 = 0;

/// Shape of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
}

/// A launch that passed its checks.
#[derive(Debug)]
pub struct Launch {
    /// The function or kernel, as the worker knows it.
    pub function: u64,
    /// What is known about it.
    pub code: Arc<Code>,
    /// The stream, as the worker knows it.
    pub stream: Stream,
}

/// What is known about a function; kernels may be passed in its place, as CUDA's runtime does.
pub fn code_of(client: &Client, function: CUfunction) -> Answer<(u64, Arc<Code>)> {
    let raw = match handle(function) {
        Ok(handle) => handle.raw(),
        Err(error) => {
            let kernel = Kernel::from_raw(function.0 as u64);
            if !kernel.has_kind() {
                return Err(error);
            }
            kernel.raw()
        }
    };
    Ok((raw, client.modules.code(raw)?))
}

/// What a launch may ask for, of its function and its device.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    grid: [u32; 3],
    block: [u32; 3],
    /// Threads of a block on the device.
    threads: u64,
    /// Threads of a block of this function.
    function_threads: u64,
    shared_bytes: u64,
}

impl Limits {
    fn new(device: &Device, code: &Code) -> Limits {
        let of_device = |attribute| {
            device.attribute(attribute).and_then(|value| u32::try_from(value).ok()).unwrap_or(u32::MAX)
        };
        let of_code = |attribute| {
            code.attribute(attribute).and_then(|value| u64::try_from(value).ok()).unwrap_or(u64::MAX)
        };
        Limits {
            grid: [
                of_device(abi::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X),
                of_device(abi::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y),
                of_device(abi::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z),
            ],
            block: [
                of_device(abi::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X),
                of_device(abi::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y),
                of_device(abi::CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z),
            ],
            threads: u64::from(of_device(abi::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)),
            function_threads: of_code(abi::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK),
            shared_bytes: of_code(abi::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES),
        }
    }

    /// Whether a launch keeps within them.
    pub fn allow(&self, geometry: Geometry) -> bool {
        self.check(geometry).is_ok()
    }

    /// Checks a launch, as CUDA does before it returns.
    fn check(&self, geometry: Geometry) -> Answer {
        let within = |value: u32, limit: u32| value > 0 && value <= limit;
        let fits = (0..3).all(|axis| {
            within(geometry.grid[axis], self.grid[axis]) && within(geometry.block[axis], self.block[axis])
        });
        let threads = geometry.block.iter().map(|side| u64::from(*side)).product::<u64>();
        if !fits || threads > self.threads {
            return Err(CUresult::INVALID_VALUE);
        }
        if threads > self.function_threads {
            return Err(CUresult::LAUNCH_OUT_OF_RESOURCES);
        }
        if u64::from(geometry.shared_bytes) > self.shared_bytes {
            return Err(CUresult::INVALID_VALUE);
        }
        Ok(())
    }
}

/// Checks a launch against the function and the device, as CUDA does before it returns.
pub fn prepare(
    client: &Client,
    function: CUfunction,
    geometry: Geometry,
    stream: CUstream,
) -> Answer<(Launch, Limits)> {
    let (context, _) = client.contexts.current()?;
    let (function, code, limits) = limited(client, function, geometry)?;
    let stream = stream::find(client, stream.0 as u64)?;
    // A default stream belongs to the current context.
    let place = client.streams.state(stream).map_or(context, |state| state.context);
    // A kernel becomes a function of the current context.
    let owner = if Kernel::from_raw(function).has_kind() {
        Some(context)
    } else {
        code.module.and_then(|module| client.modules.context_of(module))
    };
    if owner.is_some_and(|owner| owner != place) {
        return Err(CUresult::INVALID_HANDLE);
    }
    Ok((Launch { function, code, stream }, limits))
}

/// What is known about a function, whose launch in the current context is checked as far as CUDA does at once.
pub fn checked(client: &Client, function: CUfunction, geometry: Geometry) -> Answer<(u64, Arc<Code>)> {
    let (function, code, _) = limited(client, function, geometry)?;
    Ok((function, code))
}

fn limited(client: &Client, function: CUfunction, geometry: Geometry) -> Answer<(u64, Arc<Code>, Limits)> {
    let (_, state) = client.contexts.current()?;
    let (function, code) = code_of(client, function)?;
    let device = client.devices.get(i32::try_from(state.device).map_err(|_| CUresult::INVALID_DEVICE)?)?;
    let limits = Limits::new(device, &code);
    limits.check(geometry)?;
    Ok((function, code, limits))
}

/// Whether a launch became a node because its stream captures.
pub fn captured(
    client: &Client,
    launch: &Launch,
    geometry: Geometry,
    attributes: Vec<LaunchAttribute>,
    parameters: &[u8],
) -> Answer<bool> {
    capture::record(client, launch.stream, || {
        let context = capture::context_of(client, launch.stream)?;
        let code = (launch.function, Arc::clone(&launch.code));
        Ok(Action::Kernel(KernelCall::new(code, context, geometry, attributes, parameters.to_vec())))
    })
}

/// The packed parameters of a launch.
///
/// Errors: `INVALID_VALUE` when they are missing, given twice, or too few.
///
/// # Safety
/// As for `cuLaunchKernel`: `values` is null or has a pointer per parameter, each to a value of its size;
/// `extra` is null or a list that ends with its end marker.
pub unsafe fn parameters(code: &Code, values: *mut *mut c_void, extra: *mut *mut c_void) -> Answer<Vec<u8>> {
    let length = code.parameter_bytes();
    match (values.is_null(), extra.is_null()) {
        (false, false) => Err(CUresult::INVALID_VALUE),
        (true, true) if length == 0 => Ok(Vec::new()),
        (true, true) => Err(CUresult::INVALID_VALUE),
        // SAFETY: the caller's promise.
        (false, true) => unsafe { pack(code, length, values) },
        // SAFETY: the caller's promise.
        (true, false) => unsafe { packed_by_program(length, extra) },
    }
}

/// # Safety
/// `values` has a pointer per parameter, each to a value of its size.
unsafe fn pack(code: &Code, length: usize, values: *mut *mut c_void) -> Answer<Vec<u8>> {
    let mut packed = vec![0; length];
    for (index, parameter) in code.parameters.iter().enumerate() {
        let offset = usize::try_from(parameter.offset).map_err(|_| CUresult::INVALID_VALUE)?;
        let size = usize::try_from(parameter.size).map_err(|_| CUresult::INVALID_VALUE)?;
        let place = packed.get_mut(offset..offset + size).ok_or(CUresult::INVALID_VALUE)?;
        // SAFETY: the array has an element for every parameter by the caller's promise.
        let value: *const u8 = unsafe { *values.add(index) }.cast();
        if value.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: `value` leads to `size` bytes by the caller's promise; `place` is as long.
        unsafe { std::ptr::copy_nonoverlapping(value, place.as_mut_ptr(), size) };
    }
    Ok(packed)
}

/// # Safety
/// `extra` is a list of markers and values that ends with its end marker.
unsafe fn packed_by_program(length: usize, extra: *mut *mut c_void) -> Answer<Vec<u8>> {
    let mut buffer: *const u8 = std::ptr::null();
    let mut size = 0;
    let mut position = 0;
    loop {
        // SAFETY: the list goes on until its end marker by the caller's promise.
        let marker = unsafe { *extra.add(position) }.addr();
        if marker == LAUNCH_PARAM_END {
            break;
        }
        // SAFETY: every marker but the end is followed by a value.
        let value = unsafe { *extra.add(position + 1) };
        match marker {
            LAUNCH_PARAM_BUFFER_POINTER => buffer = value.cast(),
            // SAFETY: the value of this marker is a pointer to a size.
            LAUNCH_PARAM_BUFFER_SIZE => size = unsafe { value.cast::<usize>().read() },
            _ => return Err(CUresult::INVALID_VALUE),
        }
        position += 2;
    }
    if buffer.is_null() || size < length || size > MAX_PARAMETER_BYTES {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the program says that its buffer has `size` bytes.
    Ok(unsafe { std::slice::from_raw_parts(buffer, size) }.to_vec())
}

/// The attributes of a launch, for the wire.
///
/// # Safety
/// `config.attrs` is null or has `config.numAttrs` elements.
pub unsafe fn attributes(config: &CUlaunchConfig) -> Answer<Vec<LaunchAttribute>> {
    let mut all = Vec::new();
    for position in 0..config.numAttrs as usize {
        if config.attrs.is_null() {
            return Err(CUresult::INVALID_VALUE);
        }
        // SAFETY: the array has `numAttrs` elements by the caller's promise.
        let attribute = unsafe { &*config.attrs.add(position) };
        if attribute.id == ATTRIBUTE_IGNORE {
            continue;
        }
        if !PLAIN_ATTRIBUTES.contains(&attribute.id) {
            crate::report::once(&format!(
                "launch attribute {} is not supported by Farpool yet",
                attribute.id
            ));
            return Err(CUresult::NOT_SUPPORTED);
        }
        // SAFETY: every value of the union is 64 plain bytes.
        let value = unsafe { std::mem::transmute_copy::<_, [u64; 8]>(&attribute.value) };
        all.push(LaunchAttribute { id: attribute.id, value });
    }
    Ok(all)
}
