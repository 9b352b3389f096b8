//! Device memory: small allocations come from slabs that the session's server has given already, so that they wait for
//! nobody; large ones are asked for. OUT_OF_MEMORY is answered only when what this process holds without using it was
//! given back first.

use std::sync::PoisonError;

use cuda_abi::CUresult;
use wire::cuda;
use wire::handle::{Context, MemoryPool};

use crate::client::Client;
use crate::entry::Answer;
use crate::memory::{Range, RangeKind};
use crate::reserve;
use crate::slab::{GRANULE, Piece};

/// Bytes of a context's first slab; each further one is twice as large, up to [`LARGEST_SHARE`].
const FIRST_SLAB: u64 = 32 << 20;

/// No first slab is more than this part of the memory that the session has on the GPU…
const FIRST_SHARE: u64 = 16;

/// …and no other slab more than this, unless the first one is.
const LARGEST_SHARE: u64 = 256;

/// Slabs are multiples of what a GPU's page tables map at once.
const PAGE: u64 = 2 << 20;

/// A slab holds at least this many pieces; what is larger is allocated by itself.
const PIECES: u64 = 8;

/// Freed memory, in first slabs, that a context lets wait for the GPU before it waits too instead of taking more.
const WAITING_SLABS: u64 = 2;

/// Allocates `size` bytes in `context` on `device` and notes the range.
pub fn allocate(client: &Client, context: Context, device: usize, size: u64) -> Answer<u64> {
    let total = total_memory(client, device)?;
    let length = size.checked_next_multiple_of(GRANULE).filter(|length| *length <= total);
    let length = length.ok_or(CUresult::OUT_OF_MEMORY)?;
    let (address, kind) = match small(client, context, device, length)? {
        Some(address) => (address, RangeKind::Piece(None)),
        None => (secure(client, device, length, || ask(client, length))?, RangeKind::Device),
    };
    client.ranges.insert(address, size, kind, context, device);
    Ok(address)
}

/// Allocates `size` bytes of a device's default pool, if they fit into a slab. They are there at once, which is earlier
/// than the order of streams asks for.
pub fn allocate_of_pool(
    client: &Client,
    context: Context,
    device: usize,
    size: u64,
    pool: MemoryPool,
) -> Answer<Option<u64>> {
    let Some(length) = size.checked_next_multiple_of(GRANULE) else { return Ok(None) };
    let address = small(client, context, device, length)?;
    if let Some(address) = address {
        client.pools.used(pool, length);
        client.ranges.insert(address, size, RangeKind::Piece(Some(pool)), context, device);
    }
    Ok(address)
}

/// Frees a piece in the order of a stream: it is handed out again when all streams are where they are now.
pub fn free_in_order(client: &Client, range: &Range) -> Answer {
    if free_piece(client, range) { send_fence(client).map(drop) } else { Ok(()) }
}

/// Notes that a piece is free; `true` when it is time for a fence.
fn free_piece(client: &Client, range: &Range) -> bool {
    let length = range.length.next_multiple_of(GRANULE);
    if let RangeKind::Piece(Some(pool)) = range.kind {
        client.pools.unused(pool, length);
    }
    client.slabs.free(range.context, Piece { start: range.start, length })
}

/// Frees what [`allocate`] gave; `range` is forgotten already.
pub fn free(client: &Client, range: &Range) -> Answer {
    let mut fence = false;
    if matches!(range.kind, RangeKind::Piece(_)) {
        fence = free_piece(client, range);
    } else {
        give_back(client, Piece { start: range.start, length: range.length })?;
    }
    // CUDA waits for the GPU here, which a query would show.
    let connection = client.connection();
    connection.timelines.skipped(range.context.index()).context(connection.last_sent());
    if fence && !is_seen_to_wait(client) {
        return send_fence(client).map(drop);
    }
    settle_if_seen(client)
}

/// Waits where CUDA waits for the GPU and a program could tell: copies under way write memory of this process, or
/// streams wait for its callbacks.
pub fn settle_if_seen(client: &Client) -> Answer {
    if is_seen_to_wait(client) { settle(client) } else { Ok(()) }
}

fn is_seen_to_wait(client: &Client) -> bool {
    let connection = client.connection();
    connection.has_any_downloads() || connection.has_callbacks()
}

/// Bytes on `device` that this process holds and a program may believe to be free.
pub fn unused(client: &Client, device: usize) -> u64 {
    client.slabs.unused(device)
}

