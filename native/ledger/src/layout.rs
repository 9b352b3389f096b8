//! Where the numbers stand in the file: a 64-byte header, then for each device a row of all slots, so that
//! the sum over the slots of a device is one read.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::LedgerError;

/// Most GPUs of one session.
pub const MAX_DEVICES: u32 = 64;
/// Most workers of one session; keeps a row at 32 KiB.
pub const MAX_SLOTS: u32 = 4096;

const MAGIC: [u8; 8] = *b"FPLEDGR1";
const HEADER_BYTES: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) devices: u32,
    pub(crate) slots: u32,
}

impl Layout {
    pub(crate) fn new(devices: u32, slots: u32) -> Result<Layout, LedgerError> {
        if (1..=MAX_DEVICES).contains(&devices) && (1..=MAX_SLOTS).contains(&slots) {
            Ok(Layout { devices, slots })
        } else {
            Err(LedgerError::Shape { devices, slots })
        }
    }

    pub(crate) fn bytes(self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.devices) * u64::from(self.slots) * 8
    }

    pub(crate) fn row_bytes(self) -> usize {
        self.slots as usize * 8
    }

    pub(crate) fn header(self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&self.devices.to_le_bytes());
        header[12..16].copy_from_slice(&self.slots.to_le_bytes());
        header
    }

    pub(crate) fn check_slot(self, slot: u32) -> Result<(), LedgerError> {
        if slot < self.slots { Ok(()) } else { Err(LedgerError::UnknownSlot { slot, slots: self.slots }) }
    }

    pub(crate) fn offset(self, device: u32, slot: u32) -> Result<u64, LedgerError> {
        self.check_slot(slot)?;
        if device >= self.devices {
            return Err(LedgerError::UnknownDevice { device, devices: self.devices });
        }
        Ok(HEADER_BYTES as u64 + (u64::from(device) * u64::from(self.slots) + u64::from(slot)) * 8)
    }
}

/// Reads and checks the header of a file of `length` bytes.
pub(crate) fn read_header(file: &File, length: u64) -> Result<Layout, LedgerError> {
    if length < HEADER_BYTES as u64 {
        return Err(LedgerError::Corrupt { reason: "the file is shorter than a header" });
    }
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0).map_err(LedgerError::io_std("read the header"))?;
    if header[..8] != MAGIC {
        return Err(LedgerError::Corrupt { reason: "the file does not begin with FPLEDGR1" });
    }
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let layout = Layout::new(word(8), word(12))
        .map_err(|_| LedgerError::Corrupt { reason: "the counts are out of range" })?;
    if header != layout.header() {
        return Err(LedgerError::Corrupt { reason: "reserved bytes of the header are set" });
    }
    if layout.bytes() != length {
        return Err(LedgerError::Corrupt { reason: "the file's length does not match its counts" });
    }
    Ok(layout)
}
