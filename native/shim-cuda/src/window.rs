//! The window: addresses that this process and its worker have both reserved, so that device memory lies where this
//! process says, and nothing of this process can ever have the same addresses.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use wire::handshake::{self, SHORTEST_WINDOW};

/// Places for a window, best first. Linux maps programs, libraries, heaps and stacks elsewhere, and so do the address and
/// memory sanitizers and the collectors of Java and Go; the last one has some room in programs with the thread sanitizer.
const PLACES: [u64; 4] = [0x4000_0000_0000, 0x6800_0000_0000, 0x5100_0000_0000, 0x7e80_0000_0000];

/// Windows of the longest length for which there is room behind each of the places but the last.
const ROOM: u64 = 4;

/// Lengths that are tried, the longest first: several times the memory of a server full of the largest GPUs.
const LENGTHS: [u64; 5] = [4 << 40, 1 << 40, 256 << 30, 64 << 30, SHORTEST_WINDOW];

/// A limit on the addresses of this process (`ulimit -v`) leaves the window this part of them.
const LIMIT_SHARE: u64 = 4;

/// Largest granularity that makes sense.
const LARGEST_GRANULARITY: u64 = 1 << 30;

/// Addresses that are reserved in this process, until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    start: u64,
    length: u64,
}

/// What was agreed with the worker, and which of it is free.
#[derive(Debug)]
pub struct Window {
    _reserved: Reservation,
    granularity: u64,
    free: Mutex<Free>,
}

/// Free addresses, as bytes by first address.
#[derive(Debug)]
struct Free {
    ranges: BTreeMap<u64, u64>,
    /// Those that were given back, where the worker may not have unmapped what lay there: who takes them may have to wait.
    resting: Vec<(u64, u64)>,
}

/// All reservations that this process can make for the window of one of `servers`, one after the other. The caller drops one
/// before it asks for the next. With several servers there are [`ROOM`] windows behind each of the places, shorter ones where
/// that is not enough.
pub fn places(servers: u64) -> impl Iterator<Item = Reservation> {
    let sharing = servers.div_ceil(ROOM * (PLACES.len() as u64 - 1)).next_power_of_two();
    let parts = if servers == 1 { 1 } else { ROOM * sharing };
    let longest = LENGTHS[0] / sharing;
    let most = address_limit().map_or(longest, |limit| longest.min(limit / LIMIT_SHARE / servers));
    let lengths = LENGTHS.into_iter().filter(move |length| *length <= most);
    lengths
        .flat_map(move |length| {
            let starts = (0..parts).flat_map(move |part| PLACES.map(|start| start + part * longest));
            starts.map(move |start| (start, length))
        })
        .filter_map(|(start, length)| Reservation::take(start, length))
}

