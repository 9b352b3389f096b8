//! Device memory by credit: allocations are pieces of slabs that the session's server has given already, so that they
//! wait for nobody. More is asked for when there is no room: what is needed, and ahead of it the more the more the process
//! has. OUT_OF_MEMORY is answered only when what this process holds without using it was given back first.
//!
//! Slabs lie in the window, at addresses that this process chooses, and hold allocations of any size. Where there is no
//! window they are allocations of the driver's and hold small ones; large ones are asked for one by one.

use std::sync::PoisonError;

use cuda_abi::CUresult;
use wire::cuda;
use wire::handle::{Context, MemoryPool, Stream};

use crate::client::{Client, index_of};
use crate::entry::Answer;
use crate::memory::{Range, RangeKind};
use crate::reserve;
use crate::slab::{CHUNKS, GRANULE, Piece, Returned, Scope, Way};
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
    let piece = if is_piece { piece(client, (context, device), length, None)? } else { None };
    let (address, kind) = match piece {
        Some(address) => (address, RangeKind::Piece(None)),
        None => (secure(client, device, length, || ask(client, length))?, RangeKind::Device),
    };
    client.ranges.insert(address, size, kind, context, device);
    Ok(address)
}

/// Allocates `size` bytes of a device's default pool for work on `stream`, if they fit into a slab. Mostly they are there at
/// once, which is earlier than the order of streams asks for.
pub fn allocate_of_pool(
    client: &Client,
    (context, device): (Context, usize),
    size: u64,
    (pool, stream): (MemoryPool, Stream),
) -> Answer<Option<u64>> {
    let Some(length) = size.checked_next_multiple_of(GRANULE) else { return Ok(None) };
    if length > first_slab(client, device)? / PIECES {
        return Ok(None);
    }
    let address = piece(client, (context, device), length, Some(stream))?;
    if let Some(address) = address {
        client.pools.used(pool, length);
        client.ranges.insert(address, size, RangeKind::Piece(Some(pool)), context, device);
    }
    Ok(address)
}

/// Frees memory in the order of a stream of a context. A piece is handed out again when that stream is where it is now, or behind
/// it on the same one.
pub fn free_in_order(client: &Client, range: &Range, (context, stream): (Context, Stream)) -> Answer {
    if !matches!(range.kind, RangeKind::Piece(_)) {
        let memory = Piece { start: range.start, length: range.length };
        return give_back(client, (memory, Way::Whole), Some(range.context));
    }
    collect(client)?;
    let scope = Scope::Stream(context, stream);
    if free_piece(client, range, scope)? { send_fence(client, scope).map(drop) } else { Ok(()) }
}

/// Notes that a piece is free; `true` when it is time for a fence. Where enough is unused already, it goes back.
fn free_piece(client: &Client, range: &Range, scope: Scope) -> Answer<bool> {
    let length = range.length.next_multiple_of(GRANULE);
    if let RangeKind::Piece(Some(pool)) = range.kind {
        client.pools.unused(pool, length);
    }
    let piece = Piece { start: range.start, length };
    let (fence, returned) = client.slabs.free(range.context, scope, piece, keeps_all(client));
    if let Some(returned) = returned {
        give_back(client, returned, Some(range.context))?;
    }
    Ok(fence)
}

/// Frees what [`allocate`] gave; `range` is forgotten already.
pub fn free(client: &Client, range: &Range) -> Answer {
    let scope = Scope::Context(range.context);
    let mut fence = false;
    if matches!(range.kind, RangeKind::Piece(_)) {
        fence = free_piece(client, range, scope)?;
    } else {
        let memory = Piece { start: range.start, length: range.length };
        give_back(client, (memory, Way::Whole), Some(range.context))?;
    }
    // CUDA waits for the memory's context here, which a query would show.
    let connection = client.connection();
    connection.timelines.skipped(range.context.index()).context(connection.last_sent());
    if fence && !is_seen_to_wait(client) {
        return send_fence(client, scope).map(drop);
    }
    settle_if_seen(client, range.context)
}

/// Waits where CUDA waits for a context and a program could tell: copies under way write memory of this process, or
/// streams wait for its callbacks. Those of other contexts count, as its streams may wait for them.
pub fn settle_if_seen(client: &Client, context: Context) -> Answer {
    if is_seen_to_wait(client) { settle(client, context) } else { Ok(()) }
}

