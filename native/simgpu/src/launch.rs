//! Launches: checked at once, executed when the stream gets there.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cuda_abi::{CUfunction, CUresult};
use ptx::{Fault, FaultKind, MemoryRange};

use crate::capture;
use crate::config::{config, log, say};
use crate::context::Context;
use crate::graph::action::{Action, KernelCall};
use crate::guard::{self, Answer};
use crate::memory::{self, Kind};
use crate::module::{self, Function, MAX_SHARED, Module};
use crate::stream::{Stream, Work, with_signals_blocked};
use crate::virtual_memory;

/// The shape of a launch.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    pub cooperative: bool,
}

/// What the parameter buffers' list in `extra` holds.
const EXTRA_END: usize = 0;
const EXTRA_BUFFER: usize = 1;
const EXTRA_SIZE: usize = 2;

/// Packs the parameters that the program points to.
///
/// # Errors
/// INVALID_VALUE when there are too few, or when they are given in both ways.
///
/// # Safety
/// `parameters` is null or has one pointer per parameter; `extra` is null or a list as `cuLaunchKernel` takes it.
pub unsafe fn pack(
    function: &ptx::Function,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Answer<Vec<u8>> {
    if !parameters.is_null() && !extra.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    let length = function.params.iter().map(|param| param.offset + param.size).max().unwrap_or(0) as usize;
    let mut packed = vec![0; length];
    if length == 0 {
        return Ok(packed);
    }
    if !parameters.is_null() {
        for (index, param) in function.params.iter().enumerate() {
            // SAFETY: the caller promises one pointer per parameter.
            let source = unsafe { parameters.add(index).read() };
            if source.is_null() {
                return Err(CUresult::INVALID_VALUE);
            }
            // SAFETY: each pointer leads to a value of the parameter's size.
            let value = unsafe { std::slice::from_raw_parts(source.cast::<u8>(), param.size as usize) };
            packed[param.offset as usize..][..value.len()].copy_from_slice(value);
        }
        return Ok(packed);
    }
    if extra.is_null() {
        return Err(CUresult::INVALID_VALUE);
    }
    let (mut buffer, mut size) = (std::ptr::null::<u8>(), 0);
    let mut at = extra;
    loop {
        // SAFETY: the list goes on until its end mark.
        let key = unsafe { at.read() }.addr();
        if key == EXTRA_END {
            break;
        }
        // SAFETY: every key but the end mark is followed by a value.
        let value = unsafe { at.add(1).read() };
        match key {
            EXTRA_BUFFER => buffer = value.cast(),
            // SAFETY: the value leads to a size.
            EXTRA_SIZE => size = unsafe { value.cast::<usize>().read() },
            _ => return Err(CUresult::INVALID_VALUE),
        }
        // SAFETY: as above.
        at = unsafe { at.add(2) };
    }
    if buffer.is_null() || size < length {
        return Err(CUresult::INVALID_VALUE);
    }
    // SAFETY: the program says that the buffer has `size` bytes, which are enough.
    packed.copy_from_slice(unsafe { std::slice::from_raw_parts(buffer, length) });
    Ok(packed)
}

/// Checks what CUDA checks at the call.
///
/// # Errors
/// INVALID_VALUE, LAUNCH_OUT_OF_RESOURCES, COOPERATIVE_LAUNCH_TOO_LARGE.
pub fn check(function: &Function, kernel: &ptx::Function, shape: &Shape) -> Answer {
    const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];
    const MAX_GRID: [u32; 3] = [0x7fff_ffff, 65535, 65535];
    let fits = |sizes: [u32; 3], limits: [u32; 3]| {
        sizes.iter().zip(limits).all(|(size, limit)| (1..=limit).contains(size))
    };
    let threads = shape.block.iter().map(|size| u64::from(*size)).product::<u64>();
    if !fits(shape.block, MAX_BLOCK) || !fits(shape.grid, MAX_GRID) || threads > 1024 {
        return Err(CUresult::INVALID_VALUE);
    }
    if kernel.required_threads.is_some_and(|required| required != shape.block) {
        return Err(CUresult::INVALID_VALUE);
    }
    if kernel.max_threads.is_some_and(|limit| threads > u64::from(limit)) {
        return Err(CUresult::LAUNCH_OUT_OF_RESOURCES);
    }
    if i64::from(shape.shared_bytes) > i64::from(function.max_dynamic_shared())
        || i64::from(shape.shared_bytes) + i64::from(kernel.static_shared_bytes) > i64::from(MAX_SHARED)
    {
        return Err(CUresult::INVALID_VALUE);
    }
    if shape.cooperative {
        let blocks = shape.grid.iter().map(|size| u64::from(*size)).product::<u64>();
        let per = crate::occupancy::blocks_per_multiprocessor(kernel, threads, u64::from(shape.shared_bytes));
        if blocks > per * config().multiprocessors as u64 {
            return Err(CUresult::COOPERATIVE_LAUNCH_TOO_LARGE);
        }
    }
    Ok(())
}

