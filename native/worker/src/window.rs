//! Device memory at addresses that the client chose.
//!
//! Client and worker have agreed on a window of addresses that both have reserved. The client says where in it memory
//! is to be; here it is made in *chunks*, the parts in which it can go back, and mapped. The driver ties such memory
//! to no context, so what belongs to a context is unmapped when the context ends, and peer access, which contexts have
//! to each other's allocations, is given to every range here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuda_abi as abi;
use cuda_abi::{CUmemAccessDesc, CUmemAllocationProp, CUmemLocation, CUresult};
use driver::Driver;
use wire::handshake::{SHORTEST_WINDOW, Window};

use crate::memory::Memory;

/// Addresses of programs end here.
const ADDRESSES_END: u64 = 1 << 47;

/// Most chunks that one request may ask for.
const CHUNKS_LIMIT: u64 = 4096;

/// `CU_MEM_ALLOC_GRANULARITY_MINIMUM`
const MINIMUM: u32 = 0;

/// `CU_MEM_ACCESS_FLAGS_PROT_NONE` and `…_READWRITE`.
const NO_ACCESS: u32 = 0;
const READ_WRITE: u32 = 3;

/// Memory that is mapped, and can go back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    start: u64,
    size: u64,
    device: usize,
    context: u32,
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

#[derive(Debug, Default)]
struct Table {
    window: Window,
    granularity: u64,
    chunks: BTreeMap<u64, Chunk>,
    /// Contexts that reach the memory of a context, and their devices.
    peers: HashMap<u32, BTreeMap<u32, usize>>,
}

/// The window and what is mapped in it.
#[derive(Debug)]
pub struct Mapped {
    driver: Arc<Driver>,
    memory: Arc<Memory>,
    table: Mutex<Table>,
}

