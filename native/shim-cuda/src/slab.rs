//! Memory handed out by credit: the session's server has given *slabs*, and pieces of them are handed out here without
//! asking.
//!
//! A freed piece may still be in use by work that was queued before the free. It waits (*open*) until a fence is sent,
//! then (*fenced*) until the worker says that what was queued before that fence is done: in the piece's context, or, where it
//! was freed in the order of a stream, on that stream.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wire::handle::{Context, Stream};

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

/// Whose work a freed piece waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// That of a context.
    Context(Context),
    /// That of a stream, as it is used in a context: 0 is that one's legacy stream.
    Stream(Context, Stream),
}

impl Scope {
    fn context(self) -> Context {
        match self {
            Scope::Context(context) | Scope::Stream(context, _) => context,
        }
    }
}

/// Pieces that wait for the same, of the scope's context or of another one.
#[derive(Debug, Default)]
struct Waiting {
    pieces: Vec<(Context, Piece)>,
    bytes: u64,
}

#[derive(Debug)]
struct Fenced {
    scope: Scope,
    pieces: Vec<(Context, Piece)>,
    /// Streams may have waited for the program when it was sent.
    is_held: bool,
}

#[derive(Debug, Default)]
struct Table {
    rooms: HashMap<Context, Room>,
    open: HashMap<Scope, Waiting>,
    /// By number.
    fenced: BTreeMap<u64, Fenced>,
    last_fence: u64,
}

/// All slabs of this process.
#[derive(Debug, Default)]
pub struct Slabs {
    table: Mutex<Table>,
    refills: Mutex<HashMap<Context, Arc<Mutex<()>>>>,
    unsettled: Mutex<HashSet<Context>>,
    /// Held from when a fence gets its number until it is sent: a stream is destroyed behind its fences.
    pub fencing: Mutex<()>,
}

impl Slabs {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by the thread that asks for more for `context`, so that others wait for what it gets.
    pub fn refill(&self, context: Context) -> Arc<Mutex<()>> {
        let mut refills = self.refills.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(refills.entry(context).or_default())
    }

    /// Contexts of which the driver may still have something to free.
    pub fn unsettled(&self) -> MutexGuard<'_, HashSet<Context>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `length` bytes (a multiple of [`GRANULE`]) from the slabs of `context`.
    pub fn take(&self, context: Context, length: u64) -> Option<u64> {
        self.table().rooms.get_mut(&context)?.take(length)
    }

