//! What each simulated GPU is called, and where it is.

use crate::config::config;

/// What `cuDriverGetVersion` answers.
pub const DRIVER_VERSION: i32 = 13000;
/// Compute capability 8.0.
pub const CAPABILITY: (i32, i32) = (8, 0);
/// What every device is called, but for a suffix.
pub const NAME: &str = "Farpool Simulated GPU";

/// The whole name.
pub fn name() -> String {
    match config().name_suffix.as_str() {
        "" => NAME.to_owned(),
        suffix => format!("{NAME} {suffix}"),
    }
}

/// PCI bus number of device `physical`; domain and device number are 0.
pub fn pci_bus(physical: usize) -> i32 {
    i32::try_from(physical).unwrap_or(0) + 1
}

/// The UUID of device `index`: stable per machine (or FARPOOL_SIMGPU_SEED) and index.
pub fn uuid_of(index: usize) -> [u8; 16] {
    let mut uuid = [0; 16];
    for (half, bytes) in uuid.chunks_mut(8).enumerate() {
        // FNV-1a: spread, not secrecy, is what a UUID needs.
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in config().seed.bytes().chain([b'/', index as u8, half as u8]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        bytes.copy_from_slice(&(hash ^ (hash >> 29)).to_be_bytes());
    }
    uuid[6] = (uuid[6] & 0x0f) | 0x80;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_differ_per_device_and_stay() {
        assert_ne!(uuid_of(0), uuid_of(1));
        assert_eq!(uuid_of(0), uuid_of(0));
    }
}
