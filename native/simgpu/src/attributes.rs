//! What `cuDeviceGetAttribute` answers: a modest part of compute capability 8.0.

use crate::config::config;
use crate::device::Device;
use crate::module::{DEFAULT_SHARED, MAX_SHARED};
use crate::occupancy::{SHARED, SHARED_RESERVED};

/// One attribute; `None` for numbers that do not exist.
pub fn attribute(device: &Device, attribute: i32) -> Option<i32> {
    Some(match attribute {
        1..=3 => 1024,       // threads per block, block x and y
        4 => 64,             // block z
        5 => 0x7fff_ffff,    // grid x
        6 | 7 => 65535,      // grid y and z
        8 => DEFAULT_SHARED, // shared memory per block
        9 => 65536,          // constant memory
        10 => 32,            // warp
        11 => 0x7fff_ffff,   // pitch
        12 | 82 => 65536,    // registers per block and per multiprocessor
        13 => 1_410_000,     // clock in kHz
        14 => 512,           // texture alignment
        15 => 1,             // copies overlap
        16 => config().multiprocessors,
        17 | 18 => 0, // no watchdog, not integrated
        19 => 1,      // maps host memory
        20 => 0,      // default compute mode
        21 => 131_072,
        22 => 131_072,
        23 => 65536,
        24..=26 => 16384,
        27 | 28 => 32768,
        29 => 2048,
        30 => 512, // surface alignment
        31 => 1,   // concurrent kernels
        32 => 0,   // ECC
        33 => device.pci_bus(),
        34 => 0, // PCI device
        35 => 0,
        36 => 1_215_000, // memory clock in kHz
        37 => 5120,      // bus width
        38 => 4 << 20,   // L2
        39 => 2048,      // threads per multiprocessor
        40 => 2,         // copy engines
        41 => 1,         // unified addressing
        42 => 32768,
        43 => 2048,
        44 => 1,
        45 | 46 => 32768,
        47..=49 => 8192,
        50 => 0,  // PCI domain
        51 => 32, // texture pitch alignment
        52 | 53 => 32768,
        54 => 2046,
        55 => 32768,
        56 => 131_072,
        57 => 65536,
        58..=60 => 16384,
        61 | 63 | 64 | 66 | 67 => 32768,
        62 | 65 => 2048,
        68 => 2046,
        69 => 268_435_456,
        70 | 73 | 77 => 131_072,
        71 => 65000,
        72 => 2_097_120,
        74 => 65536,
        75 => 8, // compute capability
        76 => 0,
        78..=80 => 1, // priorities, L1 caches
        81 => i32::try_from(SHARED).unwrap_or(0),
        83 => 1, // managed memory
        84 => 0, // multi-GPU board
        85 => device.ordinal,
        86 => 0,      // no native host atomics
        87 => 2,      // single to double
        88 | 89 => 0, // no pageable access, no concurrent managed access
        90 => 0,      // compute preemption
        91 => 1,      // registered memory at its host address
        92..=94 => 0, // no stream memory operations yet
        95 => 1,      // cooperative launch
        96 => 0,
        97 => MAX_SHARED,
        98 => 0,
        99 => 1, // host register
        100 | 101 => 0,
        102 => i32::from(config().virtual_memory),
        103..=105 => 0, // physical memory is shared with nobody
        106 => 32,      // blocks per multiprocessor
        107 => 0,
        108 | 109 => 0,
        110 => 0,
        111 => i32::try_from(SHARED_RESERVED).unwrap_or(0),
        112 => 0,
        113 => 0,
        114 => 0,
        115 => 1, // memory pools
        116..=118 => 0,
        119 => 0,        // pools share nothing
        126 => 1,        // memory synchronisation domains
        131 | 134 => -1, // no NUMA node
        120..=147 => 0,
        _ => return None,
    })
}