/// `ulimit -v` of this process, in bytes.
fn address_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the place is valid.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } == 0;
    (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

impl Reservation {
    fn take(start: u64, length: u64) -> Option<Reservation> {
        let (address, bytes) = pointer(start, length)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
        // These are system calls, not calls of the C library: the thread sanitizer, which stands before those, moves
        // what it does not expect to address 0.
        // SAFETY: FIXED_NOREPLACE never replaces a mapping; the new one is inaccessible and costs no memory. It was made
        // just now and nobody knows it.
        unsafe {
            let mapped = mmap_anonymous(address, bytes, ProtFlags::empty(), flags).ok()?;
            if mapped != address {
                // A kernel before 4.17 takes the address as a hint.
                let _ = munmap(mapped, bytes);
                return None;
            }
            // A child has no use for it, and nothing lies there that a core file could hold.
            let _ = madvise(mapped, bytes, Advice::LinuxDontFork);
            let _ = madvise(mapped, bytes, Advice::LinuxDontDump);
        }
        Some(Reservation { start, length })
    }

    /// What the worker is asked for.
    pub fn proposal(&self) -> handshake::Window {
        handshake::Window { start: self.start, length: self.length }
    }

    /// The window, if the worker reserved these addresses or the first part of them.
    pub fn agree(mut self, agreed: handshake::Window, granularity: u64) -> Option<Window> {
        let makes_sense = agreed.start == self.start
            && (SHORTEST_WINDOW..=self.length).contains(&agreed.length)
            && granularity.is_power_of_two()
            && (4096..=LARGEST_GRANULARITY).contains(&granularity);
        if !makes_sense {
            return None;
        }
        let rest = self.length - agreed.length;
        self.length = agreed.length;
        unmap(self.start + self.length, rest);
        let ranges = BTreeMap::from([(self.start, self.length)]);
        let free = Mutex::new(Free { ranges, resting: Vec::new() });
        Some(Window { _reserved: self, granularity, free })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        unmap(self.start, self.length);
    }
}

fn pointer(start: u64, length: u64) -> Option<(*mut c_void, usize)> {
    let address = std::ptr::without_provenance_mut(usize::try_from(start).ok()?);
    Some((address, usize::try_from(length).ok()?))
}

fn unmap(start: u64, length: u64) {
    if let Some((address, bytes)) = pointer(start, length).filter(|(_, bytes)| *bytes > 0) {
        // SAFETY: the range is a part of a reservation that ends here; nothing else lies there.
        let _ = unsafe { munmap(address, bytes) };
    }
}

impl Window {
    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory is mapped in multiples of this, a power of two.
    pub fn granularity(&self) -> u64 {
        self.granularity
    }

    /// Takes the lowest `length` bytes of free addresses that begin at a multiple of `alignment`.
    pub fn take(&self, length: u64, alignment: u64) -> Option<u64> {
        let mut free = self.free();
        free.take(length, alignment).or_else(|| {
            for (start, length) in std::mem::take(&mut free.resting) {
                free.give(start, length);
            }
            free.take(length, alignment)
        })
    }

    /// Gives addresses back at which nothing is mapped.
    pub fn give(&self, start: u64, length: u64) {
        self.free().give(start, length);
    }

    /// Gives addresses back after the worker was told to unmap what lies there. They are taken again when there are no others.
    pub fn rest(&self, start: u64, length: u64) {
        self.free().resting.push((start, length));
    }
}

impl Free {
    fn take(&mut self, length: u64, alignment: u64) -> Option<u64> {
        let (start, bytes, at) = self.ranges.iter().find_map(|(start, bytes)| {
            let at = start.checked_next_multiple_of(alignment)?;
            (at.checked_add(length)? <= start + bytes).then_some((*start, *bytes, at))
        })?;
        self.ranges.remove(&start);
        if at > start {
            self.ranges.insert(start, at - start);
        }
        if at + length < start + bytes {
            self.ranges.insert(at + length, start + bytes - (at + length));
        }
        Some(at)
    }

    fn give(&mut self, mut start: u64, mut length: u64) {
        if length == 0 {
            return;
        }
        let before = self.ranges.range(..start).next_back().map(|(at, bytes)| (*at, *bytes));
        if let Some((before, bytes)) = before
            && before + bytes == start
        {
            self.ranges.remove(&before);
            start = before;
            length += bytes;
        }
        if let Some(bytes) = self.ranges.remove(&(start + length)) {
            length += bytes;
        }
        self.ranges.insert(start, length);
    }
}

/// Held by tests that reserve addresses: there are few places.
#[cfg(test)]
pub static TESTING: Mutex<()> = Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    fn alone() -> MutexGuard<'static, ()> {
        TESTING.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const STEP: u64 = 2 << 20;

    fn window() -> Window {
        let reserved = places(1).next().expect("a place in the test's process");
        let agreed = handshake::Window { length: SHORTEST_WINDOW, ..reserved.proposal() };
        reserved.agree(agreed, STEP).expect("a window")
    }

    #[test]
    fn each_place_is_reserved_once_and_free_again_afterwards() {
        let _alone = alone();
        let _one = places(1).next().expect("a place");
        let two = places(1).next().expect("another place");
        let proposal = two.proposal();
        assert!(Reservation::take(proposal.start, SHORTEST_WINDOW).is_none(), "taken");
        drop(two);
        drop(Reservation::take(proposal.start, proposal.length).expect("free again"));
    }

    #[test]
    fn answers_that_make_no_sense_are_no_window() {
        let _alone = alone();
        let answer = |change: fn(&mut handshake::Window, &mut u64)| {
            let reserved = places(1).next().expect("a place");
            let (mut window, mut granularity) = (reserved.proposal(), STEP);
            change(&mut window, &mut granularity);
            reserved.agree(window, granularity).is_some()
        };
        assert!(answer(|_, _| {}));
        assert!(!answer(|window, _| window.length = 0));
        assert!(!answer(|window, _| window.length *= 2));
        assert!(!answer(|window, _| window.start += STEP));
        assert!(!answer(|_, granularity| *granularity = 0));
        assert!(!answer(|_, granularity| *granularity = 3 << 20));
        assert!(!answer(|_, granularity| *granularity = 1 << 40));
    }

    #[test]
    fn addresses_are_aligned_and_joined_again() {
        let _alone = alone();
        let window = window();
        let first = window.take(STEP, STEP).expect("room");
        let second = window.take(64 * STEP, 64 * STEP).expect("room");
        assert_eq!(second, first + 64 * STEP);
        assert_eq!(window.take(STEP, STEP), Some(first + STEP), "the lowest that fits");
        assert_eq!(window.take(SHORTEST_WINDOW, STEP), None);
        for (start, length) in [(second, 64 * STEP), (first, STEP), (first + STEP, STEP)] {
            window.give(start, length);
        }
        assert_eq!(window.take(SHORTEST_WINDOW, STEP), Some(first));
    }

    #[test]
    fn addresses_rest_until_there_are_no_others() {
        let _alone = alone();
        let window = window();
        let first = window.take(STEP, STEP).expect("room");
        window.rest(first, STEP);
        assert_eq!(window.take(STEP, STEP), Some(first + STEP));
        window.give(first + STEP, STEP);
        assert_eq!(window.take(SHORTEST_WINDOW, STEP), Some(first));
    }
}
