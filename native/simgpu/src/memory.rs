//! Allocations: which addresses are live, of what kind, and whose.
//!
//! Addresses of the simulated GPU are addresses of the process. Every range that a kernel or a copy may touch is
//! in one ordered map: device and managed memory from the device's window, pinned and registered host memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use cuda_abi::CUresult;

use crate::accounting;
use crate::config::config;
use crate::context::Context;
use crate::device::{Device, device, lock};
use crate::guard::Answer;
use crate::pool::Pool;

/// Device memory is handed out in multiples of this.
pub const GRANULE: u64 = 512;
const LARGE: u64 = 2 << 20;
const PAGE: u64 = 4096;
/// Fresh memory holds this byte…
pub const PATTERN: u8 = 0xCD;
/// …in full up to twice this size, else at both ends: touching gigabytes would take real memory.
const PATTERN_END: u64 = 8 << 20;

/// What a range of addresses is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Device,
    Managed,
    /// Physical memory that is mapped; who may use it is known to `virtual_memory`.
    Mapped,
    /// Of a module, which alone frees it.
    Variable,
    /// From the device-side `malloc`.
    DeviceHeap,
    Pinned,
    /// Host memory of the program, pinned by `cuMemHostRegister`.
    Registered,
}

/// A live range.
pub struct Allocation {
    pub start: u64,
    pub size: u64,
    /// Bytes taken from the window or mapped, at least `size`.
    reserved: u64,
    pub kind: Kind,
    pub flags: u32,
    pub device: i32,
    pub context: Weak<Context>,
    pub context_id: u64,
    pub id: u64,
    pub pool: Option<Arc<Pool>>,
    /// Given to `cuMemFreeAsync` already.
    pub free_queued: AtomicBool,
}

impl Allocation {
    /// One past the last byte.
    pub fn end(&self) -> u64 {
        self.start + self.size
    }

    /// Whether host code may use the address.
    pub fn is_host(&self) -> bool {
        matches!(self.kind, Kind::Pinned | Kind::Registered)
    }

    /// What a kernel may touch: registered memory is pinned in whole pages.
    pub fn kernel_range(&self) -> (u64, u64) {
        if self.kind == Kind::Registered {
            (self.start & !(PAGE - 1), self.end().next_multiple_of(PAGE))
        } else {
            (self.start, self.end())
        }
    }
}

static LIVE: RwLock<BTreeMap<u64, Arc<Allocation>>> = RwLock::new(BTreeMap::new());
static GENERATION: AtomicU64 = AtomicU64::new(0);
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Changes whenever a range went away or lost access.
pub fn generation() -> u64 {
    GENERATION.load(Ordering::Acquire)
}

/// Says that kernels must look up their ranges again.
pub fn next_generation() {
    GENERATION.fetch_add(1, Ordering::AcqRel);
}

/// The live range that holds `address`.
pub fn find(address: u64) -> Option<Arc<Allocation>> {
    let live = LIVE.read().unwrap_or_else(PoisonError::into_inner);
    let (_, allocation) = live.range(..=address).next_back()?;
    (address < allocation.end()).then(|| Arc::clone(allocation))
}

/// Like [`find`], for kernels: registered memory counts in whole pages.
pub fn find_for_kernel(address: u64) -> Option<Arc<Allocation>> {
    if let Some(found) = find(address) {
        return Some(found);
    }
    let live = LIVE.read().unwrap_or_else(PoisonError::into_inner);
    let near = address.saturating_add(PAGE);
    let holds = |allocation: &&Arc<Allocation>| {
        let (start, end) = allocation.kernel_range();
        (start..end).contains(&address)
    };
    live.range(..=near).rev().take(3).map(|(_, allocation)| allocation).find(holds).map(Arc::clone)
}

/// The live range next to an address that is in none.
pub fn nearest(address: u64) -> Option<Arc<Allocation>> {
    let live = LIVE.read().unwrap_or_else(PoisonError::into_inner);
    let before = live.range(..=address).next_back().map(|(_, allocation)| allocation);
    let behind = live.range(address..).next().map(|(_, allocation)| allocation);
    let distance = |allocation: &&Arc<Allocation>| {
        allocation.start.abs_diff(address).min(allocation.end().abs_diff(address))
    };
    before.into_iter().chain(behind).min_by_key(distance).map(Arc::clone)
}

