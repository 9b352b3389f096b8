//! Memory handed out by credit: the session's server has given *slabs*, and pieces of them are handed out here without
//! asking.
//!
//! A freed piece may still be in use by work that was queued before the free. It waits (*open*) until a fence is sent,
//! then (*fenced*) until the worker says that everything queued before that fence is done.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wire::handle::Context;

/// Pieces begin and end at multiples of this, as a driver's allocations do.
pub const GRANULE: u64 = 512;

/// Freed bytes after which a fence is sent: little enough that what is freed comes back soon.
const FENCE_BYTES: u64 = 1 << 20;

/// Freed pieces after which a fence is sent.
const FENCE_PIECES: usize = 64;

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// The slabs of one context.
#[derive(Debug, Default)]
struct Pool {
    device: usize,
    /// Bytes by first address.
    slabs: BTreeMap<u64, u64>,
    free: BTreeMap<u64, u64>,
    /// The same as (bytes, first address), to find the smallest that fits.
    by_size: BTreeSet<(u64, u64)>,
    /// Freed bytes that wait for a fence which was sent.
    fenced_bytes: u64,
}

#[derive(Debug)]
struct Fenced {
    number: u64,
    pieces: Vec<(Context, Piece)>,
}

#[derive(Debug, Default)]
struct Table {
    pools: HashMap<Context, Pool>,
    open: Vec<(Context, Piece)>,
    open_bytes: u64,
    fenced: VecDeque<Fenced>,
    last_fence: u64,
}

/// All slabs of this process.
#[derive(Debug, Default)]
pub struct Slabs {
    table: Mutex<Table>,
    /// Held by the thread that asks for more, so that others wait for what it gets.
    pub refill: Mutex<()>,
}

impl Slabs {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `length` bytes (a multiple of [`GRANULE`]) from the slabs of `context`.
    pub fn take(&self, context: Context, length: u64) -> Option<u64> {
        self.table().pools.get_mut(&context)?.take(length)
    }

    /// Notes a slab of `context` on `device`.
    pub fn add(&self, context: Context, device: usize, slab: Piece) {
        let mut table = self.table();
        let pool = table.pools.entry(context).or_default();
        pool.device = device;
        pool.slabs.insert(slab.start, slab.length);
        pool.insert_free(slab);
    }

    /// How many slabs `context` has, and how many freed bytes of them wait for fences.
    pub fn state(&self, context: Context) -> (usize, u64) {
        self.table().pools.get(&context).map_or((0, 0), |pool| (pool.slabs.len(), pool.fenced_bytes))
    }

    /// Notes a freed piece; `true` when it is time for a fence.
    pub fn free(&self, context: Context, piece: Piece) -> bool {
        let mut table = self.table();
        table.open.push((context, piece));
        table.open_bytes += piece.length;
        table.open_bytes >= FENCE_BYTES || table.open.len() >= FENCE_PIECES
    }

    /// The number of the next fence, which covers everything freed so far. The fence must be sent afterwards.
    pub fn fence(&self) -> u64 {
        let mut table = self.table();
        table.last_fence += 1;
        let number = table.last_fence;
        table.open_bytes = 0;
        let pieces = std::mem::take(&mut table.open);
        for (context, piece) in &pieces {
            if let Some(pool) = table.pools.get_mut(context) {
                pool.fenced_bytes += piece.length;
            }
        }
        if !pieces.is_empty() {
            table.fenced.push_back(Fenced { number, pieces });
        }
        number
    }

    /// The last fence whose number was given out.
    pub fn last_fence(&self) -> u64 {
        self.table().last_fence
    }

