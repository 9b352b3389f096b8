//! The slabs of one context, and which parts of them are free.

use std::collections::{BTreeMap, BTreeSet};

use super::{Piece, Returned, Way};

/// Pieces of a slab whose chunks are large are at least so many chunks: as its last chunk may be used in part, a piece
/// holds less than this part more than its own.
pub const CHUNKS: u64 = 64;

#[derive(Debug, Clone, Copy)]
struct Slab {
    length: u64,
    way: Way,
}

/// The slabs of one context.
#[derive(Debug, Default)]
pub struct Room {
    /// The device that they are on.
    pub device: usize,
    /// Unused bytes beyond which memory goes back.
    pub keep: u64,
    slabs: BTreeMap<u64, Slab>,
    free: BTreeMap<u64, u64>,
    /// The same as (bytes, first address), to find the smallest that fits.
    by_size: BTreeSet<(u64, u64)>,
    free_bytes: u64,
    /// Those of them that can go back: whole chunks.
    returnable: u64,
    /// Freed bytes that wait for fences.
    waiting: u64,
}

impl Room {
    /// Bytes of all slabs.
    pub fn secured(&self) -> u64 {
        self.slabs.values().map(|slab| slab.length).sum()
    }

    /// Bytes that a program may believe to be free.
    pub fn unused(&self) -> u64 {
        self.free_bytes + self.waiting
    }

    /// Those of them that are kept for the program, and not only because something in use lies beside them.
    pub fn kept(&self) -> u64 {
        self.returnable + self.waiting
    }

    /// Those of them that wait for fences.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Takes a freed piece: what of it goes back at once, and what waits for a fence.
    pub fn free(&mut self, piece: Piece) -> (Option<Returned>, [Piece; 2]) {
        let whole = if self.kept() + piece.length > self.keep {
            self.returnable(piece.start, piece.length, piece.length)
        } else {
            None
        };
        let whole = whole.filter(|(_, way)| *way != Way::Whole);
        let end = piece.start + piece.length;
        let (from, to) = whole.map_or((end, end), |(part, _)| (part.start, part.start + part.length));
        if let Some((part, _)) = whole {
            self.cut(part);
        }
        let rest =
            [Piece { start: piece.start, length: from - piece.start }, Piece { start: to, length: end - to }];
        self.waiting += rest[0].length + rest[1].length;
        (whole, rest)
    }

    /// Takes a piece that was freed in the order of a stream, all of which waits: what goes back at once goes behind the work
    /// of its context.
    pub fn free_in_order(&mut self, piece: Piece) -> [Piece; 2] {
        self.waiting += piece.length;
        [piece, Piece { start: piece.start, length: 0 }]
    }

    /// Bytes that wait are in use again.
    pub fn used_again(&mut self, length: u64) {
        self.waiting -= length;
    }

    /// A piece has waited for its fence.
    pub fn reached(&mut self, piece: Piece) {
        self.waiting -= piece.length;
        self.insert_free(piece);
    }

    /// All slabs.
    pub fn into_slabs(self) -> Vec<Returned> {
        let piece = |(start, slab): (u64, Slab)| (Piece { start, length: slab.length }, slab.way);
        self.slabs.into_iter().map(piece).collect()
    }

    /// Adds a slab, which is free. One that lies beside another of the same kind becomes one with it.
    pub fn add(&mut self, piece: Piece, way: Way) {
        let mut slab = (piece.start, Slab { length: piece.length, way });
        if let Way::Chunks { chunk, .. } = way {
            let belongs = |other: &Slab| other.way == way;
            if let Some((start, before)) = self.slabs.range(..piece.start).next_back()
                && start + before.length == piece.start
                && before.length.is_multiple_of(chunk)
                && belongs(before)
            {
                slab = (*start, Slab { length: before.length + piece.length, way });
            }
            let end = piece.start + piece.length;
            if let Some(after) = self.slabs.get(&end).copied().filter(belongs)
                && piece.length.is_multiple_of(chunk)
            {
                self.slabs.remove(&end);
                slab.1.length += after.length;
            }
        }
        self.slabs.insert(slab.0, slab.1);
        self.insert_free(piece);
    }

    /// Takes `length` bytes.
    pub fn take(&mut self, length: u64) -> Option<u64> {
        let (bytes, start, at) = self.by_size.range((length, 0)..).find_map(|(bytes, start)| {
            let at = self.place(*start, length).filter(|at| at + length <= start + bytes)?;
            Some((*bytes, *start, at))
        })?;
        self.remove_free(start, bytes);
        self.put_free(start, at - start);
        self.put_free(at + length, start + bytes - (at + length));
        Some(at)
    }