fn insert(allocation: Allocation) -> Arc<Allocation> {
    let allocation = Arc::new(allocation);
    LIVE.write().unwrap_or_else(PoisonError::into_inner).insert(allocation.start, Arc::clone(&allocation));
    allocation
}

/// Notes that physical memory of a device is mapped.
pub fn mapped(start: u64, size: u64, device: i32) {
    insert(Allocation {
        start,
        size,
        reserved: size,
        kind: Kind::Mapped,
        flags: 0,
        device,
        context: Weak::new(),
        context_id: 0,
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        pool: None,
        free_queued: AtomicBool::new(false),
    });
}

/// Notes that it is mapped no more.
pub fn unmapped(start: u64) {
    take(start, |it| it.kind == Kind::Mapped);
}

/// Takes the range that begins at `start`, of a kind that `which` accepts, out of the map.
fn take(start: u64, which: impl Fn(&Allocation) -> bool) -> Option<Arc<Allocation>> {
    let mut live = LIVE.write().unwrap_or_else(PoisonError::into_inner);
    if !which(live.get(&start)?) {
        return None;
    }
    let taken = live.remove(&start);
    next_generation();
    taken
}

/// Allocates device or managed memory in `context`.
///
/// # Errors
/// INVALID_VALUE for no bytes, OUT_OF_MEMORY when all processes together use too much.
pub fn allocate(
    context: &Arc<Context>,
    size: u64,
    kind: Kind,
    flags: u32,
    pool: Option<Arc<Pool>>,
) -> Answer<Arc<Allocation>> {
    if size == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let device = context.device;
    let reserved = size.checked_next_multiple_of(GRANULE).ok_or(CUresult::OUT_OF_MEMORY)?;
    if kind != Kind::DeviceHeap {
        accounting::reserve(device.physical, reserved, device.total)?;
    }
    let align = if reserved >= LARGE { LARGE } else { GRANULE };
    let Some(start) = lock(&device.heap).allocate(reserved, align) else {
        unreserve(device, kind, reserved);
        return Err(CUresult::OUT_OF_MEMORY);
    };
    if config().unkind.pattern && kind != Kind::Managed {
        fill_with_pattern(start, reserved);
    }
    Ok(insert(Allocation {
        start,
        size,
        reserved,
        kind,
        flags,
        device: device.ordinal,
        context: Arc::downgrade(context),
        context_id: context.id,
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        pool,
        free_queued: AtomicBool::new(false),
    }))
}

fn unreserve(device: &Device, kind: Kind, bytes: u64) {
    if kind != Kind::DeviceHeap {
        accounting::release(device.physical, bytes);
    }
}

fn fill_with_pattern(start: u64, length: u64) {
    let fill = |at: u64, length: u64| {
        // SAFETY: the range is part of the device's window, which is mapped and writable; what it holds is
        // nobody's yet.
        unsafe {
            std::ptr::with_exposed_provenance_mut::<u8>(at as usize).write_bytes(PATTERN, length as usize);
        }
    };
    if length <= 2 * PATTERN_END {
        fill(start, length);
    } else {
        fill(start, PATTERN_END);
        fill(start + length - PATTERN_END, PATTERN_END);
    }
}

/// Frees device or managed memory that begins at `start`. The caller has synchronised.
///
/// # Errors
/// INVALID_VALUE when nothing of the kind begins there.
pub fn free_device(start: u64) -> Answer {
    let allocation =
        take(start, |it| matches!(it.kind, Kind::Device | Kind::Managed)).ok_or(CUresult::INVALID_VALUE)?;
    give_back(&allocation);
    Ok(())
}

/// Frees an allocation, unless somebody did already.
pub fn free_exactly(allocation: &Arc<Allocation>) {
    if let Some(taken) = take(allocation.start, |it| it.id == allocation.id) {
        give_back(&taken);
    }
}

/// Lets an allocation hold what fresh memory holds.
pub fn make_fresh(allocation: &Allocation) {
    if config().unkind.pattern {
        fill_with_pattern(allocation.start, allocation.reserved);
    }
}

/// Frees what the device-side `malloc` gave; false when it did not.
pub fn free_device_heap(start: u64) -> bool {
    take(start, |it| it.kind == Kind::DeviceHeap).inspect(|allocation| give_back(allocation)).is_some()
}

