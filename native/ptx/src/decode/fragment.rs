//! Accesses of a lane to the elements of a matrix that it holds.

use super::memory::{by_space, offset_address};
use super::{Decode, unsupported};
use crate::error::FaultKind;
use crate::memory::{GENERIC, GLOBAL, LOCAL, Memory, PARAM, SHARED, Trouble, Word};
use crate::program::{Args, MemoryOp};

/// Packs neighbours of a matrix that lie a leading dimension (elements, in slot b) apart.
fn gather<const SPACE: u8, W: Word, const N: usize>(
    s: &mut [u64],
    x: &Args,
    memory: &mut Memory<'_, '_>,
) -> Result<(), Trouble> {
    let step = u64::from(s[x.b as usize] as u32).wrapping_mul(W::SIZE);
    let mut packed = 0;
    for index in 0..N as u64 {
        let base = s[x.a as usize].wrapping_add(index.wrapping_mul(step));
        let [word] = memory.read::<SPACE, W, 1>(offset_address::<SPACE>(base, x.imm))?;
        packed |= word.to_slot() << (8 * W::SIZE * index);
    }
    s[x.d as usize] = packed;
    Ok(())
}

fn scatter<const SPACE: u8, W: Word, const N: usize>(
    s: &mut [u64],
    x: &Args,
    memory: &mut Memory<'_, '_>,
) -> Result<(), Trouble> {
    let step = u64::from(s[x.b as usize] as u32).wrapping_mul(W::SIZE);
    for index in 0..N as u64 {
        let base = s[x.a as usize].wrapping_add(index.wrapping_mul(step));
        let word = W::from_slot(s[x.d as usize] >> (8 * W::SIZE * index));
        memory.write::<SPACE, W, 1>(offset_address::<SPACE>(base, x.imm), [word])?;
    }
    Ok(())
}

pub(super) fn by_element(space: u8, bits: u32, is_load: bool) -> Decode<MemoryOp> {
    Ok(match (bits, is_load) {
        (16, true) => by_space!(space; S => gather::<S, u16, 2> as MemoryOp),
        (16, false) => by_space!(space; S => scatter::<S, u16, 2> as MemoryOp),
        (8, true) => by_space!(space; S => gather::<S, u8, 4> as MemoryOp),
        _ => return unsupported("elements of this size in this order"),
    })
}

/// A lane's part of an 8×8 matrix whose rows start at the addresses in slots a and, if transposed, c.
fn matrix_row<const SPACE: u8, const TRANSPOSED: bool>(
    s: &mut [u64],
    x: &Args,
    memory: &mut Memory<'_, '_>,
) -> Result<(), Trouble> {
    let lane = s[x.b as usize] & 31;
    let aligned = |address: u64| {
        if address.is_multiple_of(16) {
            Ok(address)
        } else {
            Err(Box::new(FaultKind::MisalignedAddress { address, size: 16 }))
        }
    };
    let first = aligned(s[x.a as usize])?;
    s[x.d as usize] = if TRANSPOSED {
        let second = aligned(s[x.c as usize])?;
        let offset = 2 * (lane >> 2);
        let [low] = memory.read::<SPACE, u16, 1>(first.wrapping_add(offset))?;
        let [high] = memory.read::<SPACE, u16, 1>(second.wrapping_add(offset))?;
        u64::from(low) | u64::from(high) << 16
    } else {
        let [word] = memory.read::<SPACE, u32, 1>(first.wrapping_add(4 * (lane & 3)))?;
        u64::from(word)
    };
    Ok(())
}

pub(super) fn matrix_row_op(space: u8, transposed: bool) -> MemoryOp {
    match (space, transposed) {
        (SHARED, false) => matrix_row::<SHARED, false>,
        (SHARED, true) => matrix_row::<SHARED, true>,
        (_, false) => matrix_row::<GENERIC, false>,
        (_, true) => matrix_row::<GENERIC, true>,
    }
}