/// The same where CUDA waits for all contexts.
pub fn settle_all_if_seen(client: &Client) -> Answer {
    if is_seen_to_wait(client) {
        // All fences first: the contexts go on meanwhile.
        let contexts = client.own_contexts();
        let fences: Answer<Vec<u64>> =
            contexts.into_iter().map(|context| send_fence(client, Scope::Context(context))).collect();
        fences?.into_iter().try_for_each(|number| client.wait_for_fence(number))?;
    }
    Ok(())
}

fn is_seen_to_wait(client: &Client) -> bool {
    let connection = client.connection();
    connection.has_any_downloads() || connection.has_callbacks()
}

/// Notes that the driver frees or unloads something of a context when the GPU gets there, which from then on it might only
/// get to with the help of the program: see [`before_hold`].
pub fn driver_frees(client: &Client, context: Context) {
    client.slabs.unsettled().insert(context);
}

/// Before a stream is made to wait for the program: fences for what was freed before, and frees of the driver's, which may
/// wait for all streams, must not wait for that one. CUDA has waited for them already.
pub fn before_hold(client: &Client) -> Answer {
    /// Of the fence that waits for frees, too.
    const FREES: u32 = 2;
    send_fences(client)?;
    let unsettled = std::mem::take(&mut *client.slabs.unsettled());
    for context in unsettled {
        let number = send_fence_of_kind(client, Scope::Context(context), FREES)?;
        client.wait_for_fence(number)?;
    }
    Ok(())
}

/// Before a stream is destroyed: what was freed in its order has its fence on it.
pub fn before_stream_goes(client: &Client, stream: Stream) -> Answer {
    for scope in client.slabs.open() {
        if matches!(scope, Scope::Stream(_, of) if of == stream) {
            send_fence(client, scope)?;
        }
    }
    Ok(())
}

/// Bytes on `device` that this process holds and a program may believe to be free.
pub fn unused(client: &Client, device: usize) -> u64 {
    client.slabs.unused(device)
}

/// Waits until everything queued so far in a context is done.
fn settle(client: &Client, context: Context) -> Answer {
    let fence = send_fence(client, Scope::Context(context))?;
    client.wait_for_fence(fence)
}

/// Waits for some of the memory that was freed in a context, or on a device; `false` when there is none, or none that the
/// program may be made to wait for.
fn wait_for_freed(client: &Client, of: Result<Context, usize>) -> Answer<bool> {
    let Some(number) = client.slabs.oldest_fence(of, client.connection().has_callbacks()) else {
        return Ok(false);
    };
    client.wait_for_fence(number)?;
    collect(client)?;
    Ok(true)
}

/// A piece of a slab, which may be one that was freed in the order of `stream` when it is for work behind that; `None` when
/// slabs cannot hold it.
fn piece(
    client: &Client,
    (context, device): (Context, usize),
    length: u64,
    stream: Option<Stream>,
) -> Answer<Option<u64>> {
    collect(client)?;
    let take = || {
        let behind = || stream.and_then(|stream| client.slabs.take_behind(context, stream, length));
        client.slabs.take(context, length).or_else(behind)
    };
    if let Some(address) = take() {
        client.count_local();
        return Ok(Some(address));
    }
    while client.slabs.kept(context).1 >= kept(client, device)? / WAITING_SHARE {
        if !wait_for_freed(client, Ok(context))? {
            break;
        }
        if let Some(address) = take() {
            return Ok(Some(address));
        }
    }
    let place = (context, device);
    let asked = {
        let refill = client.slabs.refill(context);
        let _one_at_a_time = refill.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = client.slabs.take(context, length) {
            return Ok(Some(address));
        }
        match &client.window {
            Some(window) => in_window(client, window, place, length),
            None => in_new_slab(client, place, length),
        }
    };
    match asked {
        Err(CUresult::OUT_OF_MEMORY) => {}
        answer => return answer,
    }
    // Nobody else waits for this.
    send_fences(client)?;
    while wait_for_freed(client, Err(device))? {
        if let Some(address) = take() {
            return Ok(Some(address));
        }
    }
    if let Some(address) = take() {
        return Ok(Some(address));
    }
    let Some(window) = &client.window else { return Ok(None) };
    give_back_unused(client, device)?;
    let is_secured = secure_in(client, window, place, length, 0)?;
    Ok(if is_secured { client.slabs.take(context, length) } else { None })
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
    let is_secured = secure_in(client, window, (context, device), length, ahead)?;
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
    let start = until_free_here(client, size, &|| ask(client, size))?;
    let slab = (Piece { start, length: size }, Way::Whole);
    client.slabs.add(context, device, kept(client, device)?, slab);
    Ok(client.slabs.take(context, length))
}

