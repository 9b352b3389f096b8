//! Occupancy.

use cuda_abi::{CUfunction, CUoccupancyB2DSize, CUresult};

use crate::config::config;
use crate::guard::{exports, put};
use crate::module::function;
use crate::occupancy::{SHARED, SHARED_RESERVED, blocks_per_multiprocessor};

exports! {
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        numBlocks: *mut i32, func: CUfunction, blockSize: i32, dynamicSMemSize: usize,
    ) {
        let function = function(func)?;
        let threads = u64::try_from(blockSize).ok().filter(|threads| *threads > 0).ok_or(CUresult::INVALID_VALUE)?;
        let blocks = blocks_per_multiprocessor(function.kernel()?, threads, dynamicSMemSize as u64);
        put(numBlocks, i32::try_from(blocks).unwrap_or(0))
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        numBlocks: *mut i32, func: CUfunction, blockSize: i32, dynamicSMemSize: usize, flags: u32,
    ) {
        if flags & !1 != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        cuOccupancyMaxActiveBlocksPerMultiprocessor(numBlocks, func, blockSize, dynamicSMemSize).into_result()
    }

    fn cuOccupancyMaxPotentialBlockSize(
        minGridSize: *mut i32, blockSize: *mut i32, func: CUfunction,
        blockSizeToDynamicSMemSize: CUoccupancyB2DSize, dynamicSMemSize: usize, blockSizeLimit: i32,
    ) {
        let function = function(func)?;
        let kernel = function.kernel()?;
        let limit = kernel.max_threads.unwrap_or(1024).min(1024);
        let limit = u32::try_from(blockSizeLimit).ok().filter(|wanted| *wanted > 0).map_or(limit, |wanted| wanted.min(limit));
        let (mut best_threads, mut best_size, mut best_blocks) = (0, 0, 0);
        // From large to small, so that the largest block wins among equals.
        for size in (1..=limit.div_ceil(32)).rev().map(|warps| (warps * 32).min(limit)) {
            let dynamic = match blockSizeToDynamicSMemSize {
                Some(bytes_of) => bytes_of(i32::try_from(size).unwrap_or(0)),
                None => dynamicSMemSize,
            };
            let blocks = blocks_per_multiprocessor(kernel, u64::from(size), dynamic as u64);
            if blocks * u64::from(size) > best_threads {
                (best_threads, best_size, best_blocks) = (blocks * u64::from(size), size, blocks);
            }
        }
        let blocks = i32::try_from(best_blocks).unwrap_or(0);
        put(minGridSize, blocks * config().multiprocessors)?;
        put(blockSize, i32::try_from(best_size).unwrap_or(0))
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        minGridSize: *mut i32, blockSize: *mut i32, func: CUfunction,
        blockSizeToDynamicSMemSize: CUoccupancyB2DSize, dynamicSMemSize: usize, blockSizeLimit: i32, flags: u32,
    ) {
        if flags & !1 != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        cuOccupancyMaxPotentialBlockSize(
            minGridSize, blockSize, func, blockSizeToDynamicSMemSize, dynamicSMemSize, blockSizeLimit,
        )
        .into_result()
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(
        dynamicSmemSize: *mut usize, func: CUfunction, numBlocks: i32, blockSize: i32,
    ) {
        let function = function(func)?;
        let fixed = u64::from(function.kernel()?.static_shared_bytes);
        let blocks = u64::try_from(numBlocks).ok().filter(|blocks| *blocks > 0).ok_or(CUresult::INVALID_VALUE)?;
        if blockSize <= 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        let share = (SHARED / blocks / 128 * 128).saturating_sub(SHARED_RESERVED + fixed);
        put(dynamicSmemSize, share.min(48 << 10) as usize)
    }
}