    /// Where `length` bytes of a free range that begins at `start` would begin. What is as large as a chunk shares none with
    /// what is before it, so that its chunks can go back when it is freed.
    fn place(&self, start: u64, length: u64) -> Option<u64> {
        let (_, slab) = self.slabs.range(..=start).next_back()?;
        match slab.way {
            Way::Whole => Some(start),
            Way::Chunks { chunk, is_fine } if is_fine || length >= chunk * CHUNKS => {
                if length >= chunk {
                    start.checked_next_multiple_of(chunk)
                } else {
                    Some(start)
                }
            }
            Way::Chunks { .. } => None,
        }
    }

    /// Adds a free piece and joins it with its neighbours of the same slab.
    fn insert_free(&mut self, piece: Piece) {
        let (mut start, mut end) = (piece.start, piece.start + piece.length);
        let slab = self.slabs.range(..=start).next_back().map(|(start, slab)| (*start, start + slab.length));
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

    /// Takes out what is more than [`Room::keep`] allows, and a quarter more, so that this does not happen at each free.
    pub fn give_back_excess(&mut self) -> Vec<Returned> {
        if self.returnable > self.keep { self.give_back(self.keep / 4 * 3) } else { Vec::new() }
    }

    /// Takes free memory out until no more than `keep` bytes are left that could go back.
    pub fn give_back(&mut self, keep: u64) -> Vec<Returned> {
        let mut given = Vec::new();
        let largest_first: Vec<(u64, u64)> = self.by_size.iter().rev().copied().collect();
        for (bytes, start) in largest_first {
            if self.returnable <= keep {
                break;
            }
            let Some((part, way)) = self.returnable(start, bytes, self.returnable - keep) else { continue };
            let part_end = part.start + part.length;
            self.remove_free(start, bytes);
            self.put_free(start, part.start - start);
            self.put_free(part_end, start + bytes - part_end);
            self.cut(part);
            given.push((part, way));
        }
        given
    }

    /// What of a free range can go back: about `excess` bytes from its end.
    fn returnable(&self, start: u64, bytes: u64, excess: u64) -> Option<Returned> {
        let (slab_start, slab) = self.slabs.range(..=start).next_back()?;
        let (end, slab_end) = (start + bytes, slab_start + slab.length);
        let Way::Chunks { chunk, .. } = slab.way else {
            let is_whole = start == *slab_start && end == slab_end;
            return is_whole.then_some((Piece { start, length: bytes }, slab.way));
        };
        let first = start.checked_next_multiple_of(chunk)?;
        let last = if end == slab_end { end } else { end / chunk * chunk };
        let from = first.max(last.saturating_sub(excess) / chunk * chunk);
        (from < last).then(|| (Piece { start: from, length: last - from }, slab.way))
    }

    /// Takes a part out of its slab.
    fn cut(&mut self, part: Piece) {
        let Some((start, slab)) = self.slabs.range(..=part.start).next_back().map(|(at, slab)| (*at, *slab))
        else {
            return;
        };
        self.slabs.remove(&start);
        let (end, part_end) = (start + slab.length, part.start + part.length);
        for (from, to) in [(start, part.start), (part_end, end)] {
            if from < to {
                self.slabs.insert(from, Slab { length: to - from, ..slab });
            }
        }
    }

    fn put_free(&mut self, start: u64, bytes: u64) {
        if bytes > 0 {
            self.free.insert(start, bytes);
            self.by_size.insert((bytes, start));
            self.free_bytes += bytes;
            self.returnable += self.returnable(start, bytes, bytes).map_or(0, |(part, _)| part.length);
        }
    }

    fn remove_free(&mut self, start: u64, bytes: u64) {
        self.free.remove(&start);
        self.by_size.remove(&(bytes, start));
        self.free_bytes -= bytes;
        self.returnable -= self.returnable(start, bytes, bytes).map_or(0, |(part, _)| part.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = 2 << 20;
    const START: u64 = 1 << 46;
    const FINE: Way = Way::Chunks { chunk: CHUNK, is_fine: true };

    fn fine(chunks: u64) -> Room {
        let mut room = Room { keep: u64::MAX, ..Room::default() };
        room.add(Piece { start: START, length: chunks * CHUNK }, FINE);
        room
    }

    fn free(room: &mut Room, start: u64, length: u64) {
        room.insert_free(Piece { start, length });
    }

    fn ranges(returned: &[Returned]) -> Vec<(u64, u64)> {
        let mut ranges: Vec<_> =
            returned.iter().map(|(piece, _)| ((piece.start - START) / CHUNK, piece.length / CHUNK)).collect();
        ranges.sort_unstable();
        ranges
    }

    #[test]
    fn free_chunks_of_partly_used_slabs_go_back() {
        let mut room = fine(8);
        let pieces: Vec<u64> = (0..4).filter_map(|_| room.take(2 * CHUNK)).collect();
        assert_eq!(pieces.len(), 4);
        free(&mut room, pieces[0], 2 * CHUNK);
        free(&mut room, pieces[2], 2 * CHUNK);
        assert_eq!(room.take(3 * CHUNK), None);
        assert_eq!(ranges(&room.give_back(0)), [(0, 2), (4, 2)]);
        assert_eq!((room.secured(), room.unused()), (4 * CHUNK, 0));
        free(&mut room, pieces[1], 2 * CHUNK);
        free(&mut room, pieces[3], 2 * CHUNK);
        assert_eq!(room.take(3 * CHUNK), None, "the slabs are apart now");
        assert_eq!(ranges(&room.give_back(0)), [(2, 2), (6, 2)]);
        assert_eq!(room.secured(), 0);
    }

    #[test]
    fn a_small_piece_holds_its_own_chunk_only() {
        let mut room = fine(4);
        let small = room.take(512);
        assert_eq!(small, Some(START));
        assert_eq!(ranges(&room.give_back(0)), [(1, 3)]);
        assert_eq!(room.unused(), CHUNK - 512);
        free(&mut room, START, 512);
        assert_eq!(ranges(&room.give_back(0)), [(0, 1)]);
    }

    #[test]
    fn what_is_as_large_as_a_chunk_shares_none_with_what_is_before_it() {
        let mut room = fine(4);
        assert_eq!(room.take(512), Some(START));
        let large = room.take(CHUNK + 512).expect("room");
        assert_eq!(large, START + CHUNK);
        assert_eq!(room.take(2 * CHUNK), None, "its tail is in use");
        free(&mut room, large, CHUNK + 512);
        assert_eq!(ranges(&room.give_back(0)), [(1, 3)]);
    }

    #[test]
    fn only_the_excess_goes_back() {
        let mut room = fine(8);
        room.keep = 4 * CHUNK;
        assert_eq!(ranges(&room.give_back_excess()), [(3, 5)], "a quarter more than must");
        assert_eq!(room.give_back_excess(), []);
        assert_eq!(room.take(3 * CHUNK), Some(START));
    }

    #[test]
    fn what_is_freed_beyond_what_is_kept_goes_back_at_once() {
        let mut room = fine(8);
        let small = room.take(512).expect("room");
        let large = room.take(5 * CHUNK + 512).expect("room");
        room.keep = 2 * CHUNK;
        let (returned, rest) = room.free(Piece { start: large, length: 5 * CHUNK + 512 });
        assert_eq!(ranges(&Vec::from_iter(returned)), [(1, 5)]);
        assert_eq!(
            rest.map(|piece| piece.length),
            [0, 512],
            "the tail shares a chunk with what is behind it"
        );
        assert_eq!(room.waiting(), 512);
        room.reached(rest[1]);
        let (returned, rest) = room.free(Piece { start: small, length: 512 });
        assert_eq!((returned, rest[0].length), (None, 512));
        room.reached(rest[0]);
        assert_eq!(room.unused(), 3 * CHUNK);
    }

    #[test]
    fn neighbours_become_one_slab() {
        let mut room = fine(2);
        room.add(Piece { start: START + 4 * CHUNK, length: 2 * CHUNK }, FINE);
        assert_eq!(room.take(6 * CHUNK), None);
        room.add(Piece { start: START + 2 * CHUNK, length: 2 * CHUNK }, FINE);
        assert_eq!(room.take(6 * CHUNK), Some(START));
    }

    #[test]
    fn large_chunks_are_for_large_pieces_and_the_last_may_be_short() {
        let mut room = Room::default();
        let way = Way::Chunks { chunk: 4 * CHUNK, is_fine: false };
        let length = 4 * CHUNK * CHUNKS + CHUNK;
        room.add(Piece { start: START, length }, way);
        assert_eq!(room.take(CHUNK), None, "too small");
        assert_eq!(room.take(length), Some(START));
        free(&mut room, START, length);
        let piece = room.take(4 * CHUNK * CHUNKS - CHUNK);
        assert_eq!(piece, None, "less than it takes");
        let piece = room.take(4 * CHUNK * CHUNKS).expect("room");
        assert_eq!(ranges(&room.give_back(0)), [(4 * CHUNKS, 1)], "the short one");
        free(&mut room, piece, 4 * CHUNK * CHUNKS);
        assert_eq!(ranges(&room.give_back(0)), [(0, 4 * CHUNKS)]);
    }
}