    /// Takes `length` bytes of what was freed in the order of a stream, for what comes behind on the same stream.
    pub fn take_behind(&self, context: Context, stream: Stream, length: u64) -> Option<u64> {
        let mut table = self.table();
        let table = &mut *table;
        let scope = Scope::Stream(context, stream);
        let open = table.open.get_mut(&scope).map(|waiting| (&mut waiting.pieces, Some(&mut waiting.bytes)));
        let fenced = table.fenced.values_mut().rev().filter(|fenced| fenced.scope == scope);
        for (pieces, bytes) in open.into_iter().chain(fenced.map(|fenced| (&mut fenced.pieces, None))) {
            let fits = |(owner, piece): &(Context, Piece)| *owner == context && piece.length >= length;
            let Some(index) = pieces.iter().rposition(fits) else { continue };
            let start = pieces[index].1.start;
            pieces[index].1 = Piece { start: start + length, length: pieces[index].1.length - length };
            if pieces[index].1.length == 0 {
                pieces.swap_remove(index);
            }
            if let Some(bytes) = bytes {
                *bytes -= length;
            }
            table.rooms.get_mut(&context)?.used_again(length);
            return Some(start);
        }
        None
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

    /// Notes a piece of `context` that was freed behind the work of `scope`. Answers whether it is time for a fence there, and
    /// what of the piece goes back at once, behind the work that may use it, because enough is unused already; nothing if
    /// everything is to be kept (`keeps_all`).
    pub fn free(
        &self,
        context: Context,
        scope: Scope,
        piece: Piece,
        keeps_all: bool,
    ) -> (bool, Option<Returned>) {
        let mut table = self.table();
        let Some(room) = table.rooms.get_mut(&context) else { return (false, None) };
        let (returned, rest) = match scope {
            Scope::Context(_) if !keeps_all => room.free(piece),
            _ => (None, room.free_in_order(piece)),
        };
        let open = table.open.entry(scope).or_default();
        for piece in rest.into_iter().filter(|piece| piece.length > 0) {
            open.pieces.push((context, piece));
            open.bytes += piece.length;
        }
        (open.bytes >= FENCE_BYTES || open.pieces.len() >= FENCE_PIECES, returned)
    }

    /// What pieces wait for without a fence.
    pub fn open(&self) -> Vec<Scope> {
        let table = self.table();
        table.open.iter().filter(|(_, open)| !open.pieces.is_empty()).map(|(scope, _)| *scope).collect()
    }

    /// The number of the next fence, which covers everything freed so far behind the work of `scope`. It must be sent afterwards;
    /// `is_held` says whether streams may wait for the program.
    pub fn fence(&self, scope: Scope, is_held: bool) -> u64 {
        let mut table = self.table();
        table.last_fence += 1;
        let number = table.last_fence;
        let pieces = table.open.remove(&scope).unwrap_or_default().pieces;
        if !pieces.is_empty() {
            table.fenced.insert(number, Fenced { scope, pieces, is_held });
        }
        number
    }

    /// The oldest fence that memory of `context`, or of any context on `device`, waits for and that the program may be made
    /// to wait for. Those behind frees in the order of a stream are none while streams may wait for the program (`is_held`),
    /// as CUDA waits for none; at all others CUDA has waited itself.
    pub fn oldest_fence(&self, of: Result<Context, usize>, is_held: bool) -> Option<u64> {
        let table = self.table();
        let concerns = |owner: &Context| match of {
            Ok(context) => *owner == context,
            Err(device) => table.rooms.get(owner).is_some_and(|room| room.device == device),
        };
        let found = table.fenced.iter().find(|(_, fenced)| {
            let may_wait = matches!(fenced.scope, Scope::Context(_)) || !(fenced.is_held && is_held);
            may_wait && fenced.pieces.iter().any(|(owner, _)| concerns(owner))
        });
        found.map(|(number, _)| *number)
    }

    /// Makes what waited for the fences that `reached` answers free again. Answers what is to be given back because too much
    /// is unused; nothing if everything is to be kept (`keeps_all`).
    pub fn collect(&self, keeps_all: bool, reached: impl FnOnce() -> Vec<u64>) -> Vec<Returned> {
        let mut table = self.table();
        let mut grown = Vec::new();
        // Under the lock: whoever finds that there are no news has what they brought.
        for number in reached() {
            let Some(fenced) = table.fenced.remove(&number) else { continue };
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
        for context in grown.into_iter().filter(|_| !keeps_all) {
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

    /// Bytes on `device` that a program may believe to be free.
    pub fn unused(&self, device: usize) -> u64 {
        let table = self.table();
        table.rooms.values().filter(|room| room.device == device).map(Room::unused).sum()
    }

    /// Forgets the slabs of a context that is being destroyed, and answers them, and the fences that will not be reached.
    pub fn forget_context(&self, context: Context) -> (Vec<Returned>, Vec<u64>) {
        self.unsettled().remove(&context);
        let mut table = self.table();
        let table = &mut *table;
        let pieces = table.open.values_mut().map(|open| &mut open.pieces);
        for pieces in pieces.chain(table.fenced.values_mut().map(|fenced| &mut fenced.pieces)) {
            pieces.retain(|(owner, _)| *owner != context);
        }
        // What others have freed behind its work waits for theirs instead: they may have used it, too.
        let (mut kept, mut rest): (HashMap<Scope, Waiting>, Vec<(Context, Piece)>) = Default::default();
        for (scope, mut open) in table.open.drain() {
            if scope.context() == context {
                rest.append(&mut open.pieces);
            } else {
                open.bytes = open.pieces.iter().map(|(_, piece)| piece.length).sum();
                kept.insert(scope, open);
            }
        }
        for (owner, piece) in rest {
            let open = kept.entry(Scope::Context(owner)).or_default();
            open.pieces.push((owner, piece));
            open.bytes += piece.length;
        }
        table.open = kept;
        let gone = table.fenced.iter().filter(|(_, fenced)| fenced.scope.context() == context);
        let gone = gone.map(|(number, _)| *number).collect();
        (table.rooms.remove(&context).unwrap_or_default().into_slabs(), gone)
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

    fn scope() -> Scope {
        Scope::Context(context())
    }

    fn reach(slabs: &Slabs, scope: Scope) -> Vec<Returned> {
        let fence = slabs.fence(scope, false);
        slabs.collect(false, || vec![fence])
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
        slabs.free(context(), scope(), Piece { start: whole, length: 4096 }, false);
        assert_eq!(slabs.unused(0), 4096, "the program believes it to be free");
        slabs.collect(false, Vec::new);
        assert_eq!(slabs.take(context(), GRANULE), None, "no fence was sent since the free");
        let fence = slabs.fence(scope(), false);
        slabs.collect(false, || vec![fence + 1]);
        assert_eq!(slabs.take(context(), GRANULE), None, "the fence was not reached");
        slabs.collect(false, || vec![fence]);
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
            slabs.free(context(), scope(), Piece { start, length: 512 }, false);
        }
        reach(&slabs, scope());
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
            slabs.free(context(), scope(), Piece { start, length: 4096 }, false);
        }
        assert_eq!(reach(&slabs, scope()).len(), 1);
        assert_eq!(slabs.give_back(1), [], "another device");
        assert_eq!(slabs.give_back(0).len(), 1);
    }

    #[test]
    fn a_destroyed_contexts_pieces_are_forgotten_wherever_they_wait() {
        let slabs = with_slab();
        let first = slabs.take(context(), 512).expect("room");
        slabs.free(context(), scope(), Piece { start: first, length: 512 }, false);
        let fence = slabs.fence(scope(), false);
        let second = slabs.take(context(), 512).expect("room");
        slabs.free(context(), scope(), Piece { start: second, length: 512 }, false);
        assert_eq!(slabs.forget_context(context()), (vec![(SLAB, Way::Whole)], vec![fence]));
        slabs.collect(false, || vec![fence]);
        reach(&slabs, scope());
        assert_eq!(slabs.take(context(), 512), None);
        assert_eq!(slabs.unused(0), 0);
    }

    #[test]
    fn what_was_freed_in_the_order_of_a_stream_is_used_again_on_the_same_one_without_its_fence() {
        let slabs = with_slab();
        let (one, other) = (Stream(5), Stream(6));
        let whole = slabs.take(context(), 4096).expect("a whole slab");
        slabs.free(context(), Scope::Stream(context(), one), Piece { start: whole, length: 4096 }, false);
        assert_eq!(slabs.take_behind(context(), other, 512), None, "another stream");
        assert_eq!(slabs.take_behind(context(), one, 512), Some(whole));
        let fence = slabs.fence(Scope::Stream(context(), one), true);
        assert_eq!(slabs.take_behind(context(), one, 4096), None, "too large");
        assert_eq!(slabs.take_behind(context(), one, 1024), Some(whole + 512));
        assert_eq!(slabs.kept(context()).1, 4096 - 1536, "what still waits");
        slabs.collect(false, || vec![fence]);
        assert_eq!(slabs.take(context(), 4096 - 1536), Some(whole + 1536));
    }

    #[test]
    fn nobody_waits_for_a_stream_that_may_wait_for_the_program() {
        let slabs = with_slab();
        let stream = Scope::Stream(context(), Stream(5));
        for scope in [stream, scope()] {
            let start = slabs.take(context(), 512).expect("room");
            slabs.free(context(), scope, Piece { start, length: 512 }, false);
        }
        let held = slabs.fence(stream, true);
        let own = slabs.fence(scope(), true);
        assert_eq!(slabs.oldest_fence(Ok(context()), false), Some(held));
        assert_eq!(slabs.oldest_fence(Ok(context()), true), Some(own), "CUDA has waited for it");
        assert_eq!(slabs.oldest_fence(Err(0), true), Some(own));
        assert_eq!(slabs.oldest_fence(Err(1), false), None, "another device");
    }

    #[test]
    fn what_is_freed_behind_a_context_that_goes_waits_for_its_own() {
        let slabs = with_slab();
        let gone = Context::from_index(2);
        let start = slabs.take(context(), 4096).expect("room");
        slabs.free(context(), Scope::Stream(gone, Stream(5)), Piece { start, length: 4096 }, false);
        slabs.forget_context(gone);
        assert_eq!(slabs.open(), [scope()]);
        reach(&slabs, scope());
        assert_eq!(slabs.take(context(), 4096), Some(start));
    }
}
