//! What the window holds: the sums, apart from the driver.

use std::collections::{BTreeMap, HashMap};

use cuda_abi::CUresult;
use wire::handshake::{SHORTEST_WINDOW, Window};

/// Addresses of programs end here.
const ADDRESSES_END: u64 = 1 << 47;

/// Most chunks that one request may ask for.
const CHUNKS_LIMIT: u64 = 4096;

/// Memory that is mapped, and can go back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// The device whose memory it is.
    pub device: usize,
    /// The client's context that it belongs to.
    pub context: u32,
}

/// What the client asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// First address.
    pub address: u64,
    /// Bytes that it must be at least, and should be.
    pub needed: u64,
    /// See `needed`.
    pub wanted: u64,
    /// Bytes of each chunk; the last one may be shorter.
    pub chunk: u64,
}

/// The window, and what lies in it.
#[derive(Debug, Default)]
pub struct Table {
    /// What was agreed.
    pub window: Window,
    /// Memory is mapped in multiples of this.
    pub granularity: u64,
    /// By first address.
    pub chunks: BTreeMap<u64, Chunk>,
    /// Bytes by first address of what was taken out and is still mapped.
    pub leaving: BTreeMap<u64, u64>,
    /// Contexts that reach the memory of a context, and their devices.
    pub peers: HashMap<u32, BTreeMap<u32, usize>>,
}

impl Table {
    /// Takes everything of a context out.
    pub fn take_context(&mut self, context: u32) -> Vec<Chunk> {
        self.peers.remove(&context);
        let gone: Vec<Chunk> =
            self.chunks.values().copied().filter(|chunk| chunk.context == context).collect();
        self.chunks.retain(|_, chunk| chunk.context != context);
        self.leave(&gone);
        gone
    }

    /// See [`super::Mapped::check`].
    pub fn check(&self, wish: &Wish, left: u64) -> Result<u64, CUresult> {
        let Wish { address, needed, wanted, chunk } = *wish;
        let is_whole = |value: u64| value > 0 && value.is_multiple_of(self.granularity.max(1));
        let whole = [address, needed, wanted, chunk].into_iter().all(is_whole);
        let end = address.checked_add(wanted).ok_or(CUresult::INVALID_VALUE)?;
        let inside = address >= self.window.start && end <= self.window.start + self.window.length;
        if !whole || !inside || needed > wanted || wanted.div_ceil(chunk) > CHUNKS_LIMIT {
            return Err(CUresult::INVALID_VALUE);
        }
        let last = self.chunks.range(..end).next_back();
        if last.is_some_and(|(start, chunk)| start + chunk.size > address) {
            return Err(CUresult::INVALID_VALUE);
        }
        let more = (wanted - needed).min(left.saturating_sub(needed) / 4);
        Ok(needed + more / self.granularity * self.granularity)
    }

    /// See [`super::Mapped::take`].
    pub fn take(&mut self, start: u64, size: u64) -> Option<Vec<Chunk>> {
        let end = start.checked_add(size)?;
        let found: Vec<Chunk> = self.chunks.range(start..end).map(|(_, chunk)| *chunk).collect();
        let mut at = start;
        for chunk in &found {
            if chunk.start != at || chunk.context != found[0].context {
                return None;
            }
            at += chunk.size;
        }
        if found.is_empty() || at != end {
            return None;
        }
        self.chunks.retain(|at, _| *at < start || *at >= end);
        self.leave(&found);
        Some(found)
    }

    /// Notes chunks that are mapped and go back.
    pub fn leave(&mut self, chunks: &[Chunk]) {
        self.leaving.extend(chunks.iter().map(|chunk| (chunk.start, chunk.size)));
    }

    /// Whether any of these addresses is still mapped though its chunk was taken out.
    pub fn is_leaving(&self, start: u64, size: u64) -> bool {
        let last = self.leaving.range(..start.saturating_add(size)).next_back();
        last.is_some_and(|(at, bytes)| at + bytes > start)
    }

    /// Ranges without holes that belong to a context.
    pub fn runs_of(&self, context: u32) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for chunk in self.chunks.values().filter(|chunk| chunk.context == context) {
            match runs.last_mut() {
                Some((start, size)) if *start + *size == chunk.start => *size += chunk.size,
                _ => runs.push((chunk.start, chunk.size)),
            }
        }
        runs
    }
}