/// Queues a launch.
///
/// # Errors
/// INVALID_VALUE, LAUNCH_OUT_OF_RESOURCES, COOPERATIVE_LAUNCH_TOO_LARGE, NOT_SUPPORTED: at once and not sticky.
///
/// # Safety
/// As for [`pack`].
pub unsafe fn launch(
    handle: CUfunction,
    stream: &Arc<Stream>,
    shape: Shape,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> Answer {
    let function = &module::function(handle)?;
    let kernel = function.kernel()?;
    if function.context_id() != stream.context.id {
        return Err(CUresult::INVALID_HANDLE);
    }
    check(function, kernel, &shape)?;
    // SAFETY: the caller promises it.
    let parameters = unsafe { pack(kernel, parameters, extra) }?;
    let captured =
        || KernelCall::new(Arc::clone(function), handle.0, shape, parameters.clone()).map(Action::Kernel);
    if capture::record(stream, captured)? {
        return Ok(());
    }
    if let Some(duration) = config().null_kernel {
        busy_for(config().null_launch);
        if duration.is_zero() && stream.pass(|| {}) {
            return Ok(());
        }
        stream.submit_launch(Work::Run(Box::new(move |_| {
            busy_for(duration);
            Ok(())
        })));
        return Ok(());
    }
    let function = Arc::clone(function);
    stream
        .submit_launch(Work::Run(Box::new(move |context| execute(context, &function, &shape, &parameters))));
    Ok(())
}

/// Passes time; sleeping is too coarse for the times in question.
fn busy_for(duration: Duration) {
    if duration > Duration::from_millis(1) {
        std::thread::sleep(duration);
    } else if !duration.is_zero() {
        let begin = Instant::now();
        while begin.elapsed() < duration {
            std::hint::spin_loop();
        }
    }
}

/// Runs a launch of a graph: it was checked when its node was made.
///
/// # Errors
/// The error that ends the context.
pub fn run(context: &Arc<Context>, function: &Function, shape: &Shape, parameters: &[u8]) -> Answer {
    match config().null_kernel {
        Some(duration) => {
            busy_for(duration);
            Ok(())
        }
        // A node of another device's context works with that device's memory.
        None if function.context_id() != context.id => {
            execute(&function.module.context, function, shape, parameters)
        }
        None => execute(context, function, shape, parameters),
    }
}

fn execute(context: &Arc<Context>, function: &Function, shape: &Shape, parameters: &[u8]) -> Answer {
    let kernel = function.kernel()?;
    let device = Gpu { context, module: &function.module };
    let launch = ptx::LaunchConfig {
        grid: shape.grid,
        block: shape.block,
        dynamic_shared_bytes: shape.shared_bytes,
        params: parameters,
        cooperative: shape.cooperative,
        max_workers: config().workers,
    };
    let code = &function.module.code;
    let compiled = code.compiled.get(function.index).filter(|_| !config().interpreter && !config().races);
    let result = match compiled {
        Some(compiled) => {
            let result = compiled.launch(&code.ptx, kernel, &launch, &device);
            compiled.take_refusals().iter().for_each(|error| log(|| format!("interpreted: {error}")));
            result
        }
        None if config().races => {
            let mut races = ptx::Races::default();
            let result = ptx::launch_watched(&code.ptx, kernel, &launch, &device, &mut races);
            tell(kernel, &races);
            result
        }
        None => ptx::launch(&code.ptx, kernel, &launch, &device),
    };
    match result {
        Ok(_) => Ok(()),
        Err(fault) => {
            log(|| fault.to_string());
            Err(report(context, &fault))
        }
    }
}

fn tell(kernel: &ptx::Function, races: &ptx::Races) {
    races.shown.iter().for_each(|race| say(&race.to_string()));
    if races.accesses > races.shown.len() as u64 {
        say(&format!("races in kernel {}: {} accesses in all", kernel.name, races.accesses));
    }
}

/// The code that a fault has in CUDA; a failed assertion also leaves its sentence.
fn report(context: &Context, fault: &Fault) -> CUresult {
    match &fault.kind {
        FaultKind::IllegalAddress { .. } => CUresult::ILLEGAL_ADDRESS,
        FaultKind::MisalignedAddress { .. } => CUresult::MISALIGNED_ADDRESS,
        FaultKind::IllegalInstruction => CUresult::ILLEGAL_INSTRUCTION,
        FaultKind::InvalidPc { .. } => CUresult::INVALID_PC,
        FaultKind::StackOverflow => CUresult::HARDWARE_STACK_ERROR,
        FaultKind::Deadlock { .. } => CUresult::LAUNCH_TIMEOUT,
        FaultKind::Unsupported(_) => CUresult::NOT_SUPPORTED,
        FaultKind::Assert { message, file, line, function } => {
            let ([bx, by, bz], [tx, ty, tz]) = (fault.block, fault.thread);
            context.output.complain(
                format!(
                    "{file}:{line}: {function}: block: [{bx},{by},{bz}], thread: [{tx},{ty},{tz}] \
                     Assertion `{message}` failed.\n"
                )
                .as_bytes(),
            );
            CUresult::ASSERT
        }
        _ => CUresult::LAUNCH_FAILED,
    }
}

/// The device as a running kernel sees it.
struct Gpu<'a> {
    context: &'a Arc<Context>,
    module: &'a Module,
}