fn give_back(allocation: &Allocation) {
    let Ok(device) = device(allocation.device) else { return };
    let first = allocation.start.next_multiple_of(PAGE);
    let last = (allocation.start + allocation.reserved) & !(PAGE - 1);
    if last > first + 16 * PAGE {
        // SAFETY: whole pages of the window that belong to the freed range only. They stay mapped, so that a
        // kernel that still runs reads zeros, not a hole.
        unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(first as usize),
                (last - first) as usize,
                libc::MADV_DONTNEED,
            );
        }
    }
    lock(&device.heap).release(allocation.start, allocation.reserved);
    unreserve(device, allocation.kind, allocation.reserved);
    if let Some(pool) = &allocation.pool {
        pool.released(allocation.reserved);
    }
}

/// Bytes that an allocation of `size` takes.
pub fn reserved_size(size: u64) -> u64 {
    size.next_multiple_of(GRANULE)
}

/// Allocates pinned host memory.
///
/// # Errors
/// INVALID_VALUE for no bytes, OUT_OF_MEMORY when the system has none.
pub fn allocate_pinned(context: &Arc<Context>, size: u64, flags: u32) -> Answer<Arc<Allocation>> {
    if size == 0 {
        return Err(CUresult::INVALID_VALUE);
    }
    let reserved = size.checked_next_multiple_of(PAGE).ok_or(CUresult::OUT_OF_MEMORY)?;
    let length = usize::try_from(reserved).map_err(|_| CUresult::OUT_OF_MEMORY)?;
    // SAFETY: a fresh anonymous mapping replaces nothing.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(CUresult::OUT_OF_MEMORY);
    }
    Ok(insert(host_range(context, address.expose_provenance() as u64, size, reserved, Kind::Pinned, flags)))
}

/// Registers host memory of the program.
///
/// # Errors
/// INVALID_VALUE for no bytes, HOST_MEMORY_ALREADY_REGISTERED when a live range is touched.
pub fn register(context: &Arc<Context>, start: u64, size: u64, flags: u32) -> Answer {
    let end = start.checked_add(size).filter(|_| size > 0 && start > 0).ok_or(CUresult::INVALID_VALUE)?;
    let mut live = LIVE.write().unwrap_or_else(PoisonError::into_inner);
    if live.range(..end).next_back().is_some_and(|(_, other)| other.end() > start) {
        return Err(CUresult::HOST_MEMORY_ALREADY_REGISTERED);
    }
    live.insert(start, Arc::new(host_range(context, start, size, size, Kind::Registered, flags)));
    Ok(())
}

fn host_range(
    context: &Arc<Context>,
    start: u64,
    size: u64,
    reserved: u64,
    kind: Kind,
    flags: u32,
) -> Allocation {
    Allocation {
        start,
        size,
        reserved,
        kind,
        flags,
        device: context.device.ordinal,
        context: Arc::downgrade(context),
        context_id: context.id,
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        pool: None,
        free_queued: AtomicBool::new(false),
    }
}

/// Frees pinned host memory. The caller has synchronised every context.
///
/// # Errors
/// INVALID_VALUE when no pinned memory begins there.
pub fn free_pinned(start: u64) -> Answer {
    let allocation = take(start, |it| it.kind == Kind::Pinned).ok_or(CUresult::INVALID_VALUE)?;
    unmap(&allocation);
    Ok(())
}

fn unmap(allocation: &Allocation) {
    // SAFETY: the mapping was made by `allocate_pinned`, is out of the map, and no work uses it any more.
    unsafe {
        libc::munmap(
            std::ptr::with_exposed_provenance_mut(allocation.start as usize),
            allocation.reserved as usize,
        );
    }
}

/// Ends the registration that begins at `start`. The caller has synchronised every context.
///
/// # Errors
/// HOST_MEMORY_NOT_REGISTERED when there is none.
pub fn unregister(start: u64) -> Answer {
    take(start, |it| it.kind == Kind::Registered).map(|_| ()).ok_or(CUresult::HOST_MEMORY_NOT_REGISTERED)
}

/// Frees everything of a context that goes away and has no work left.
pub fn free_all_of(context_id: u64) {
    let mut gone = Vec::new();
    LIVE.write().unwrap_or_else(PoisonError::into_inner).retain(|_, allocation| {
        let stays = allocation.context_id != context_id;
        if !stays {
            gone.push(Arc::clone(allocation));
        }
        stays
    });
    next_generation();
    for allocation in gone {
        match allocation.kind {
            Kind::Device | Kind::Managed | Kind::Variable | Kind::DeviceHeap => give_back(&allocation),
            Kind::Pinned => unmap(&allocation),
            Kind::Registered | Kind::Mapped => {}
        }
    }
}
