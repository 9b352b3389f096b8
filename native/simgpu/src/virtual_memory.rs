//! Virtual memory management: addresses that are reserved, physical memory, and what is mapped where.
//!
//! Physical memory is memory of this process. It lies at a place of its own (its *home*) until it is mapped, and is
//! moved, not copied. So it can be mapped in one place at a time, which is less than real devices can do.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, MutexGuard};

use cuda_abi::CUresult;

use crate::accounting;
use crate::config::{config, log};
use crate::device::{device, devices, lock};
use crate::guard::Answer;
use crate::memory;

mod pages;

/// Everything is a multiple of this.
pub const GRANULARITY: u64 = 2 << 20;

/// Wishes for addresses below this are not granted, as by real drivers.
const LOWEST_WISH: u64 = 1 << 40;

/// What a device may do with a mapping.
pub const NO_ACCESS: u32 = 0;
pub const READ: u32 = 1;
pub const READ_WRITE: u32 = 3;

struct Physical {
    device: i32,
    size: u64,
    /// Where it lies while it is not mapped.
    home: u64,
    is_mapped: bool,
    handles: u32,
}

struct Mapping {
    size: u64,
    handle: u64,
    /// By device.
    access: Vec<u32>,
}

#[derive(Default)]
struct State {
    /// Bytes by first address.
    reservations: BTreeMap<u64, u64>,
    physical: HashMap<u64, Physical>,
    mappings: BTreeMap<u64, Mapping>,
    last_handle: u64,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);

fn state() -> MutexGuard<'static, State> {
    lock(&STATE)
}

/// Refuses what this device was told not to have.
pub fn check_supported() -> Answer {
    if config().virtual_memory { Ok(()) } else { Err(CUresult::NOT_SUPPORTED) }
}

/// `start..start + size`, if it is not empty and its ends are multiples of the granularity.
fn range(start: u64, size: u64) -> Answer<std::ops::Range<u64>> {
    let is_whole = size > 0 && start.is_multiple_of(GRANULARITY) && size.is_multiple_of(GRANULARITY);
    let end = start.checked_add(size).filter(|_| is_whole).ok_or(CUresult::INVALID_VALUE)?;
    Ok(start..end)
}

/// Reserves addresses, at `wish` if that is possible.
///
/// # Errors
/// INVALID_VALUE for sizes and alignments that are not whole, OUT_OF_MEMORY when there is no room.
pub fn reserve(size: u64, alignment: u64, wish: u64) -> Answer<u64> {
    range(0, size)?;
    if alignment != 0 && !alignment.is_power_of_two() {
        return Err(CUresult::INVALID_VALUE);
    }
    let alignment = alignment.max(GRANULARITY);
    let is_granted = wish >= LOWEST_WISH && wish.is_multiple_of(alignment);
    let mut state = state();
    let granted = if is_granted { pages::reserve_at(wish, size) } else { None };
    let start = granted.or_else(|| pages::reserve(size, alignment)).ok_or(CUresult::OUT_OF_MEMORY)?;
    state.reservations.insert(start, size);
    Ok(start)
}

/// Frees addresses that are not in use.
///
/// # Errors
/// INVALID_VALUE unless exactly this was reserved and nothing is mapped there.
pub fn unreserve(start: u64, size: u64) -> Answer {
    let mut state = state();
    if state.reservations.get(&start) != Some(&size)
        || state.mappings.range(start..start + size).next().is_some()
    {
        return Err(CUresult::INVALID_VALUE);
    }
    state.reservations.remove(&start);
    pages::give(start, size);
    Ok(())
}

/// Makes physical memory.
///
/// # Errors
/// INVALID_VALUE for a size that is not whole, OUT_OF_MEMORY.
pub fn create(ordinal: i32, size: u64) -> Answer<u64> {
    let device = device(ordinal)?;
    range(0, size)?;
    accounting::reserve(device.physical, size, device.total)?;
    let Some(home) = pages::make(size) else {
        accounting::release(device.physical, size);
        return Err(CUresult::OUT_OF_MEMORY);
    };
    let mut state = state();
    state.last_handle += 1;
    let handle = state.last_handle;
    let physical = Physical { device: ordinal, size, home, is_mapped: false, handles: 1 };
    state.physical.insert(handle, physical);
    Ok(handle)
}

