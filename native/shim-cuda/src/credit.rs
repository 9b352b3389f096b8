//! Device memory by credit: allocations are pieces of slabs that the session's server has given already, so that they
//! wait for nobody. More is asked for when there is no room: what is needed, and ahead of it the more the more the process
//! has. OUT_OF_MEMORY is answered only when what this process holds without using it was given back first.
//!
//! Slabs lie in the window, at addresses that this process chooses, and hold allocations of any size. Where there is no
//! window they are allocations of the driver's and hold small ones; large ones are asked for one by one.

use std::sync::PoisonError;

use cuda_abi::CUresult;
use wire::cuda;
use wire::handle::{Context, MemoryPool};

use crate::client::Client;
use crate::entry::Answer;
use crate::memory::{Range, RangeKind};
use crate::reserve;
use crate::slab::{CHUNKS, GRANULE, Piece, Returned, Way};
use crate::window::Window;

/// Bytes of a context's first slab.
const FIRST_SLAB: u64 = 32 << 20;

/// No first slab is more than this part of the memory that the session has on the GPU…
const FIRST_SHARE: u64 = 16;

/// …and no other slab in the window holds more than these bytes ahead of what is needed now, nor more than may be
/// unused…
const MOST_AHEAD: u64 = 512 << 20;

/// …and without a window more than this part, unless the first one is.
const LARGEST_SHARE: u64 = 256;

/// Each slab in the window is so many times as large as all before it.
const GROWTH: u64 = 2;

/// Memory of a context that is not in use and is kept nevertheless: this part of the session's memory on the GPU, at most
/// these bytes. It is enough for a program to free and allocate what it works with, over and over, without a wait, and
/// little beside what the other processes of the session have.
const KEPT_SHARE: u64 = 16;
const MOST_KEPT: u64 = 1 << 30;

/// When freed memory that waits for the GPU is this part of what is kept, an allocation for which there is no room waits,
/// too, instead of taking more. So the memory that a loop of allocations and frees goes through is kept as a whole.
const WAITING_SHARE: u64 = 2;

/// Slabs are multiples of what a GPU's page tables map at once.
const PAGE: u64 = 2 << 20;

/// Without a window, a slab holds at least this many pieces; what is larger is allocated by itself. The same bounds the
/// memory of pools that is pieces.
const PIECES: u64 = 8;

