//! The check by which NVIDIA's runtime library (`cudart`) decides whether it talks to a driver it knows.
//!
//! `cudart` calls it three times at first use and refuses to start (error 103) on a wrong answer, so a drop-in
//! `libcuda.so.1` has to answer it. It is implemented for interoperability only and lives in this one file.
//! The answer is an HMAC-MD2 over facts of the calling process, which is why it cannot be computed elsewhere.

use hmac::{KeyInit, Mac, SimpleHmac};
use md2::Md2;

/// What the driver library says about a device, here and in `cuDeviceGetUuid` and `cuDeviceGetAttribute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// The bytes of the `CUuuid`.
    pub uuid: [u8; 16],
    /// PCI domain id.
    pub pci_domain: i32,
    /// PCI bus id.
    pub pci_bus: i32,
    /// PCI device (slot) id.
    pub pci_device: i32,
}

/// The facts the answer depends on.
#[derive(Debug, Clone, Copy)]
pub struct IntegrityFacts<'a> {
    /// What `cuDriverGetVersion` answers.
    pub driver_version: u32,
    /// Process id of the caller.
    pub process_id: u32,
    /// `pthread_self()` of the caller; the low 32 bits count.
    pub thread: u64,
    /// Address of the cudart-interface table.
    pub cudart_table: u64,
    /// Address of the integrity table.
    pub integrity_table: u64,
    /// Address of the check function itself.
    pub check_function: u64,
    /// All devices, in order.
    pub devices: &'a [DeviceIdentity],
}

const KEY: [u8; 16] =
    [0x14, 0x6A, 0xDD, 0xAE, 0x53, 0xA9, 0xA7, 0x52, 0xAA, 0x08, 0x41, 0x36, 0x0B, 0xF5, 0x5A, 0x9F];

/// The second half of both constant answers.
const CONSTANT_TAIL: u64 = 0x8ED3_83AA_1F4C_D1E8;

/// Answers the check for `version` (the runtime's version plus 0, 1 or 2) and the time the caller passed.
#[must_use]
pub fn answer(version: u32, unix_seconds: u64, facts: &IntegrityFacts<'_>) -> [u8; 16] {
    match version % 10 {
        0 => constant(0x3341_181C_03CB_675C),
        1 => constant(0x1841_181C_03CB_675C),
        _ => keyed(version, unix_seconds, facts),
    }
}

fn constant(head: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&head.to_le_bytes());
    bytes[8..].copy_from_slice(&CONSTANT_TAIL.to_le_bytes());
    bytes
}

fn keyed(version: u32, unix_seconds: u64, facts: &IntegrityFacts<'_>) -> [u8; 16] {
    let mut message = Vec::with_capacity(48 + facts.devices.len() * 28);
    message.extend_from_slice(&facts.driver_version.to_le_bytes());
    message.extend_from_slice(&version.to_le_bytes());
    message.extend_from_slice(&facts.process_id.to_le_bytes());
    // Only the low half of the thread's handle counts.
    message.extend_from_slice(&facts.thread.to_le_bytes()[..4]);
    message.extend_from_slice(&facts.cudart_table.to_le_bytes());
    message.extend_from_slice(&facts.integrity_table.to_le_bytes());
    message.extend_from_slice(&facts.check_function.to_le_bytes());
    message.extend_from_slice(&unix_seconds.to_le_bytes());
    for device in facts.devices {
        message.extend_from_slice(&device.uuid);
        message.extend_from_slice(&device.pci_domain.to_le_bytes());
        message.extend_from_slice(&device.pci_bus.to_le_bytes());
        message.extend_from_slice(&device.pci_device.to_le_bytes());
    }
    hmac_md2(&KEY, &message)
}

/// HMAC (RFC 2104) over MD2, whose block is 16 bytes: `SimpleHmac` takes the block size from the digest.
fn hmac_md2(key: &[u8; 16], message: &[u8]) -> [u8; 16] {
    let Ok(mut mac) = SimpleHmac::<Md2>::new_from_slice(key) else {
        unreachable!("HMAC takes keys of any length");
    };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use md2::Digest;

    fn facts(devices: &[DeviceIdentity]) -> IntegrityFacts<'_> {
        IntegrityFacts {
            driver_version: 13000,
            process_id: 4242,
            thread: 0x7f00_1234_5678,
            cudart_table: 0x1000,
            integrity_table: 0x2000,
            check_function: 0x3000,
            devices,
        }
    }

    #[test]
    fn versions_ending_in_zero_and_one_answer_the_constants() {
        let zero = answer(13000, 1, &facts(&[]));
        let one = answer(13001, 1, &facts(&[]));
        assert_eq!(zero[..8], 0x3341_181C_03CB_675C_u64.to_le_bytes());
        assert_eq!(one[..8], 0x1841_181C_03CB_675C_u64.to_le_bytes());
        assert_eq!(zero[8..], one[8..]);
    }

    #[test]
    fn the_mac_is_rfc_2104_with_a_16_byte_block() {
        let message = b"what the runtime asks";
        let mut inner = Vec::from(KEY.map(|byte| byte ^ 0x36));
        inner.extend_from_slice(message);
        let mut outer = Vec::from(KEY.map(|byte| byte ^ 0x5c));
        outer.extend_from_slice(&Md2::digest(&inner));
        let expected: [u8; 16] = Md2::digest(&outer).into();
        assert_eq!(hmac_md2(&KEY, message), expected);
    }

    #[test]
    fn md2_is_the_digest_of_rfc_1319() {
        let digest: [u8; 16] = Md2::digest(b"abc").into();
        assert_eq!(
            digest,
            [0xda, 0x85, 0x3b, 0x0d, 0x3f, 0x88, 0xd9, 0x9b, 0x30, 0x28, 0x3a, 0x69, 0xe6, 0xde, 0xd6, 0xbb]
        );
    }

    #[test]
    fn every_fact_changes_the_answer() {
        let device = DeviceIdentity { uuid: [7; 16], pci_domain: 0, pci_bus: 1, pci_device: 0 };
        let devices = [device];
        let base = answer(13002, 1, &facts(&devices));
        let other_bus = [DeviceIdentity { pci_bus: 2, ..device }];
        assert_ne!(base, answer(13002, 2, &facts(&devices)));
        assert_ne!(base, answer(13002, 1, &facts(&other_bus)));
        assert_ne!(base, answer(13002, 1, &facts(&[])));
        assert_ne!(base, answer(13002, 1, &IntegrityFacts { process_id: 1, ..facts(&devices) }));
    }

    #[test]
    fn only_the_low_half_of_the_thread_counts() {
        let wide = IntegrityFacts { thread: 0x1_0000_0005, ..facts(&[]) };
        let narrow = IntegrityFacts { thread: 5, ..facts(&[]) };
        assert_eq!(answer(13002, 9, &wide), answer(13002, 9, &narrow));
    }
}
