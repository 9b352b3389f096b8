//! Video instructions: two or four small integers in a register, or one, with a second operation.

use super::select::{Mods, Ty};
use super::{Decode, Decoder, malformed, unsupported};
use crate::ast::Operand;
use crate::program::Args;

const OPERATIONS: [&str; 7] = ["vadd", "vsub", "vabsdiff", "vmin", "vmax", "vavrg", "vset"];
const COMPARISONS: [&str; 6] = ["eq", "ne", "lt", "le", "gt", "ge"];
const SECOND: [&str; 3] = ["add", "min", "max"];

/// A video instruction packed into the immediate field.
#[derive(Clone, Copy)]
struct Video {
    operation: u8,
    comparison: u8,
    /// 1, 2 or 4 integers.
    lanes: u32,
    /// Destination, a, b.
    signed: [bool; 3],
    saturate: bool,
    /// 0: none, else a place in [`SECOND`] and one.
    second: u8,
}

impl Video {
    fn encode(self) -> i64 {
        let [d, a, b] = self.signed.map(i64::from);
        i64::from(self.operation)
            | i64::from(self.comparison) << 4
            | i64::from(self.lanes) << 8
            | d << 12
            | a << 13
            | b << 14
            | i64::from(self.saturate) << 15
            | i64::from(self.second) << 16
    }

    fn decode(imm: i64) -> Self {
        let flag = |bit: u32| imm >> bit & 1 != 0;
        Self {
            operation: (imm & 15) as u8,
            comparison: (imm >> 4 & 15) as u8,
            lanes: (imm >> 8 & 15) as u32,
            signed: [flag(12), flag(13), flag(14)],
            saturate: flag(15),
            second: (imm >> 16 & 3) as u8,
        }
    }

    fn lane(self, a: i64, b: i64) -> i64 {
        match self.operation {
            0 => a + b,
            1 => a - b,
            2 => (a - b).abs(),
            3 => a.min(b),
            4 => a.max(b),
            5 => (a + b + i64::from(a + b >= 0)) >> 1,
            _ => i64::from(match self.comparison {
                0 => a == b,
                1 => a != b,
                2 => a < b,
                3 => a <= b,
                4 => a > b,
                _ => a >= b,
            }),
        }
    }

    fn run(self, a: u32, b: u32, c: u32) -> u32 {
        let width = 32 / self.lanes.clamp(1, 4);
        let part = |value: u32, lane: u32, signed: bool| {
            let shifted = value << (32 - width * (lane + 1));
            if signed {
                i64::from(shifted as i32 >> (32 - width))
            } else {
                i64::from(shifted >> (32 - width))
            }
        };
        let (mut packed, mut sum) = (0, c);
        for lane in 0..self.lanes {
            let mut value = self.lane(part(a, lane, self.signed[1]), part(b, lane, self.signed[2]));
            if self.saturate {
                value = if self.signed[0] {
                    value.clamp(-(1 << (width - 1)), (1 << (width - 1)) - 1)
                } else {
                    value.clamp(0, (1 << width) - 1)
                };
            }
            packed |= ((value as u32) << (32 - width)) >> (32 - width) << (width * lane);
            sum = sum.wrapping_add(value as u32);
        }
        match (self.second, self.signed[0]) {
            (0, _) => packed,
            (1, _) => sum,
            (2, true) => (packed as i32).min(c as i32) as u32,
            (2, false) => packed.min(c),
            (_, true) => (packed as i32).max(c as i32) as u32,
            (_, false) => packed.max(c),
        }
    }
}

impl Decoder {
    pub(super) fn video(
        &mut self,
        opcode: &str,
        operands: &[Operand<'_>],
        mods: &mut Mods<'_>,
    ) -> Decode<bool> {
        let (name, lanes) = match opcode.strip_suffix(['2', '4']) {
            Some(name) => (name, if opcode.ends_with('2') { 2 } else { 4 }),
            None => (opcode, 1),
        };
        let Some(operation) = OPERATIONS.iter().position(|known| *known == name) else { return Ok(false) };
        let is_set = name == "vset";
        let types = mods.types();
        let signed = |ty: Ty| match ty {
            Ty::S32 => Ok(true),
            Ty::U32 => Ok(false),
            _ => malformed("expected .u32 or .s32"),
        };
        let signed = match *types {
            [a, b] if is_set => [false, signed(a)?, signed(b)?],
            [d, a, b] if !is_set => [signed(d)?, signed(a)?, signed(b)?],
            _ => return malformed("wrong number of types"),
        };
        let comparison = if is_set { COMPARISONS.iter().position(|name| mods.take(name)) } else { Some(0) };
        let Some(comparison) = comparison else { return malformed("vset without a comparison") };
        let saturate = mods.take("sat");
        let second = SECOND.iter().position(|name| mods.take(name)).map_or(0, |index| index as u8 + 1);
        if lanes > 1 && second > 1 {
            return malformed("only .add follows a parallel operation");
        }
        let video = Video {
            operation: operation as u8,
            comparison: comparison as u8,
            lanes,
            signed,
            saturate,
            second,
        };
        let args = match operands.len() {
            3 if lanes == 1 && second == 0 => self.plain(operands, 2)?,
            4 if lanes == 1 && second == 0 => return unsupported("merging into a part of a register"),
            _ => self.plain(operands, 3)?,
        };
        let alu = alu_imm!(|imm; a: u32, b: u32, c: u32| -> u32 { Video::decode(imm).run(a, b, c) });
        self.alu(alu, Args { imm: video.encode(), ..args });
        Ok(true)
    }
}