    /// Makes what waited for fences up to `reached` free again. Answers slabs to give back: a context keeps one that
    /// is not in use.
    pub fn collect(&self, reached: u64) -> Vec<Piece> {
        let mut table = self.table();
        let mut idle = Vec::new();
        while table.fenced.front().is_some_and(|fenced| fenced.number <= reached) {
            let Some(fenced) = table.fenced.pop_front() else { break };
            for (context, piece) in fenced.pieces {
                if let Some(pool) = table.pools.get_mut(&context) {
                    pool.fenced_bytes -= piece.length;
                    pool.insert_free(piece);
                    if !idle.contains(&context) {
                        idle.push(context);
                    }
                }
            }
        }
        let mut given = Vec::new();
        for context in idle {
            given.extend(table.pools.get_mut(&context).map(|pool| pool.give_back(1)).unwrap_or_default());
        }
        given
    }

    /// Takes the slabs on `device` that are not in use out, to be given back.
    pub fn give_back(&self, device: usize) -> Vec<Piece> {
        let mut table = self.table();
        let pools = table.pools.values_mut().filter(|pool| pool.device == device);
        pools.flat_map(|pool| pool.give_back(0)).collect()
    }

    /// Whether this process has slabs on `device`.
    pub fn any(&self, device: usize) -> bool {
        self.table().pools.values().any(|pool| pool.device == device && !pool.slabs.is_empty())
    }

    /// Bytes on `device` that a program may believe to be free.
    pub fn unused(&self, device: usize) -> u64 {
        let table = self.table();
        let waiting = table
            .open
            .iter()
            .filter(|(context, _)| table.pools.get(context).is_some_and(|pool| pool.device == device));
        let waiting: u64 = waiting.map(|(_, piece)| piece.length).sum();
        let pools = table.pools.values().filter(|pool| pool.device == device);
        waiting + pools.map(|pool| pool.fenced_bytes + pool.free.values().sum::<u64>()).sum::<u64>()
    }

    /// Forgets the slabs of a context that is being destroyed, and answers them.
    pub fn forget_context(&self, context: Context) -> Vec<Piece> {
        let mut table = self.table();
        table.open.retain(|(owner, _)| *owner != context);
        table.open_bytes = table.open.iter().map(|(_, piece)| piece.length).sum();
        for fenced in &mut table.fenced {
            fenced.pieces.retain(|(owner, _)| *owner != context);
        }
        let gone = table.pools.remove(&context).unwrap_or_default();
        gone.slabs.into_iter().map(|(start, length)| Piece { start, length }).collect()
    }
}

impl Pool {
    fn take(&mut self, length: u64) -> Option<u64> {
        let (bytes, start) = *self.by_size.range((length, 0)..).next()?;
        self.remove_free(start, bytes);
        if bytes > length {
            self.put_free(start + length, bytes - length);
        }
        Some(start)
    }

    /// Adds a free piece and joins it with its neighbours of the same slab.
    fn insert_free(&mut self, piece: Piece) {
        let (mut start, mut end) = (piece.start, piece.start + piece.length);
        let slab = self.slabs.range(..=start).next_back().map(|(start, length)| (*start, start + length));
        let (first, last) = slab.unwrap_or((start, end));
        if let Some((before, bytes)) = self.free.range(..start).next_back().map(|(at, bytes)| (*at, *bytes))
            && before + bytes == start
            && before >= first
        {
            self.remove_free(before, bytes);
            start = before;
        }
        if end < last
            && let Some(bytes) = self.free.get(&end).copied()
        {
            self.remove_free(end, bytes);
            end += bytes;
        }
        self.put_free(start, end - start);
    }

    /// Takes out slabs that are wholly free, all but `kept` of them.
    fn give_back(&mut self, kept: usize) -> Vec<Piece> {
        let whole = |(start, length): (&u64, &u64)| self.free.get(start) == Some(length);
        let idle: Vec<Piece> = self
            .slabs
            .iter()
            .filter(|slab| whole(*slab))
            .map(|(start, length)| Piece { start: *start, length: *length })
            .skip(kept)
            .collect();
        for slab in &idle {
            self.slabs.remove(&slab.start);
            self.remove_free(slab.start, slab.length);
        }
        idle
    }

