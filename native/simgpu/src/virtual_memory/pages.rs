//! The pages behind virtual memory management.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::LazyLock;

use super::GRANULARITY;
use crate::config::config;
use crate::memory::PATTERN;

/// Granules at each end of physical memory that hold the pattern at first, as of any other fresh memory.
const PATTERN_GRANULES: u64 = 4;

/// One granule of fresh memory's pattern: mapped privately it is there without having been written.
static FRESH: LazyLock<Option<OwnedFd>> = LazyLock::new(|| {
    // SAFETY: the name ends with NUL.
    let descriptor = unsafe { libc::memfd_create(c"farpool-simgpu-fresh".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return None;
    }
    // SAFETY: the descriptor was made just now and belongs to nobody else.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let file = std::fs::File::from(descriptor);
    let text = vec![PATTERN; GRANULARITY as usize];
    std::os::unix::fs::FileExt::write_all_at(&file, &text, 0).ok()?;
    Some(file.into())
});

/// # Safety
/// With MAP_FIXED among `flags`, what lies in the range belongs to the caller.
unsafe fn map_pages(at: u64, size: u64, protection: c_int, flags: c_int, file: c_int) -> Option<u64> {
    let address = std::ptr::with_exposed_provenance_mut(at as usize);
    // SAFETY: the caller's promise; without MAP_FIXED a new mapping replaces nothing.
    let mapped = unsafe { libc::mmap(address, size as usize, protection, flags, file, 0) };
    if mapped == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the range is the mapping just made.
    unsafe {
        libc::madvise(mapped, size as usize, libc::MADV_DONTFORK);
        libc::madvise(mapped, size as usize, libc::MADV_DONTDUMP);
    }
    Some(mapped.expose_provenance() as u64)
}

const RESERVED: c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
const BYTES: c_int = libc::PROT_READ | libc::PROT_WRITE;

/// Takes addresses exactly there.
pub fn reserve_at(start: u64, size: u64) -> Option<u64> {
    if start == 0 {
        return None;
    }
    let flags = RESERVED | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: MAP_FIXED_NOREPLACE replaces nothing.
    let mapped = unsafe { map_pages(start, size, libc::PROT_NONE, flags, -1) }?;
    if mapped != start {
        give(mapped, size);
        return None;
    }
    Some(mapped)
}

/// Takes addresses anywhere.
pub fn reserve(size: u64, alignment: u64) -> Option<u64> {
    let more = size.checked_add(alignment)?;
    // SAFETY: without MAP_FIXED nothing is replaced.
    let mapped = unsafe { map_pages(0, more, libc::PROT_NONE, RESERVED, -1) }?;
    let start = mapped.next_multiple_of(alignment);
    give(mapped, start - mapped);
    give(start + size, mapped + more - (start + size));
    Some(start)
}

/// Gives pages back, addresses and all.
pub fn give(start: u64, size: u64) {
    if size > 0 {
        // SAFETY: the callers name ranges that they took here and that nobody uses any more.
        unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(start as usize), size as usize) };
    }
}

/// Fresh memory, at a place of its own.
pub fn make(size: u64) -> Option<u64> {
    // SAFETY: without MAP_FIXED nothing is replaced.
    let home = unsafe { map_pages(0, size, BYTES, RESERVED, -1) }?;
    let fresh = FRESH.as_ref().filter(|_| config().unkind.pattern);
    for (at, length) in parts(size).filter(|(_, length)| *length == GRANULARITY) {
        let Some(fresh) = fresh else { break };
        let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: the range is a part of the mapping made above.
        let mapped = unsafe { map_pages(home + at, length, BYTES, flags, fresh.as_raw_fd()) };
        if mapped.is_none() {
            give(home, size);
            return None;
        }
    }
    Some(home)
}

/// Physical memory in parts that the kernel keeps apart: granules at both ends, and what lies between.
fn parts(size: u64) -> impl Iterator<Item = (u64, u64)> {
    let granules = size / GRANULARITY;
    let (head, tail) = (granules.min(PATTERN_GRANULES), granules.saturating_sub(PATTERN_GRANULES));
    let tail = tail.max(head);
    let middle = (tail > head).then_some((head * GRANULARITY, (tail - head) * GRANULARITY));
    let single = |range: std::ops::Range<u64>| range.map(|at| (at * GRANULARITY, GRANULARITY));
    single(0..head).chain(middle).chain(single(tail..granules))
}

/// Moves memory to addresses that are reserved.
pub fn move_to(from: u64, to: u64, size: u64) -> bool {
    parts(size).all(|(at, length)| {
        let old = std::ptr::with_exposed_provenance_mut((from + at) as usize);
        let new = std::ptr::with_exposed_provenance_mut::<std::ffi::c_void>((to + at) as usize);
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: both ranges were mapped here for this memory, and nothing else lies there.
        let moved = unsafe { libc::mremap(old, length as usize, length as usize, flags, new) };
        moved != libc::MAP_FAILED
    })
}

/// Moves mapped memory to a new home; 0 when there is no room.
pub fn take_home(from: u64, size: u64) -> u64 {
    // SAFETY: without MAP_FIXED nothing is replaced.
    let home = unsafe { map_pages(0, size, libc::PROT_NONE, RESERVED, -1) };
    home.filter(|home| move_to(from, *home, size)).unwrap_or(0)
}

/// Leaves addresses reserved without what was mapped there. They stay readable, so that a kernel that still runs, against
/// the rules, finds zeros instead of ending the process.
pub fn clear(start: u64, size: u64) {
    // SAFETY: the range was mapped here, and what lies there has no owner any more.
    let _ = unsafe { map_pages(start, size, BYTES, RESERVED | libc::MAP_FIXED, -1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_memory_of_any_size_once() {
        for granules in 1..20 {
            let mut end = 0;
            for (at, length) in parts(granules * GRANULARITY) {
                assert_eq!(at, end);
                end += length;
            }
            assert_eq!(end, granules * GRANULARITY, "{granules} granules");
        }
    }
}
