//! A device made of host buffers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ptx::{Device, MemoryRange};

/// Buffers that kernels may access, in 64-bit cells.
#[derive(Default)]
pub struct Host {
    buffers: Mutex<Vec<Box<[AtomicU64]>>>,
}

impl Host {
    /// A zeroed buffer; its address.
    pub fn buffer(&self, bytes: usize) -> u64 {
        let cells: Box<[AtomicU64]> = (0..bytes.div_ceil(8) + 2).map(|_| AtomicU64::new(0)).collect();
        let address = (cells.as_ptr().expose_provenance() as u64).next_multiple_of(16);
        self.buffers.lock().expect("no thread panics").push(cells);
        address
    }

    /// A buffer that holds these bytes.
    pub fn filled(&self, bytes: &[u8]) -> u64 {
        let address = self.buffer(bytes.len());
        self.with(address, |cells| {
            for (cell, word) in cells.iter().zip(bytes.chunks_exact(8)) {
                cell.store(u64::from_le_bytes(word.try_into().expect("eight bytes")), Ordering::Relaxed);
            }
        });
        address
    }

    fn with<T>(&self, address: u64, act: impl FnOnce(&[AtomicU64]) -> T) -> T {
        let buffers = self.buffers.lock().expect("no thread panics");
        let found = buffers.iter().find_map(|cells| {
            let start = cells.as_ptr().addr() as u64;
            let inside = (start..start + 8 * cells.len() as u64).contains(&address);
            inside.then(|| &cells[((address - start) / 8) as usize..])
        });
        act(found.expect("an address of a buffer"))
    }

    /// So many words at an address.
    pub fn words(&self, address: u64, count: usize) -> Vec<u32> {
        self.with(address, |cells| {
            let words = cells.iter().flat_map(|cell| {
                let cell = cell.load(Ordering::Relaxed);
                [cell as u32, (cell >> 32) as u32]
            });
            words.take(count).collect()
        })
    }
}

// SAFETY: buffers are boxed atomics that live and stay in place as long as the device.
unsafe impl Device for Host {
    fn range(&self, address: u64) -> Option<MemoryRange> {
        let buffers = self.buffers.lock().expect("no thread panics");
        buffers.iter().find_map(|cells| {
            let start = (cells.as_ptr().addr() as u64).next_multiple_of(16);
            let end = start + 8 * (cells.len() as u64 - 2);
            (start..end).contains(&address).then_some(MemoryRange { start, end, writable: true })
        })
    }
    fn generation(&self) -> u64 {
        0
    }
    fn variable_address(&self, _index: usize) -> u64 {
        0
    }
    fn printf(&self, _text: &[u8]) {}
    fn cancelled(&self) -> bool {
        false
    }
    fn malloc(&self, _size: u64) -> u64 {
        0
    }
    fn free(&self, _address: u64) -> bool {
        false
    }
}
