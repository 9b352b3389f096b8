//! Occupancy: for every usual block size at once, because programs try one after the other.

use wire::cuda::{self, BlockOccupancy};
use wire::{Reply as _, Request as _, Writer};

use super::Answer;
use super::launches::resolve_function;
use crate::worker::{Worker, address};

/// Threads of a warp, and of the largest block.
const WARP: usize = 32;
const LARGEST_BLOCK: i32 = 1024;

/// `cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags`
pub fn farpoolOccupancy(
    worker: &mut Worker,
    request: cuda::FarpoolOccupancy,
    reply: &mut Writer<'_>,
) -> Answer {
    let function = resolve_function(worker, cuda::FarpoolOccupancy::CALL, request.function)?;
    let ask = |threads| {
        let mut blocks = 0;
        // SAFETY: the function is alive, the place valid; the driver checks the numbers.
        let code = unsafe {
            worker.driver.cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
                &raw mut blocks,
                function,
                threads,
                address(request.dynamic_shared),
                request.flags,
            )
        };
        (code, blocks)
    };
    let (code, blocks) = ask(request.threads);
    let mut others = Vec::new();
    if code.is_success() {
        for threads in (0..=LARGEST_BLOCK).step_by(WARP).skip(1) {
            let (code, blocks) = ask(threads);
            if code.is_success() {
                others.push(BlockOccupancy { threads, blocks });
            }
        }
    }
    cuda::FarpoolOccupancyReply { blocks, others }.encode(reply);
    Ok(code)
}
