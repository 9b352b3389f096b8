//! How many blocks fit on a multiprocessor, by the resources of an sm_80 part.

const WARPS: u64 = 64;
const BLOCKS: u64 = 32;
const REGISTERS: u64 = 65536;
/// Shared memory of a multiprocessor.
pub const SHARED: u64 = 164 << 10;
/// What every block takes beside its own.
pub const SHARED_RESERVED: u64 = ptx::RESERVED_SHARED_BYTES as u64;
const SHARED_GRANULE: u64 = 128;
const REGISTER_GRANULE: u64 = 256;

/// Blocks of `threads` threads with `dynamic` bytes of dynamic shared memory that run together.
pub fn blocks_per_multiprocessor(kernel: &ptx::Function, threads: u64, dynamic: u64) -> u64 {
    if threads == 0 || threads > u64::from(kernel.max_threads.unwrap_or(1024).min(1024)) {
        return 0;
    }
    let warps = threads.div_ceil(32);
    let registers = (u64::from(kernel.register_count.max(1)) * 32).next_multiple_of(REGISTER_GRANULE) * warps;
    let shared =
        (u64::from(kernel.static_shared_bytes) + dynamic + SHARED_RESERVED).next_multiple_of(SHARED_GRANULE);
    (WARPS / warps).min(BLOCKS).min(REGISTERS / registers).min(SHARED / shared)
}
