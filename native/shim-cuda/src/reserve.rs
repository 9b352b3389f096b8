//! Addresses of device memory outside the window (that of pools, and all where there is no window) are taken in this process
//! too, so that no host memory can ever have the same ones: CUDA tells host and device pointers apart by their value alone.
//!
//! The worker's driver chose them without knowing this process, so they may be in use here already. Only whole pages
//! inside an allocation are taken; the pages at its ends may hold neighbours.

use std::ffi::c_void;

/// Bytes of a page.
const PAGE: u64 = 4096;

fn whole_pages(start: u64, length: u64) -> Option<(*mut c_void, usize)> {
    let first = start.checked_next_multiple_of(PAGE)?;
    let end = start.checked_add(length)? / PAGE * PAGE;
    let bytes = usize::try_from(end.checked_sub(first)?).ok().filter(|bytes| *bytes > 0)?;
    Some((std::ptr::without_provenance_mut(usize::try_from(first).ok()?), bytes))
}

/// Takes the addresses of an allocation; `false` when something of this process lies there.
pub fn take(start: u64, length: u64) -> bool {
    let Some((address, bytes)) = whole_pages(start, length) else { return true };
    // SAFETY: MAP_FIXED_NOREPLACE never replaces a mapping; the new one is inaccessible and costs no memory.
    let mapped = unsafe {
        libc::mmap(
            address,
            bytes,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        // Kernels that refuse such a mapping for another reason (a limit on address space) must not stop a program.
        return std::io::Error::last_os_error().raw_os_error() != Some(libc::EEXIST);
    }
    if mapped != address {
        // A kernel before 4.17 takes the address as a hint, and something lies there.
        // SAFETY: the mapping was made just now and nobody knows it.
        unsafe { libc::munmap(mapped, bytes) };
        return false;
    }
    true
}

/// Gives the addresses of a freed allocation back.
pub fn give(start: u64, length: u64) {
    if let Some((address, bytes)) = whole_pages(start, length) {
        // SAFETY: these pages were taken by `take` for this allocation, and nothing else can lie there since.
        unsafe { libc::munmap(address, bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_use_are_refused_and_free_ones_can_be_taken_once() {
        let memory = vec![0u8; 1 << 20];
        assert!(!take(memory.as_ptr().addr() as u64, memory.len() as u64), "memory of this process");
        let free = 0x6000_0000_0100;
        assert!(take(free, 1 << 20));
        assert!(!take(free + 0x2000, 0x4000), "taken already");
        give(free, 1 << 20);
        assert!(take(free + 0x2000, 0x4000));
        give(free + 0x2000, 0x4000);
        assert!(take(free, 100), "an allocation inside a page takes none");
    }
}