impl Mapped {
    /// No window yet.
    pub fn new(driver: Arc<Driver>, memory: Arc<Memory>) -> Mapped {
        Mapped { driver, memory, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves what the client proposes, or the first part of it. Answers what is agreed, and the granularity of memory.
    pub fn agree(&self, proposed: Window, devices: i32) -> (Window, u64) {
        let Some(granularity) = self.granularity(devices) else {
            tracing::warn!(
                "the driver maps no memory (CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED is 0): \
                 it chooses the addresses, and each large allocation waits"
            );
            return (Window::default(), 0);
        };
        let mut table = self.table();
        table.granularity = granularity;
        if table.window.length != 0 || !is_sensible(proposed, granularity) {
            return (Window::default(), granularity);
        }
        let mut length = proposed.length / granularity * granularity;
        while length >= SHORTEST_WINDOW {
            if self.reserve(proposed.start, length) {
                table.window = Window { start: proposed.start, length };
                tracing::debug!("addresses of device memory: {:#x}, {length} bytes", proposed.start);
                return (table.window, granularity);
            }
            length = length / 2 / granularity * granularity;
        }
        tracing::warn!(
            "the driver does not reserve addresses at {:#x}: without a window it chooses them, and each large \
             allocation waits",
            proposed.start
        );
        (Window::default(), granularity)
    }

    /// The granularity that suits all devices; `None` when one of them maps no memory.
    fn granularity(&self, devices: i32) -> Option<u64> {
        let mut largest = 4096;
        for device in 0..devices {
            let (mut supported, mut granularity) = (0, 0);
            let wanted = properties(device);
            let attribute = abi::CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED;
            // SAFETY: all are valid places; the driver checks the device.
            let code = unsafe {
                match self.driver.cuDeviceGetAttribute(&raw mut supported, attribute, device) {
                    CUresult::SUCCESS if supported != 0 => self.driver.cuMemGetAllocationGranularity(
                        &raw mut granularity,
                        &raw const wanted,
                        MINIMUM,
                    ),
                    _ => CUresult::NOT_SUPPORTED,
                }
            };
            let granularity = granularity as u64;
            if !code.is_success() || !granularity.is_power_of_two() {
                return None;
            }
            largest = granularity.max(largest);
        }
        (devices > 0).then_some(largest)
    }

    fn reserve(&self, start: u64, length: u64) -> bool {
        let Ok(size) = usize::try_from(length) else { return false };
        let mut given = 0;
        // SAFETY: `given` is a valid place.
        let code = unsafe { self.driver.cuMemAddressReserve(&raw mut given, size, 0, start, 0) };
        if code.is_success() && given != start {
            // SAFETY: it was reserved just now and nothing is mapped there.
            let _ = unsafe { self.driver.cuMemAddressFree(given, size) };
        }
        code.is_success() && given == start
    }

    /// What is possible of a wish, if `left` bytes are left for everybody: what is beyond the need takes no more than a
    /// quarter of the rest, as other processes have the same memory.
    ///
    /// Errors: `INVALID_VALUE` for what is not in the window, not whole, or in use.
    pub fn check(&self, wish: &Wish, left: u64) -> Result<u64, CUresult> {
        self.table().check(wish, left)
    }

    /// Maps `size` bytes, as [`Mapped::check`] answered, for `context` on `device`. They are reserved in the ledger.
    ///
    /// Errors: what the driver answers; nothing is mapped then.
    pub fn map(&self, wish: &Wish, size: u64, device: usize, context: u32) -> Result<(), CUresult> {
        let mut table = self.table();
        let mut made = Vec::new();
        let answer = self.make(&table, wish, size, (device, context), &mut made);
        if answer.is_ok() {
            table.chunks.extend(made.into_iter().map(|chunk| (chunk.start, chunk)));
            return answer;
        }
        for chunk in made {
            let _ = self.unmap(&chunk);
        }
        answer
    }

    fn make(
        &self,
        table: &Table,
        wish: &Wish,
        size: u64,
        (device, context): (usize, u32),
        made: &mut Vec<Chunk>,
    ) -> Result<(), CUresult> {
        let ordinal = i32::try_from(device).map_err(|_| CUresult::INVALID_DEVICE)?;
        let properties = properties(ordinal);
        let mut done = 0;
        while done < size {
            let chunk =
                Chunk { start: wish.address + done, size: wish.chunk.min(size - done), device, context };
            let bytes = usize::try_from(chunk.size).map_err(|_| CUresult::OUT_OF_MEMORY)?;
            let mut handle = 0;
            // SAFETY: both places are valid; the addresses are reserved and nothing is mapped there. Without its handle
            // the memory lives as long as the mapping.
            let code = unsafe {
                self.driver.cuMemCreate(&raw mut handle, bytes, &raw const properties, 0).into_result()?;
                let code = self.driver.cuMemMap(chunk.start, bytes, 0, handle, 0);
                let _ = self.driver.cuMemRelease(handle);
                code
            };
            code.into_result()?;
            made.push(chunk);
            done += chunk.size;
        }
        let others = table.peers.get(&context).map(|peers| peers.values().copied()).into_iter().flatten();
        let mut devices: Vec<usize> = std::iter::once(device).chain(others).collect();
        devices.sort_unstable();
        devices.dedup();
        self.allow(wish.address, size, &devices, READ_WRITE)
    }

    /// Says what devices may do with a range that is wholly mapped.
    fn allow(&self, start: u64, size: u64, devices: &[usize], flags: u32) -> Result<(), CUresult> {
        let access: Vec<CUmemAccessDesc> = devices
            .iter()
            .filter_map(|device| i32::try_from(*device).ok())
            .map(|device| CUmemAccessDesc { location: on(device), flags })
            .collect();
        let size = usize::try_from(size).map_err(|_| CUresult::INVALID_VALUE)?;
        // SAFETY: as many elements as said.
        unsafe { self.driver.cuMemSetAccess(start, size, access.as_ptr(), access.len()) }.into_result()
    }

    /// Takes whole chunks that fill a range out, to be unmapped: `None` when they do not, and when they are not all of
    /// one context.
    pub fn take(&self, start: u64, size: u64) -> Option<Vec<Chunk>> {
        self.table().take(start, size)
    }

    /// Takes everything of a context out.
    pub fn take_context(&self, context: u32) -> Vec<Chunk> {
        let mut table = self.table();
        table.peers.remove(&context);
        let gone: Vec<Chunk> =
            table.chunks.values().copied().filter(|chunk| chunk.context == context).collect();
        table.chunks.retain(|_, chunk| chunk.context != context);
        gone
    }

    /// Unmaps chunks that were taken out, and gives their memory back to the session. The first error is answered.
    pub fn give_back(&self, chunks: &[Chunk]) -> CUresult {
        let mut answer = CUresult::SUCCESS;
        for chunk in chunks {
            match self.unmap(chunk) {
                CUresult::SUCCESS => self.memory.release(chunk.device, chunk.size),
                code if answer.is_success() => answer = code,
                _ => {}
            }
        }
        answer
    }

    fn unmap(&self, chunk: &Chunk) -> CUresult {
        let Ok(size) = usize::try_from(chunk.size) else { return CUresult::INVALID_VALUE };
        // SAFETY: it was mapped here as a whole; nothing that the client has sent uses it any more.
        let code = unsafe { self.driver.cuMemUnmap(chunk.start, size) };
        if !code.is_success() {
            tracing::error!("{size} bytes at {:#x} could not be unmapped: {code}", chunk.start);
        }
        code
    }

    /// `context` on `device` reaches the memory of the context `peer` from here on.
    pub fn enable_peer(&self, peer: u32, context: u32, device: usize) -> Result<(), CUresult> {
        let mut table = self.table();
        for (start, size) in table.runs_of(peer) {
            self.allow(start, size, &[device], READ_WRITE)?;
        }
        table.peers.entry(peer).or_default().insert(context, device);
        Ok(())
    }

    /// `context` does not reach the memory of `peer` any more.
    pub fn disable_peer(&self, peer: u32, context: u32) -> Result<(), CUresult> {
        let mut table = self.table();
        let Some(device) = table.peers.get_mut(&peer).and_then(|peers| peers.remove(&context)) else {
            return Ok(());
        };
        self.withdraw(&table, peer, device)
    }

    /// The same for all that `context` reached: it has ended.
    pub fn disable_peers_of(&self, context: u32) {
        let mut table = self.table();
        let mut lost = Vec::new();
        for (peer, peers) in &mut table.peers {
            lost.extend(peers.remove(&context).map(|device| (*peer, device)));
        }
        for (peer, device) in lost {
            if let Err(code) = self.withdraw(&table, peer, device) {
                tracing::warn!("access of GPU {device} to memory of another could not be withdrawn: {code}");
            }
        }
    }

    /// Takes a device's access to the memory of `peer`, unless another context of it has that, too.
    fn withdraw(&self, table: &Table, peer: u32, device: usize) -> Result<(), CUresult> {
        if table.peers.get(&peer).is_some_and(|peers| peers.values().any(|other| *other == device)) {
            return Ok(());
        }
        for (start, size) in table.runs_of(peer) {
            self.allow(start, size, &[device], NO_ACCESS)?;
        }
        Ok(())
    }
}

impl Table {
    fn check(&self, wish: &Wish, left: u64) -> Result<u64, CUresult> {
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

    fn take(&mut self, start: u64, size: u64) -> Option<Vec<Chunk>> {
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
        Some(found)
    }

    /// Ranges without holes that belong to a context.
    fn runs_of(&self, context: u32) -> Vec<(u64, u64)> {
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

fn is_sensible(window: Window, granularity: u64) -> bool {
    let end = window.start.checked_add(window.length);
    window.start.is_multiple_of(granularity)
        && window.start > 0
        && window.length >= SHORTEST_WINDOW
        && end.is_some_and(|end| end <= ADDRESSES_END)
}

fn on(device: i32) -> CUmemLocation {
    CUmemLocation { r#type: abi::CU_MEM_LOCATION_TYPE_DEVICE, id: device }
}

fn properties(device: i32) -> CUmemAllocationProp {
    CUmemAllocationProp {
        r#type: abi::CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes: 0,
        location: on(device),
        win32HandleMetaData: std::ptr::null_mut(),
        compressionType: 0,
        gpuDirectRDMACapable: 0,
        usage: 0,
        reserved: [0; 4],
    }
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
        assert_eq!(table.runs_of(2), [(START + 2 * STEP, STEP), (START + 4 * STEP, STEP)]);
    }
}
