//! The address window of a device: which parts of it are free.

use std::collections::BTreeMap;

/// Free ranges of a window, by start. Allocation takes the lowest that fits.
#[derive(Debug)]
pub struct Heap {
    free: BTreeMap<u64, u64>,
}

impl Heap {
    /// All of `start..start + length` is free.
    pub fn new(start: u64, length: u64) -> Self {
        Self { free: BTreeMap::from([(start, length)]) }
    }

    /// Takes `length` bytes at a multiple of `align` (a power of two).
    pub fn allocate(&mut self, length: u64, align: u64) -> Option<u64> {
        let (start, available, at) = self.free.iter().find_map(|(&start, &available)| {
            let at = start.checked_next_multiple_of(align)?;
            (at.checked_add(length)? <= start + available).then_some((start, available, at))
        })?;
        self.free.remove(&start);
        if at > start {
            self.free.insert(start, at - start);
        }
        let rest = start + available - (at + length);
        if rest > 0 {
            self.free.insert(at + length, rest);
        }
        Some(at)
    }

    /// Gives a range back and joins it with its neighbours.
    pub fn release(&mut self, mut start: u64, mut length: u64) {
        if let Some((&before, &before_length)) = self.free.range(..start).next_back()
            && before + before_length == start
        {
            self.free.remove(&before);
            start = before;
            length += before_length;
        }
        if let Some(after_length) = self.free.remove(&(start + length)) {
            length += after_length;
        }
        self.free.insert(start, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_aligned_and_joined_again() {
        let mut heap = Heap::new(0x1000, 0x10000);
        let a = heap.allocate(0x100, 0x100).unwrap();
        let b = heap.allocate(0x2000, 0x2000).unwrap();
        let c = heap.allocate(0x100, 0x100).unwrap();
        assert_eq!((a, b, c), (0x1000, 0x2000, 0x1100));
        heap.release(b, 0x2000);
        heap.release(a, 0x100);
        heap.release(c, 0x100);
        assert_eq!(heap.allocate(0x10000, 1), Some(0x1000));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut heap = Heap::new(0, 0x1000);
        assert_eq!(heap.allocate(0x1001, 1), None);
        assert_eq!(heap.allocate(u64::MAX, 1), None);
    }
}