    fn put_free(&mut self, start: u64, bytes: u64) {
        self.free.insert(start, bytes);
        self.by_size.insert((bytes, start));
    }

    fn remove_free(&mut self, start: u64, bytes: u64) {
        self.free.remove(&start);
        self.by_size.remove(&(bytes, start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::handle::Handle;

    const SLAB: Piece = Piece { start: 0x10_0000, length: 4096 };

    fn context() -> Context {
        Context::from_index(1)
    }

    fn with_slab() -> Slabs {
        let slabs = Slabs::default();
        slabs.add(context(), 0, SLAB);
        slabs
    }

    #[test]
    fn a_freed_piece_is_handed_out_again_only_behind_its_fence() {
        let slabs = with_slab();
        let whole = slabs.take(context(), 4096).expect("a whole slab");
        assert_eq!(slabs.take(context(), GRANULE), None);
        slabs.free(context(), Piece { start: whole, length: 4096 });
        assert_eq!(slabs.unused(0), 4096, "the program believes it to be free");
        slabs.collect(u64::MAX);
        assert_eq!(slabs.take(context(), GRANULE), None, "no fence was sent since the free");
        let fence = slabs.fence();
        slabs.collect(fence - 1);
        assert_eq!(slabs.take(context(), GRANULE), None, "the fence was not reached");
        slabs.collect(fence);
        assert_eq!(slabs.take(context(), 4096), Some(whole));
    }

    #[test]
    fn pieces_never_overlap_and_join_again() {
        let slabs = with_slab();
        let mut pieces: Vec<u64> =
            (0..8).map(|_| slabs.take(context(), 512).expect("room for eight")).collect();
        pieces.sort_unstable();
        assert_eq!(pieces, (0..8).map(|index| SLAB.start + 512 * index).collect::<Vec<_>>());
        for start in [pieces[3], pieces[5], pieces[4], pieces[0]] {
            slabs.free(context(), Piece { start, length: 512 });
        }
        slabs.collect(slabs.fence());
        assert_eq!(slabs.take(context(), 1536), Some(pieces[3]), "three neighbours are one piece");
        assert_eq!(slabs.take(context(), 1024), None);
        assert_eq!(slabs.take(context(), 512), Some(pieces[0]));
    }

    #[test]
    fn slabs_side_by_side_stay_apart() {
        let slabs = with_slab();
        slabs.add(context(), 0, Piece { start: SLAB.start + SLAB.length, length: 4096 });
        assert_eq!(slabs.take(context(), 8192), None);
        assert_eq!(slabs.give_back(0).len(), 2);
        assert_eq!(slabs.unused(0), 0);
    }

    #[test]
    fn one_slab_without_use_is_kept_until_memory_is_wanted() {
        let slabs = with_slab();
        slabs.add(context(), 0, Piece { start: 0x20_0000, length: 4096 });
        let pieces: Vec<u64> = (0..2).filter_map(|_| slabs.take(context(), 4096)).collect();
        for start in pieces {
            slabs.free(context(), Piece { start, length: 4096 });
        }
        assert_eq!(slabs.collect(slabs.fence()).len(), 1);
        assert_eq!(slabs.give_back(1), [], "another device");
        assert_eq!(slabs.give_back(0).len(), 1);
    }

    #[test]
    fn a_destroyed_contexts_pieces_are_forgotten_wherever_they_wait() {
        let slabs = with_slab();
        let first = slabs.take(context(), 512).expect("room");
        slabs.free(context(), Piece { start: first, length: 512 });
        let fence = slabs.fence();
        let second = slabs.take(context(), 512).expect("room");
        slabs.free(context(), Piece { start: second, length: 512 });
        assert_eq!(slabs.forget_context(context()), [SLAB]);
        slabs.collect(fence);
        slabs.collect(slabs.fence());
        assert_eq!(slabs.take(context(), 512), None);
        assert_eq!(slabs.unused(0), 0);
    }
}
