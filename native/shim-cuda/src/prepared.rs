//! The short way of launches, by far the most frequent calls: what a launch was checked against is remembered, per
//! thread, from launch to launch.

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cuda_abi::{CUfunction, CUstream};
use wire::handle::Context;

use crate::client::{Client, index_of};
use crate::context;
use crate::entry::Answer;
use crate::launch::{Geometry, Launch, Limits};
use crate::module::Code;
use crate::progress::Progress;

/// Launches that a thread remembers; a power of two.
const PLACES: usize = 32;

/// Bytes of a launch before its parameters.
const HEAD_BYTES: usize = 52;

/// Changes whenever something ends or changes that launches are checked against.
static EPOCH: AtomicU64 = AtomicU64::new(1);

#[derive(Debug)]
struct Prepared {
    epoch: u64,
    context: Context,
    function: usize,
    stream: usize,
    launch: Launch,
    limits: Limits,
    parameter_bytes: usize,
    progress: Arc<Progress>,
}

thread_local! {
    static PREPARED: RefCell<[Option<Prepared>; PLACES]> = const { RefCell::new([const { None }; PLACES]) };
}

/// Forgets what launches were checked against: something of it ended or changed.
pub fn forget() {
    EPOCH.fetch_add(1, Ordering::Release);
}

fn place(function: usize, stream: usize) -> usize {
    // Handles are numbers with their kind in the low bits.
    ((function >> 4) ^ (stream >> 4).wrapping_mul(7)) % PLACES
}

/// Remembers a launch that passed its checks.
pub fn remember(client: &Client, function: CUfunction, stream: CUstream, launch: Launch, limits: Limits) {
    let Some(context) = context::current() else { return };
    if client.context_of(Some(launch.stream)) != index_of(context) {
        return;
    }
    let prepared = Prepared {
        epoch: EPOCH.load(Ordering::Acquire),
        context,
        function: function.0,
        stream: stream.0,
        limits,
        parameter_bytes: launch.code.parameter_bytes(),
        progress: client.connection().timelines.of(index_of(context), launch.stream),
        launch,
    };
    let _ = PREPARED.try_with(|places| {
        if let Ok(mut places) = places.try_borrow_mut() {
            places[place(function.0, stream.0)] = Some(prepared);
        }
    });
}

/// Launches `function` as it was launched before; `None` when it must take the long way, which also finds out what
/// is wrong with a launch.
///
/// # Safety
/// As for `cuLaunchKernel`: `values` is null or has a pointer per parameter, each to a value of its size.
pub unsafe fn launch_again(
    client: &Client,
    function: CUfunction,
    geometry: Geometry,
    stream: CUstream,
    values: *mut *mut c_void,
) -> Option<Answer> {
    let context = context::current()?;
    PREPARED
        .try_with(|places| {
            let places = places.try_borrow().ok()?;
            let prepared = places[place(function.0, stream.0)].as_ref()?;
            if prepared.function != function.0
                || prepared.stream != stream.0
                || prepared.context != context
                || prepared.epoch != EPOCH.load(Ordering::Acquire)
                || !prepared.limits.allow(geometry)
            {
                return None;
            }
            let code = &*prepared.launch.code;
            // SAFETY: the caller's promise.
            if !unsafe { has_values(code, values) } {
                return None;
            }
            let posted = client.post_launch(index_of(context), &prepared.progress, |buffer| {
                buffer.reserve(HEAD_BYTES + prepared.parameter_bytes);
                buffer.extend_from_slice(&head(&prepared.launch, geometry, prepared.parameter_bytes));
                let start = buffer.len();
                buffer.resize(start + prepared.parameter_bytes, 0);
                // SAFETY: the caller's promise; every value was seen to be there.
                unsafe { pack(code, values, &mut buffer[start..]) };
            });
            Some(posted)
        })
        .ok()
        .flatten()
}

/// What stands before the parameters, as the wire's `CuLaunchKernel` has it.
fn head(launch: &Launch, geometry: Geometry, parameter_bytes: usize) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let numbers = [
        geometry.grid[0],
        geometry.grid[1],
        geometry.grid[2],
        geometry.block[0],
        geometry.block[1],
        geometry.block[2],
        geometry.shared_bytes,
    ];
    head[0..8].copy_from_slice(&launch.function.to_le_bytes());
    for (place, number) in head[8..36].chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    head[36..44].copy_from_slice(&launch.stream.0.to_le_bytes());
    head[44..52].copy_from_slice(&(parameter_bytes as u64).to_le_bytes());
    head
}

/// # Safety
/// `values` is null or has a pointer per parameter.
unsafe fn has_values(code: &Code, values: *mut *mut c_void) -> bool {
    if values.is_null() {
        return code.parameters.is_empty();
    }
    // SAFETY: the array has an element for every parameter by the caller's promise.
    (0..code.parameters.len()).all(|index| unsafe { !(*values.add(index)).is_null() })
}

/// # Safety
/// `values` has a pointer per parameter, each to a value of its size.
unsafe fn pack(code: &Code, values: *mut *mut c_void, packed: &mut [u8]) {
    for (index, parameter) in code.parameters.iter().enumerate() {
        let (Ok(offset), Ok(size)) = (usize::try_from(parameter.offset), usize::try_from(parameter.size))
        else {
            continue;
        };
        // The packed length is that of the parameter that ends last.
        let place = &mut packed[offset..offset + size];
        // SAFETY: the caller's promise; the place is as long as the value.
        unsafe {
            let value: *const u8 = (*values.add(index)).cast();
            std::ptr::copy_nonoverlapping(value, place.as_mut_ptr(), size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::cuda::{CuLaunchKernel, ParameterInfo};
    use wire::handle::Stream;
    use wire::{Request as _, Writer};

    #[test]
    fn the_short_way_writes_what_the_long_way_writes() {
        let parameters = vec![ParameterInfo { offset: 0, size: 8 }, ParameterInfo { offset: 16, size: 4 }];
        let code = Code::new(c"k", None, None, Vec::new(), parameters);
        let launch = Launch { function: 0x123, code: Arc::new(code), stream: Stream(0x456) };
        let geometry = Geometry { grid: [1, 2, 3], block: [4, 5, 6], shared_bytes: 7 };
        let (first, second) = (0x1122_3344_5566_7788_u64, 0x99aa_bbcc_u32);
        let mut values =
            [(&raw const first).cast_mut().cast::<c_void>(), (&raw const second).cast_mut().cast()];
        let mut short = head(&launch, geometry, 20).to_vec();
        short.resize(HEAD_BYTES + 20, 0);
        // SAFETY: both values are there.
        unsafe {
            assert!(has_values(&launch.code, values.as_mut_ptr()));
            pack(&launch.code, values.as_mut_ptr(), &mut short[HEAD_BYTES..]);
        }
        let mut packed = first.to_le_bytes().to_vec();
        packed.extend([0; 8]);
        packed.extend(second.to_le_bytes());
        let mut long = Vec::new();
        CuLaunchKernel {
            function: 0x123,
            grid_x: 1,
            grid_y: 2,
            grid_z: 3,
            block_x: 4,
            block_y: 5,
            block_z: 6,
            shared_bytes: 7,
            stream: Stream(0x456),
            parameters: &packed,
        }
        .encode(&mut Writer::new(&mut long));
        assert_eq!(short, long);
        values[1] = std::ptr::null_mut();
        // SAFETY: the array has an element per parameter.
        assert!(!unsafe { has_values(&launch.code, values.as_mut_ptr()) });
    }
}
