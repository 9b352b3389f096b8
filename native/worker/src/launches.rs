//! The short way of launches, by far the most frequent records: what a function and a stream stand for is remembered
//! from launch to launch.

use std::sync::Arc;

use cuda_abi::{CUfunction, CUresult};
use wire::cuda::CuLaunchKernel;
use wire::record::flags;
use wire::{Header, Reader, Request as _, WireError};

use crate::counters::Counters;
use crate::manual::Packed;
use crate::streams::StreamState;
use crate::worker::Worker;

/// Launches that are remembered; a power of two.
const PLACES: usize = 64;

/// What a launch stands for.
#[derive(Debug, Clone)]
struct Prepared {
    context: u32,
    function: u64,
    stream: u64,
    driver_function: CUfunction,
    state: Arc<StreamState>,
}

/// Launches that were resolved before.
#[derive(Debug)]
pub struct PreparedLaunches {
    places: Vec<Option<Prepared>>,
    /// The removals of handles at which all of this was right.
    removals: u64,
    packed: Packed,
}

impl Default for PreparedLaunches {
    fn default() -> Self {
        Self { places: vec![None; PLACES], removals: 0, packed: Packed::default() }
    }
}

fn place(function: u64, stream: u64) -> usize {
    // Handles are numbers with their kind in the low bits.
    let mixed = (function >> 4) ^ (stream >> 4).wrapping_mul(7);
    usize::try_from(mixed % PLACES as u64).unwrap_or(0)
}

impl PreparedLaunches {
    /// Remembers what a launch in `context` was resolved to.
    pub fn remember(
        &mut self,
        request: &CuLaunchKernel<'_>,
        context: u32,
        removals: u64,
        driver_function: CUfunction,
        state: &Arc<StreamState>,
    ) {
        if self.removals != removals {
            self.places.fill(None);
            self.removals = removals;
        }
        self.places[place(request.function, request.stream.0)] = Some(Prepared {
            context,
            function: request.function,
            stream: request.stream.0,
            driver_function,
            state: Arc::clone(state),
        });
    }
}

/// Launches what the record says if all of it is known and the stream takes it; `false` when nothing happened and
/// the record must take the long way.
pub fn launch_again(worker: &mut Worker, header: &Header, payload: &[u8]) -> Result<bool, WireError> {
    if header.flags & flags::WANTS_REPLY != 0 || !worker.is_in_context(header.context) {
        return Ok(false);
    }
    if worker.prepared.removals != worker.handles.removals() {
        return Ok(false);
    }
    let mut reader = Reader::new(payload);
    let request = CuLaunchKernel::decode(&mut reader);
    reader.finish(CuLaunchKernel::CALL)?;
    let prepared = worker.prepared.places[place(request.function, request.stream.0)].as_ref();
    let Some(prepared) = prepared.filter(|prepared| {
        prepared.function == request.function
            && prepared.stream == request.stream.0
            && prepared.context == header.context
            && prepared.state.gauge.is_open()
    }) else {
        return Ok(false);
    };
    let state = Arc::clone(&prepared.state);
    let function = prepared.driver_function;
    worker.number = header.sequence;
    let mut packed = std::mem::take(&mut worker.prepared.packed);
    packed.set(request.parameters);
    Counters::add(&worker.counters.kernel_launches, 1);
    // SAFETY: function and stream are alive: nothing was removed since they were resolved. `extra` is a well-formed
    // list whose buffer stays through the call. What the kernel does with its parameters happens on the GPU, inside
    // this client's own context.
    let code = unsafe {
        worker.driver.cuLaunchKernel(
            function,
            request.grid_x,
            request.grid_y,
            request.grid_z,
            request.block_x,
            request.block_y,
            request.block_z,
            request.shared_bytes,
            state.stream,
            std::ptr::null_mut(),
            packed.extra().as_mut_ptr(),
        )
    };
    worker.prepared.packed = packed;
    worker.streams.used(&state, header.sequence);
    worker.count_work(&state);
    if code != CUresult::SUCCESS {
        worker.outbox.failed(CuLaunchKernel::CALL, header.context, code.0);
    }
    Ok(true)
}