// SAFETY: ranges come from the map of live allocations. Device memory stays mapped for the life of the process;
// pinned and registered host memory is withdrawn only after all work of all contexts is done. Starts of
// allocations are multiples of 512, those of host memory of the page.
unsafe impl ptx::Device for Gpu<'_> {
    fn range(&self, address: u64) -> Option<MemoryRange> {
        let allocation = memory::find_for_kernel(address)?;
        let reachable = match allocation.kind {
            Kind::Mapped => {
                let (start, end, writable) = virtual_memory::reach(address, self.context.device.ordinal)?;
                return Some(MemoryRange { start, end, writable });
            }
            Kind::Device | Kind::Variable | Kind::DeviceHeap => {
                self.context.reaches(allocation.device, allocation.context_id)
            }
            Kind::Managed | Kind::Pinned | Kind::Registered => true,
        };
        let (start, end) = allocation.kernel_range();
        reachable.then_some(MemoryRange { start, end, writable: true })
    }

    fn nearest(&self, address: u64) -> Option<MemoryRange> {
        let (start, end) = memory::nearest(address)?.kernel_range();
        Some(MemoryRange { start, end, writable: true })
    }

    fn generation(&self) -> u64 {
        memory::generation()
    }

    fn variable_address(&self, index: usize) -> u64 {
        self.module.variable_address(index)
    }

    fn printf(&self, text: &[u8]) {
        self.context.output.print(text);
    }

    fn cancelled(&self) -> bool {
        guard::is_exiting()
    }

    fn while_spawning(&self, spawn: &mut dyn FnMut()) {
        with_signals_blocked(spawn);
    }

    fn malloc(&self, size: u64) -> u64 {
        let limit = crate::device::lock(&self.context.limits)
            .get(&cuda_abi::CU_LIMIT_MALLOC_HEAP_SIZE)
            .copied()
            .unwrap_or(0) as u64;
        let used = self.context.device_heap_used.load(Ordering::Relaxed);
        if size == 0 || used.saturating_add(size) > limit {
            return 0;
        }
        match memory::allocate(self.context, size, Kind::DeviceHeap, 0, None) {
            Ok(allocation) => {
                self.context.device_heap_used.fetch_add(size, Ordering::Relaxed);
                allocation.start
            }
            Err(_) => 0,
        }
    }

    fn free(&self, address: u64) -> bool {
        let size = memory::find(address).map_or(0, |allocation| allocation.size);
        let freed = memory::free_device_heap(address);
        if freed {
            self.context.device_heap_used.fetch_sub(size, Ordering::Relaxed);
        }
        freed
    }
}
