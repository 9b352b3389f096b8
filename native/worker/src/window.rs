//! Device memory at addresses that the client chose.
//!
//! Client and worker have agreed on a window of addresses that both have reserved. The client says where in it memory
//! is to be; here it is made in *chunks*, the parts in which it can go back, and mapped. The driver ties such memory
//! to no context, so what belongs to a context is unmapped when the context ends, and peer access, which contexts have
//! to each other's allocations, is given to every range here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuda_abi as abi;
use cuda_abi::{CUmemAccessDesc, CUmemAllocationProp, CUmemLocation, CUresult};
use driver::Driver;
use wire::handshake::{SHORTEST_WINDOW, Window};

use crate::memory::Memory;
pub use table::{Chunk, Wish};
use table::{Table, is_sensible};

mod table;

/// `CU_MEM_ALLOC_GRANULARITY_MINIMUM`
const MINIMUM: u32 = 0;

/// `CU_MEM_ACCESS_FLAGS_PROT_NONE` and `…_READWRITE`.
const NO_ACCESS: u32 = 0;
const READ_WRITE: u32 = 3;

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
    /// Errors: what the driver answers, and chunks that were made nevertheless and are to be given back.
    pub fn map(
        &self,
        wish: &Wish,
        size: u64,
        device: usize,
        context: u32,
    ) -> Result<(), (CUresult, Vec<Chunk>)> {
        let mut table = self.table();
        let mut made = Vec::new();
        let answer = self.make(&table, wish, size, (device, context), &mut made);
        match answer {
            Ok(()) => {
                table.chunks.extend(made.into_iter().map(|chunk| (chunk.start, chunk)));
                Ok(())
            }
            Err(code) => {
                table.leave(&made);
                Err((code, made))
            }
        }
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
        self.table().take_context(context)
    }

    /// Unmaps chunks that were taken out, and gives their memory back to the session. The first error is answered.
    pub fn give_back(&self, chunks: &[Chunk]) -> CUresult {
        let mut answer = CUresult::SUCCESS;
        for chunk in chunks {
            match self.unmap(chunk) {
                CUresult::SUCCESS => {
                    self.memory.release(chunk.device, chunk.size);
                    self.table().leaving.remove(&chunk.start);
                }
                code if answer.is_success() => answer = code,
                _ => {}
            }
        }
        answer
    }

    /// Whether any of these addresses is on its way back, and still mapped.
    pub fn is_leaving(&self, start: u64, size: u64) -> bool {
        self.table().is_leaving(start, size)
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

    /// Whether `context` reaches the memory of `peer`.
    pub fn is_peer(&self, peer: u32, context: u32) -> bool {
        self.table().peers.get(&peer).is_some_and(|peers| peers.contains_key(&context))
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