/// Device and size of physical memory.
///
/// # Errors
/// INVALID_VALUE for what is no handle.
pub fn properties(handle: u64) -> Answer<i32> {
    state().held(handle).map(|physical| physical.device)
}

/// Gives a handle back; the memory goes when it is mapped nowhere either.
///
/// # Errors
/// INVALID_VALUE for what is no handle.
pub fn release(handle: u64) -> Answer {
    let mut state = state();
    state.held(handle)?.handles -= 1;
    state.free_unused(handle);
    Ok(())
}

/// One more handle to what is mapped at `address`.
///
/// # Errors
/// INVALID_VALUE when nothing is.
pub fn retain(address: u64) -> Answer<u64> {
    let mut state = state();
    let (_, mapping) = state.mapping(address).ok_or(CUresult::INVALID_VALUE)?;
    let handle = mapping.handle;
    let physical = state.physical.get_mut(&handle).ok_or(CUresult::INVALID_VALUE)?;
    physical.handles += 1;
    Ok(handle)
}

/// Maps all of physical memory. Nobody has access yet.
///
/// # Errors
/// INVALID_VALUE for addresses that are not reserved or in use, and for a part of the memory; NOT_SUPPORTED for a
/// second mapping.
pub fn map(start: u64, size: u64, handle: u64) -> Answer {
    let wanted = range(start, size)?;
    let mut state = state();
    let reserved = state.reservations.range(..=start).next_back().map(|(at, length)| at + length);
    if reserved.is_none_or(|end| end < wanted.end) || state.is_touched(&wanted) {
        return Err(CUresult::INVALID_VALUE);
    }
    let physical = state.held(handle)?;
    if physical.size != size {
        return Err(CUresult::INVALID_VALUE);
    }
    if physical.is_mapped {
        log(|| "physical memory can be mapped in one place at a time".to_owned());
        return Err(CUresult::NOT_SUPPORTED);
    }
    if !pages::move_to(physical.home, start, size) {
        return Err(CUresult::OUT_OF_MEMORY);
    }
    physical.is_mapped = true;
    let device = physical.device;
    let access = vec![NO_ACCESS; devices().len()];
    state.mappings.insert(start, Mapping { size, handle, access });
    memory::mapped(start, size, device);
    Ok(())
}

/// Unmaps whole mappings. Work that may use them is done.
///
/// # Errors
/// INVALID_VALUE unless mappings fill the range exactly.
pub fn unmap(start: u64, size: u64) -> Answer {
    let wanted = range(start, size)?;
    let mut state = state();
    for at in state.fill(&wanted)? {
        let Some(mapping) = state.mappings.remove(&at) else { continue };
        memory::unmapped(at);
        let Some(physical) = state.physical.get_mut(&mapping.handle) else { continue };
        physical.is_mapped = false;
        physical.home = if physical.handles > 0 { pages::take_home(at, mapping.size) } else { 0 };
        pages::clear(at, mapping.size);
        state.free_unused(mapping.handle);
    }
    Ok(())
}

/// Says what a device may do with whole mappings.
///
/// # Errors
/// INVALID_VALUE unless mappings fill the range exactly and the flags mean something.
pub fn set_access(start: u64, size: u64, ordinal: i32, flags: u32) -> Answer {
    device(ordinal)?;
    let wanted = range(start, size)?;
    if !matches!(flags, NO_ACCESS | READ | READ_WRITE) {
        return Err(CUresult::INVALID_VALUE);
    }
    let mut state = state();
    for at in state.fill(&wanted)? {
        if let Some(access) = state.mappings.get_mut(&at).and_then(|it| it.access.get_mut(ordinal as usize)) {
            *access = flags;
        }
    }
    memory::next_generation();
    Ok(())
}