/// Makes an allocation of `length` bytes on `device`, which `ask` asks for and which answers with its address, until its
/// addresses are free in this process too. Before OUT_OF_MEMORY is answered, what this process holds unused goes back.
pub fn secure(client: &Client, device: usize, length: u64, ask: impl Fn() -> Answer<u64>) -> Answer<u64> {
    match until_free_here(client, length, &ask) {
        Err(CUresult::OUT_OF_MEMORY) if client.slabs.any(device) => {}
        answer => return answer,
    }
    send_fences(client)?;
    while wait_for_freed(client, Err(device))? {}
    give_back_unused(client, device)?;
    until_free_here(client, length, &ask)
}

fn give_back_unused(client: &Client, device: usize) -> Answer {
    client.slabs.give_back(device).into_iter().try_for_each(|returned| give_back(client, returned, None))
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

/// Gives memory back that nobody uses any more, or, behind the work there, the context that is given.
fn give_back(client: &Client, (memory, way): Returned, user: Option<Context>) -> Answer {
    let context = user.map_or(0, index_of);
    match (way, &client.window) {
        (Way::Chunks { .. }, Some(window)) => {
            let request = cuda::FarpoolGiveBack { address: memory.start, size: memory.length, context };
            client.post_in(0, &request)?;
            window.rest(memory.start, memory.length);
            if let Some(user) = user {
                driver_frees(client, user);
            }
            Ok(())
        }
        _ => {
            reserve::give(memory.start, memory.length);
            if let Some(user) = user {
                driver_frees(client, user);
            }
            client.post_in(context, &cuda::CuMemFreeV2 { address: memory.start })
        }
    }
}

/// What becomes of the addresses of a context's slabs when it is destroyed, with all its memory: those of the driver's
/// are free, those of the window are answered, for [`Client::context_destroyed`], and its fences.
pub fn forget_context(client: &Client, context: Context) -> (Vec<Piece>, Vec<u64>) {
    let mut in_window = Vec::new();
    let (slabs, fences) = client.slabs.forget_context(context);
    for (slab, way) in slabs {
        match way {
            Way::Chunks { .. } => in_window.push(slab),
            Way::Whole => reserve::give(slab.start, slab.length),
        }
    }
    (in_window, fences)
}

/// Sends a fence behind what is under way in `scope`; answers its number.
pub fn send_fence(client: &Client, scope: Scope) -> Answer<u64> {
    send_fence_of_kind(client, scope, if matches!(scope, Scope::Stream(..)) { 1 } else { 0 })
}

fn send_fence_of_kind(client: &Client, scope: Scope, kind: u32) -> Answer<u64> {
    let connection = client.connection();
    let _one_at_a_time = client.slabs.fencing.lock().unwrap_or_else(PoisonError::into_inner);
    let number = client.slabs.fence(scope, connection.has_callbacks());
    let (context, stream) = match scope {
        Scope::Context(context) => (context, 0),
        Scope::Stream(context, stream) => (context, stream.0),
    };
    connection.fences.sent(number);
    client.post_in(0, &cuda::FarpoolFence { number, context: index_of(context), kind, stream })?;
    Ok(number)
}

/// Sends fences for all that was freed and has none.
fn send_fences(client: &Client) -> Answer {
    client.slabs.open().into_iter().try_for_each(|scope| send_fence(client, scope).map(drop))
}

/// Whether memory is kept however much it is: a driver may wait for all streams before it takes memory back, and some may
/// wait for this process.
fn keeps_all(client: &Client) -> bool {
    client.connection().has_callbacks()
}

/// Takes notice of what is free by now.
pub fn collect(client: &Client) -> Answer {
    let fences = &client.connection().fences;
    if !fences.has_news() {
        return Ok(());
    }
    let returned = client.slabs.collect(keeps_all(client), || fences.take_news());
    returned.into_iter().try_for_each(|returned| give_back(client, returned, None))
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
