//! Ways to damage bytes.

use crate::random::Random;

/// Bits, bytes or a piece changed, taken out, or doubled.
pub fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        bytes.push(random.byte());
    }
    let at = random.below(bytes.len());
    match random.below(7) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.byte(),
        2 => bytes.insert(at, random.byte()),
        3 => drop(bytes.remove(at)),
        4 => bytes.truncate(at),
        5 => {
            let end = at + random.below(bytes.len() - at + 1).min(64);
            bytes.extend_from_within(at..end);
        }
        _ => put_number(bytes, at, random),
    }
}

/// The same for a record's payload, whose fields follow each other in steps of 4 and 8 bytes: mostly another number in one
/// of them, taken from `numbers` (what other records have there) or at an edge.
pub fn damage_payload(payload: &mut Vec<u8>, numbers: &[u64], random: &mut Random) {
    if payload.len() < 4 || random.once_in(4) {
        return damage(payload, random);
    }
    let at = random.below(payload.len().min(256) / 4) * 4;
    if numbers.is_empty() || random.once_in(2) {
        return put_number(payload, at, random);
    }
    put(payload, at, &random.pick(numbers).to_le_bytes());
}

fn put_number(bytes: &mut [u8], at: usize, random: &mut Random) {
    let number = random.edge().to_le_bytes();
    let width = [1, 2, 4, 8][random.below(4)];
    put(bytes, at, &number[..width]);
}

fn put(bytes: &mut [u8], at: usize, number: &[u8]) {
    for (place, byte) in bytes[at..].iter_mut().zip(number) {
        *place = *byte;
    }
}