/// Waits until everything queued so far is done.
fn settle(client: &Client) -> Answer {
    let fence = send_fence(client)?;
    client.wait_for_fence(fence)
}

/// A piece of a slab; `None` for what is too large, or when there is no room for another slab.
fn small(client: &Client, context: Context, device: usize, length: u64) -> Answer<Option<u64>> {
    let first = first_slab(client, device)?;
    if length > first / PIECES {
        return Ok(None);
    }
    collect(client)?;
    if let Some(address) = client.slabs.take(context, length) {
        client.count_local();
        return Ok(Some(address));
    }
    let _one_at_a_time = client.slabs.refill.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(address) = client.slabs.take(context, length) {
        return Ok(Some(address));
    }
    let (count, waiting) = client.slabs.state(context);
    if waiting >= WAITING_SLABS * first {
        client.wait_for_fence(client.slabs.last_fence())?;
        collect(client)?;
        if let Some(address) = client.slabs.take(context, length) {
            return Ok(Some(address));
        }
    }
    let largest = (total_memory(client, device)? / LARGEST_SHARE).max(first);
    let doubled = u32::try_from(count).ok().and_then(|count| first.checked_shl(count));
    let size = doubled.unwrap_or(largest).clamp(first, largest) / PAGE * PAGE;
    match until_free_here(client, size, &|| ask(client, size)) {
        Ok(start) => {
            client.slabs.add(context, device, Piece { start, length: size });
            Ok(client.slabs.take(context, length))
        }
        Err(CUresult::OUT_OF_MEMORY) => {
            settle(client)?;
            collect(client)?;
            Ok(client.slabs.take(context, length))
        }
        Err(code) => Err(code),
    }
}

/// Makes an allocation of `length` bytes on `device`, which `ask` asks for and which answers with its address, until its
/// addresses are free in this process too. Before OUT_OF_MEMORY is answered, what this process holds unused goes back.
pub fn secure(client: &Client, device: usize, length: u64, ask: impl Fn() -> Answer<u64>) -> Answer<u64> {
    match until_free_here(client, length, &ask) {
        Err(CUresult::OUT_OF_MEMORY) if client.slabs.any(device) => {}
        answer => return answer,
    }
    settle(client)?;
    collect(client)?;
    for slab in client.slabs.give_back(device) {
        give_back(client, slab)?;
    }
    until_free_here(client, length, &ask)
}

/// Asks for memory until its addresses are free in this process too; what lies elsewhere goes back.
fn until_free_here(client: &Client, length: u64, ask: &impl Fn() -> Answer<u64>) -> Answer<u64> {
    /// Tries before this process is taken to be full.
    const TRIES: usize = 16;
    let mut colliding = Vec::new();
    let mut answer = Err(CUresult::OUT_OF_MEMORY);
    for _ in 0..TRIES {
        match ask() {
            Ok(address) if reserve::take(address, length) => {
                answer = Ok(address);
                break;
            }
            Ok(address) => colliding.push(address),
            Err(code) => {
                answer = Err(code);
                break;
            }
        }
    }
    for address in colliding {
        client.post(&cuda::CuMemFreeV2 { address })?;
    }
    answer
}

fn ask(client: &Client, size: u64) -> Answer<u64> {
    client.call(&cuda::CuMemAllocV2 { size }).map(|reply| reply.address)
}

fn give_back(client: &Client, memory: Piece) -> Answer {
    reserve::give(memory.start, memory.length);
    client.post(&cuda::CuMemFreeV2 { address: memory.start })
}

fn send_fence(client: &Client) -> Answer<u64> {
    let number = client.slabs.fence();
    client.post_anywhere(&cuda::FarpoolFence { number })?;
    Ok(number)
}

fn collect(client: &Client) -> Answer {
    for slab in client.slabs.collect(client.connection().reached_fence()) {
        give_back(client, slab)?;
    }
    Ok(())
}

fn first_slab(client: &Client, device: usize) -> Answer<u64> {
    let share = total_memory(client, device)? / FIRST_SHARE / PAGE * PAGE;
    Ok(FIRST_SLAB.min(share).max(PAGE))
}

fn total_memory(client: &Client, device: usize) -> Answer<u64> {
    let device = i32::try_from(device).map_err(|_| CUresult::INVALID_DEVICE)?;
    Ok(client.devices.get(device)?.snapshot.total_memory)
}