/// Whether a window that a client proposes can be one.
pub fn is_sensible(window: Window, granularity: u64) -> bool {
    let end = window.start.checked_add(window.length);
    window.start.is_multiple_of(granularity)
        && window.start > 0
        && window.length >= SHORTEST_WINDOW
        && end.is_some_and(|end| end <= ADDRESSES_END)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 2 << 20;
    const START: u64 = 1 << 46;

    fn table() -> Table {
        let window = Window { start: START, length: SHORTEST_WINDOW };
        Table { window, granularity: STEP, ..Table::default() }
    }

    fn with(chunks: &[(u64, u32)]) -> Table {
        let mut table = table();
        for (index, context) in chunks {
            let start = START + index * STEP;
            table.chunks.insert(start, Chunk { start, size: STEP, device: 0, context: *context });
        }
        table
    }

    fn wish(address: u64, needed: u64, wanted: u64) -> Wish {
        Wish { address, needed, wanted, chunk: STEP }
    }

    #[test]
    fn windows_that_make_no_sense_are_refused() {
        let window = |start, length| is_sensible(Window { start, length }, STEP);
        assert!(window(START, SHORTEST_WINDOW));
        assert!(!window(0, SHORTEST_WINDOW));
        assert!(!window(START + 4096, SHORTEST_WINDOW));
        assert!(!window(START, SHORTEST_WINDOW - 1));
        assert!(!window(u64::MAX / STEP * STEP, SHORTEST_WINDOW));
        assert!(!window(ADDRESSES_END - STEP, SHORTEST_WINDOW));
    }

    #[test]
    fn wishes_outside_the_window_in_parts_or_in_use_are_refused() {
        let table = with(&[(4, 1)]);
        let check = |address, needed, wanted| table.check(&wish(address, needed, wanted), u64::MAX);
        assert_eq!(check(START, STEP, 4 * STEP), Ok(4 * STEP));
        for (address, needed, wanted) in [
            (START, STEP, 5 * STEP),
            (START + 4 * STEP, STEP, STEP),
            (START - STEP, STEP, STEP),
            (START + SHORTEST_WINDOW, STEP, STEP),
            (START, SHORTEST_WINDOW + STEP, SHORTEST_WINDOW + STEP),
            (START + 1, STEP, STEP),
            (START, 1, STEP),
            (START, 0, STEP),
            (START, 2 * STEP, STEP),
            (u64::MAX / STEP * STEP, STEP, STEP),
            (START, u64::MAX / STEP * STEP, u64::MAX / STEP * STEP),
        ] {
            assert_eq!(check(address, needed, wanted), Err(CUresult::INVALID_VALUE), "{address:#x}");
        }
        let tiny = Wish { chunk: 0, ..wish(START, STEP, STEP) };
        assert_eq!(table.check(&tiny, u64::MAX), Err(CUresult::INVALID_VALUE));
        let none = Table::default();
        assert_eq!(none.check(&wish(START, STEP, STEP), u64::MAX), Err(CUresult::INVALID_VALUE));
    }

    #[test]
    fn what_is_beyond_the_need_leaves_most_of_the_rest() {
        let table = table();
        let check = |left| table.check(&wish(START, STEP, 64 * STEP), left);
        assert_eq!(check(1000 * STEP), Ok(64 * STEP));
        assert_eq!(check(41 * STEP), Ok(11 * STEP));
        assert_eq!(check(STEP), Ok(STEP));
        assert_eq!(check(0), Ok(STEP), "the ledger says whether there is enough");
    }

    #[test]
    fn only_whole_chunks_of_one_context_go_back() {
        let mut table = with(&[(0, 1), (1, 1), (2, 2), (4, 2)]);
        assert_eq!(table.take(START, STEP / 2), None, "a part");
        assert_eq!(table.take(START + STEP, 2 * STEP), None, "two contexts");
        assert_eq!(table.take(START + 2 * STEP, 3 * STEP), None, "a hole");
        assert_eq!(table.take(START + 3 * STEP, STEP), None, "nothing");
        assert_eq!(table.take(START, u64::MAX), None);
        assert_eq!(table.take(START, 2 * STEP).map(|chunks| chunks.len()), Some(2));
        assert_eq!(table.take(START, 2 * STEP), None, "twice");
        assert!(table.is_leaving(START + STEP, STEP) && !table.is_leaving(START + 2 * STEP, STEP));
        assert_eq!(table.runs_of(2), [(START + 2 * STEP, STEP), (START + 4 * STEP, STEP)]);
    }
}