/// What a device may do with the mapping at `address`.
///
/// # Errors
/// INVALID_VALUE when nothing is mapped there.
pub fn access(address: u64, ordinal: i32) -> Answer<u32> {
    device(ordinal)?;
    let state = state();
    let (_, mapping) = state.mapping(address).ok_or(CUresult::INVALID_VALUE)?;
    Ok(mapping.access_of(ordinal))
}

/// The devices that may use mappings in a range.
pub fn users(start: u64, size: u64) -> Vec<i32> {
    let state = state();
    let mappings = state.mappings.range(start..start.saturating_add(size));
    let access = mappings.flat_map(|(_, mapping)| mapping.access.iter().enumerate());
    access
        .filter(|(_, flags)| **flags != NO_ACCESS)
        .filter_map(|(device, _)| i32::try_from(device).ok())
        .collect()
}

/// The mappings around `address` that a device may use in the same way: first address, end, and whether it may write.
pub fn reach(address: u64, ordinal: i32) -> Option<(u64, u64, bool)> {
    let state = state();
    let flags = state.mapping(address)?.1.access_of(ordinal);
    let (start, end) = state.run(address, |mapping| mapping.access_of(ordinal) == flags)?;
    (flags != NO_ACCESS).then_some((start, end, flags == READ_WRITE))
}

/// One past the last byte that a copy which begins at `address` may touch: some device has access up to there.
pub fn copy_end(address: u64) -> Option<u64> {
    let usable = |mapping: &Mapping| mapping.access.iter().any(|flags| *flags != NO_ACCESS);
    state().run(address, usable).map(|(_, end)| end)
}

impl Mapping {
    fn access_of(&self, ordinal: i32) -> u32 {
        self.access.get(ordinal as usize).copied().unwrap_or(NO_ACCESS)
    }
}

impl State {
    /// Physical memory that a program has a handle to.
    fn held(&mut self, handle: u64) -> Answer<&mut Physical> {
        self.physical.get_mut(&handle).filter(|physical| physical.handles > 0).ok_or(CUresult::INVALID_VALUE)
    }

    /// The mapping that holds `address`.
    fn mapping(&self, address: u64) -> Option<(u64, &Mapping)> {
        let (start, mapping) = self.mappings.range(..=address).next_back()?;
        (address < start + mapping.size).then_some((*start, mapping))
    }

    /// Whether anything is mapped in a range.
    fn is_touched(&self, wanted: &std::ops::Range<u64>) -> bool {
        let last = self.mappings.range(..wanted.end).next_back();
        last.is_some_and(|(start, mapping)| start + mapping.size > wanted.start)
    }

    /// The mappings side by side around `address` for which `belongs` holds.
    fn run(&self, address: u64, belongs: impl Fn(&Mapping) -> bool) -> Option<(u64, u64)> {
        let (mut start, first) = self.mapping(address).filter(|(_, mapping)| belongs(mapping))?;
        let mut end = start + first.size;
        for (at, mapping) in self.mappings.range(..start).rev() {
            if at + mapping.size != start || !belongs(mapping) {
                break;
            }
            start = *at;
        }
        for (at, mapping) in self.mappings.range(end..) {
            if *at != end || !belongs(mapping) {
                break;
            }
            end += mapping.size;
        }
        Some((start, end))
    }

    /// The mappings that fill a range exactly.
    fn fill(&self, wanted: &std::ops::Range<u64>) -> Answer<Vec<u64>> {
        let mut found = Vec::new();
        let mut end = wanted.start;
        for (at, mapping) in self.mappings.range(wanted.clone()) {
            if *at != end {
                break;
            }
            end += mapping.size;
            found.push(*at);
        }
        if end == wanted.end { Ok(found) } else { Err(CUresult::INVALID_VALUE) }
    }

    fn free_unused(&mut self, handle: u64) {
        let unused = |physical: &&mut Physical| physical.handles == 0 && !physical.is_mapped;
        let Some(physical) = self.physical.get_mut(&handle).filter(unused) else { return };
        if physical.home != 0 {
            pages::give(physical.home, physical.size);
        }
        if let Ok(device) = device(physical.device) {
            accounting::release(device.physical, physical.size);
        }
        self.physical.remove(&handle);
    }
}
