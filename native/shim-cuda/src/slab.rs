//! Memory handed out by credit: the session's server has given *slabs*, and pieces of them are handed out here without
//! asking.
//!
//! A freed piece may still be in use by work that was queued before the free. It waits (*open*) until a fence is sent,
//! then (*fenced*) until the worker says that everything queued before that fence is done.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wire::handle::Context;

pub use room::CHUNKS;
use room::Room;

mod room;

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

/// How a slab goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As a whole: it is an allocation of the driver's.
    Whole,
    /// In chunks of this many bytes: memory in the window. Its start is a multiple of it; the last chunk may be shorter.
    Chunks {
        /// Bytes of a chunk.
        chunk: u64,
        /// Pieces of any size are cut from it; else only those of many chunks.
        is_fine: bool,
    },
}

/// Memory that goes back, and how.
pub type Returned = (Piece, Way);

#[derive(Debug)]
struct Fenced {
    number: u64,
    pieces: Vec<(Context, Piece)>,
}

#[derive(Debug, Default)]
struct Table {
    rooms: HashMap<Context, Room>,
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
        self.table().rooms.get_mut(&context)?.take(length)
    }

    /// Notes a slab of `context` on `device`, where `keep` bytes may be unused.
    pub fn add(&self, context: Context, device: usize, keep: u64, (slab, way): Returned) {
        let mut table = self.table();
        let room = table.rooms.entry(context).or_default();
        (room.device, room.keep) = (device, keep);
        room.add(slab, way);
    }

    /// How many bytes `context` has in slabs.
    pub fn secured(&self, context: Context) -> u64 {
        self.table().rooms.get(&context).map_or(0, Room::secured)
    }

    /// How many of them are kept for it without being in use, and how many of these wait for fences.
    pub fn kept(&self, context: Context) -> (u64, u64) {
        self.table().rooms.get(&context).map_or((0, 0), |room| (room.kept(), room.waiting()))
    }

    /// Notes a freed piece. Answers whether it is time for a fence, and what of the piece goes back at once, behind the
    /// work that may use it, because enough is unused already.
    pub fn free(&self, context: Context, piece: Piece) -> (bool, Option<Returned>) {
        let mut table = self.table();
        let Some(room) = table.rooms.get_mut(&context) else { return (false, None) };
        let (returned, rest) = room.free(piece);
        for piece in rest.into_iter().filter(|piece| piece.length > 0) {
            table.open.push((context, piece));
            table.open_bytes += piece.length;
        }
        (table.open_bytes >= FENCE_BYTES || table.open.len() >= FENCE_PIECES, returned)
    }

    /// The number of the next fence, which covers everything freed so far. The fence must be sent afterwards.
    pub fn fence(&self) -> u64 {
        let mut table = self.table();
        table.last_fence += 1;
        let number = table.last_fence;
        table.open_bytes = 0;
        let pieces = std::mem::take(&mut table.open);
        if !pieces.is_empty() {
            table.fenced.push_back(Fenced { number, pieces });
        }
        number
    }

    /// The last fence whose number was given out.
    pub fn last_fence(&self) -> u64 {
        self.table().last_fence
    }

    /// Makes what waited for fences up to `reached` free again. Answers what is to be given back because too much is unused.
    pub fn collect(&self, reached: u64) -> Vec<Returned> {
        let mut table = self.table();
        let mut grown = Vec::new();
        while table.fenced.front().is_some_and(|fenced| fenced.number <= reached) {
            let Some(fenced) = table.fenced.pop_front() else { break };
            for (context, piece) in fenced.pieces {
                if let Some(room) = table.rooms.get_mut(&context) {
                    room.reached(piece);
                    if !grown.contains(&context) {
                        grown.push(context);
                    }
                }
            }
        }
        let mut given = Vec::new();
        for context in grown {
            given.extend(table.rooms.get_mut(&context).map(Room::give_back_excess).unwrap_or_default());
        }
        given
    }

    /// Takes everything on `device` out that is not in use and can go back.
    pub fn give_back(&self, device: usize) -> Vec<Returned> {
        let mut table = self.table();
        let rooms = table.rooms.values_mut().filter(|room| room.device == device);
        rooms.flat_map(|room| room.give_back(0)).collect()
    }

    /// Whether this process has slabs on `device`.
    pub fn any(&self, device: usize) -> bool {
        self.table().rooms.values().any(|room| room.device == device && room.secured() > 0)
    }

    /// Whether memory of `device` was freed that work may still use.
    pub fn is_any_waiting(&self, device: usize) -> bool {
        let table = self.table();
        table.rooms.values().any(|room| room.device == device && room.waiting() > 0)
    }

    /// Bytes on `device` that a program may believe to be free.
    pub fn unused(&self, device: usize) -> u64 {
        let table = self.table();
        table.rooms.values().filter(|room| room.device == device).map(Room::unused).sum()
    }

    /// Forgets the slabs of a context that is being destroyed, and answers them.
    pub fn forget_context(&self, context: Context) -> Vec<Returned> {
        let mut table = self.table();
        table.open.retain(|(owner, _)| *owner != context);
        table.open_bytes = table.open.iter().map(|(_, piece)| piece.length).sum();
        for fenced in &mut table.fenced {
            fenced.pieces.retain(|(owner, _)| *owner != context);
        }
        table.rooms.remove(&context).unwrap_or_default().into_slabs()
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
        slabs.add(context(), 0, SLAB.length, (SLAB, Way::Whole));
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
        let beside = Piece { start: SLAB.start + SLAB.length, length: 4096 };
        slabs.add(context(), 0, SLAB.length, (beside, Way::Whole));
        assert_eq!(slabs.take(context(), 8192), None);
        assert_eq!(slabs.give_back(0).len(), 2);
        assert_eq!(slabs.unused(0), 0);
    }

    #[test]
    fn what_is_unused_is_bounded_and_goes_when_memory_is_wanted() {
        let slabs = with_slab();
        slabs.add(context(), 0, 6000, (Piece { start: 0x20_0000, length: 4096 }, Way::Whole));
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
        assert_eq!(slabs.forget_context(context()), [(SLAB, Way::Whole)]);
        slabs.collect(fence);
        slabs.collect(slabs.fence());
        assert_eq!(slabs.take(context(), 512), None);
        assert_eq!(slabs.unused(0), 0);
    }
}