/// Allocates `size` bytes in `context` on `device` and notes the range.
pub fn allocate(client: &Client, context: Context, device: usize, size: u64) -> Answer<u64> {
    let total = total_memory(client, device)?;
    let length = size.checked_next_multiple_of(GRANULE).filter(|length| *length <= total);
    let length = length.ok_or(CUresult::OUT_OF_MEMORY)?;
    let is_piece = client.window.is_some() || length <= first_slab(client, device)? / PIECES;
    let piece = if is_piece { piece(client, context, device, length)? } else { None };
    let (address, kind) = match piece {
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
    if length > first_slab(client, device)? / PIECES {
        return Ok(None);
    }
    let address = piece(client, context, device, length)?;
    if let Some(address) = address {
        client.pools.used(pool, length);
        client.ranges.insert(address, size, RangeKind::Piece(Some(pool)), context, device);
    }
    Ok(address)
}

/// Frees a piece in the order of a stream: it is handed out again when all streams are where they are now.
pub fn free_in_order(client: &Client, range: &Range) -> Answer {
    if free_piece(client, range)? { send_fence(client).map(drop) } else { Ok(()) }
}

/// Notes that a piece is free; `true` when it is time for a fence. Where enough is unused already, it goes back.
fn free_piece(client: &Client, range: &Range) -> Answer<bool> {
    let length = range.length.next_multiple_of(GRANULE);
    if let RangeKind::Piece(Some(pool)) = range.kind {
        client.pools.unused(pool, length);
    }
    let (fence, returned) = client.slabs.free(range.context, Piece { start: range.start, length });
    if let Some(returned) = returned {
        give_back(client, returned)?;
    }
    Ok(fence)
}

/// Frees what [`allocate`] gave; `range` is forgotten already.
pub fn free(client: &Client, range: &Range) -> Answer {
    let mut fence = false;
    if matches!(range.kind, RangeKind::Piece(_)) {
        fence = free_piece(client, range)?;
    } else {
        give_back(client, (Piece { start: range.start, length: range.length }, Way::Whole))?;
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

/// Before memory of `device` is refused: waits for what was freed there, if anything was. Else nothing would come of it.
fn settle_freed(client: &Client, device: usize) -> Answer {
    if client.slabs.is_any_waiting(device) {
        settle(client)?;
    }
    collect(client)
}

/// Waits until everything queued so far is done.
fn settle(client: &Client) -> Answer {
    let fence = send_fence(client)?;
    client.wait_for_fence(fence)
}

/// A piece of a slab; `None` when slabs cannot hold it.
fn piece(client: &Client, context: Context, device: usize, length: u64) -> Answer<Option<u64>> {
    collect(client)?;
    if let Some(address) = client.slabs.take(context, length) {
        client.count_local();
        return Ok(Some(address));
    }
    let _one_at_a_time = client.slabs.refill.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(address) = client.slabs.take(context, length) {
        return Ok(Some(address));
    }
    if client.slabs.kept(context).1 >= kept(client, device)? / WAITING_SHARE {
        client.wait_for_fence(client.slabs.last_fence())?;
        collect(client)?;
        if let Some(address) = client.slabs.take(context, length) {
            return Ok(Some(address));
        }
    }
    match &client.window {
        Some(window) => in_window(client, window, (context, device), length),
        None => in_new_slab(client, (context, device), length),
    }
}

/// A piece of a new slab in the window; `None` when all its addresses are in use.
fn in_window(
    client: &Client,
    window: &Window,
    (context, device): (Context, usize),
    length: u64,
) -> Answer<Option<u64>> {
    let kept = kept(client, device)?;
    let first = first_slab(client, device)?;
    let ahead = (client.slabs.secured(context) * GROWTH).clamp(first, kept.min(MOST_AHEAD).max(first));
    let ahead = ahead.min(kept.saturating_sub(client.slabs.kept(context).0));
    match secure_in(client, window, (context, device), length, ahead) {
        Err(CUresult::OUT_OF_MEMORY) => {}
        Ok(false) => return Ok(None),
        answer => return answer.map(|_| client.slabs.take(context, length)),
    }
    settle_freed(client, device)?;
    if let Some(address) = client.slabs.take(context, length) {
        return Ok(Some(address));
    }
    for returned in client.slabs.give_back(device) {
        give_back(client, returned)?;
    }
    let is_secured = secure_in(client, window, (context, device), length, 0)?;
    Ok(if is_secured { client.slabs.take(context, length) } else { None })
}

/// Asks for a slab in the window that holds `length` bytes, and is `ahead` bytes long if that is more. Answers whether
/// there were addresses for it.
fn secure_in(
    client: &Client,
    window: &Window,
    (context, device): (Context, usize),
    length: u64,
    ahead: u64,
) -> Answer<bool> {
    let page = window.granularity();
    let needed = length.checked_next_multiple_of(page).ok_or(CUresult::OUT_OF_MEMORY)?;
    let chunk = chunk_of(needed, page);
    let is_fine = chunk == page;
    let ahead = if is_fine { ahead / page * page } else { 0 };
    let place = |wanted| window.take(wanted, chunk).map(|address| (address, wanted));
    let Some((address, wanted)) = place(needed.max(ahead)).or_else(|| place(needed)) else {
        return Ok(false);
    };
    let (code, reply) = client.call_with_code(&cuda::FarpoolSecure { address, needed, wanted, chunk })?;
    if !code.is_success() {
        window.give(address, wanted);
        return Err(code);
    }
    if reply.size < needed || reply.size > wanted || !reply.size.is_multiple_of(page) {
        // Nobody knows what lies there; the addresses are never used again.
        return Err(CUresult::UNKNOWN);
    }
    window.give(address + reply.size, wanted - reply.size);
    let slab = Piece { start: address, length: reply.size };
    client.slabs.add(context, device, kept(client, device)?, (slab, Way::Chunks { chunk, is_fine }));
    Ok(true)
}

/// Bytes of the chunks of a slab for `needed` bytes: little ones can go back whatever lies beside them, and each costs the
/// server three calls of its driver.
fn chunk_of(needed: u64, page: u64) -> u64 {
    match needed / CHUNKS {
        0 => page,
        part => (1 << part.ilog2()).max(page),
    }
}

/// A piece of a new slab that the driver allocates; `None` when there is no room for one.
fn in_new_slab(client: &Client, (context, device): (Context, usize), length: u64) -> Answer<Option<u64>> {
    let (first, total) = (first_slab(client, device)?, total_memory(client, device)?);
    let largest = (total / LARGEST_SHARE).max(first);
    let size = (client.slabs.secured(context) + first).clamp(first, largest) / PAGE * PAGE;
    match until_free_here(client, size, &|| ask(client, size)) {
        Ok(start) => {
            let slab = (Piece { start, length: size }, Way::Whole);
            client.slabs.add(context, device, kept(client, device)?, slab);
            Ok(client.slabs.take(context, length))
        }
        Err(CUresult::OUT_OF_MEMORY) => {
            settle_freed(client, device)?;
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
    settle_freed(client, device)?;
    for returned in client.slabs.give_back(device) {
        give_back(client, returned)?;
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

fn give_back(client: &Client, (memory, way): Returned) -> Answer {
    match (way, &client.window) {
        (Way::Chunks { .. }, Some(window)) => {
            client.post_anywhere(&cuda::FarpoolGiveBack { address: memory.start, size: memory.length })?;
            window.give(memory.start, memory.length);
            Ok(())
        }
        _ => {
            reserve::give(memory.start, memory.length);
            client.post(&cuda::CuMemFreeV2 { address: memory.start })
        }
    }
}

/// What becomes of the addresses of a context's slabs when it is destroyed, with all its memory: those of the driver's
/// are free, those of the window are answered, for [`Client::context_destroyed`].
pub fn forget_context(client: &Client, context: Context) -> Vec<Piece> {
    let mut in_window = Vec::new();
    for (slab, way) in client.slabs.forget_context(context) {
        match way {
            Way::Chunks { .. } => in_window.push(slab),
            Way::Whole => reserve::give(slab.start, slab.length),
        }
    }
    in_window
}

fn send_fence(client: &Client) -> Answer<u64> {
    let number = client.slabs.fence();
    client.post_anywhere(&cuda::FarpoolFence { number })?;
    Ok(number)
}

fn collect(client: &Client) -> Answer {
    for returned in client.slabs.collect(client.connection().reached_fence()) {
        give_back(client, returned)?;
    }
    Ok(())
}

fn first_slab(client: &Client, device: usize) -> Answer<u64> {
    let share = total_memory(client, device)? / FIRST_SHARE / PAGE * PAGE;
    Ok(FIRST_SLAB.min(share).max(PAGE))
}

/// Bytes of a context that may be unused.
fn kept(client: &Client, device: usize) -> Answer<u64> {
    Ok((total_memory(client, device)? / KEPT_SHARE).clamp(PAGE, MOST_KEPT))
}

fn total_memory(client: &Client, device: usize) -> Answer<u64> {
    let device = i32::try_from(device).map_err(|_| CUresult::INVALID_DEVICE)?;
    Ok(client.devices.get(device)?.snapshot.total_memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_with_what_is_needed() {
        assert_eq!(chunk_of(PAGE, PAGE), PAGE);
        assert_eq!(chunk_of(255 << 20, PAGE), PAGE);
        assert_eq!(chunk_of(256 << 20, PAGE), 4 << 20);
        assert_eq!(chunk_of(10 << 30, PAGE), 128 << 20);
        for needed in (1..2000u64).map(|pages| pages * 9 * PAGE) {
            let chunk = chunk_of(needed, PAGE);
            assert!(needed.div_ceil(chunk) <= 2 * CHUNKS, "{needed} bytes in {chunk}");
            assert!(chunk == PAGE || needed >= chunk * CHUNKS, "{needed} bytes in {chunk}");
        }
    }
}
