//! `cvt`: between all scalar types, and two f32 to a packed pair.

use super::select::{Mods, Ty};
use super::{Decode, Decoder, malformed, unsupported};
use crate::ast::Operand;
use crate::program::{Alu, Args};
use crate::softfloat::{BF16, F16, F32, F64, Format, Real, Rounding, TF32};

fn format(ty: Ty) -> Option<Format> {
    Some(match ty {
        Ty::F16 => F16,
        Ty::Bf16 => BF16,
        Ty::Tf32 => TF32,
        Ty::F32 => F32,
        Ty::F64 => F64,
        _ => return None,
    })
}

/// A conversion packed into the immediate field: source and destination type, rounding, flags.
#[derive(Clone, Copy)]
struct Conversion {
    from: Ty,
    to: Ty,
    rounding: Rounding,
    to_integral: bool,
    ftz: bool,
    sat: bool,
    relu: bool,
}

const TYPES: [Ty; 13] = [
    Ty::U8,
    Ty::U16,
    Ty::U32,
    Ty::U64,
    Ty::S8,
    Ty::S16,
    Ty::S32,
    Ty::S64,
    Ty::F16,
    Ty::Bf16,
    Ty::Tf32,
    Ty::F32,
    Ty::F64,
];
const ROUNDINGS: [Rounding; 5] =
    [Rounding::Nearest, Rounding::Zero, Rounding::Down, Rounding::Up, Rounding::NearestAway];

impl Conversion {
    fn encode(self) -> i64 {
        let ty = |ty: Ty| TYPES.iter().position(|known| *known == ty).unwrap_or(0) as i64;
        let rounding = ROUNDINGS.iter().position(|known| *known == self.rounding).unwrap_or(0) as i64;
        let flags = [self.to_integral, self.ftz, self.sat, self.relu];
        let flags = flags.iter().rev().fold(0, |all, &flag| all << 1 | i64::from(flag));
        ty(self.from) | ty(self.to) << 4 | rounding << 8 | flags << 12
    }

    fn decode(imm: i64) -> Self {
        Self {
            from: TYPES[(imm & 15) as usize % TYPES.len()],
            to: TYPES[(imm >> 4 & 15) as usize % TYPES.len()],
            rounding: ROUNDINGS[(imm >> 8 & 15) as usize % ROUNDINGS.len()],
            to_integral: imm >> 12 & 1 != 0,
            ftz: imm >> 13 & 1 != 0,
            sat: imm >> 14 & 1 != 0,
            relu: imm >> 15 & 1 != 0,
        }
    }

    fn run(self, bits: u64) -> u64 {
        match (format(self.from), format(self.to)) {
            (None, None) => self.store_integer(read_integer(bits, self.from), self.sat),
            (None, Some(to)) => {
                self.saturate(Real::from_integer(read_integer(bits, self.from)).pack(to, self.rounding))
            }
            (Some(from), None) => self.float_to_integer(self.flush(bits, self.from), from),
            (Some(from), Some(to)) => {
                let bits = self.flush(bits, self.from);
                let mut real = Real::unpack(
                    bits & if from == F64 { u64::MAX } else { (1 << self.from.bits()) - 1 },
                    from,
                );
                if self.to_integral {
                    real = integral(real, self.rounding);
                }
                if self.relu && matches!(real, Real::Finite { negative: true, .. } | Real::Infinity(true)) {
                    real = Real::from_integer(0);
                }
                // TF32 is an f32 whose low fraction bits are zero.
                let shift = if self.to == Ty::Tf32 { 13 } else { 0 };
                self.saturate(self.flush(real.pack(to, self.rounding) << shift, self.to))
            }
        }
    }

    fn flush(self, bits: u64, ty: Ty) -> u64 {
        if self.ftz && ty == Ty::F32 && bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits }
    }

    fn saturate(self, bits: u64) -> u64 {
        let Some(format) = format(self.to).filter(|_| self.sat) else { return bits };
        let real = Real::unpack(bits, format);
        match real {
            Real::Finite { negative: false, .. } | Real::Infinity(false) => {
                let one = Real::from_integer(1).pack(format, Rounding::Nearest);
                bits.min(one)
            }
            _ => 0,
        }
    }

    fn float_to_integer(self, bits: u64, from: Format) -> u64 {
        let width = self.to.bits();
        let (low, high) = limits(self.to);
        match Real::unpack(bits & if from == F64 { u64::MAX } else { (1 << self.from.bits()) - 1 }, from) {
            // NaN: zero, or the top bit when a 64-bit type is involved.
            Real::Nan if self.from == Ty::F64 || width == 64 => {
                self.store_integer(1i128 << (width - 1), false)
            }
            Real::Nan => 0,
            Real::Infinity(negative) => self.store_integer(if negative { low } else { high }, false),
            real => {
                let Real::Finite { negative, mantissa, exponent, .. } = integral(real, self.rounding) else {
                    return 0;
                };
                let magnitude = if mantissa == 0 {
                    0
                } else if exponent > 70 || (exponent > 0 && mantissa.leading_zeros() as i32 <= exponent + 1) {
                    i128::MAX
                } else if exponent >= 0 {
                    (mantissa << exponent) as i128
                } else {
                    (mantissa >> -exponent) as i128
                };
                let value = if negative { -magnitude } else { magnitude };
                self.store_integer(value.clamp(low, high), false)
            }
        }
    }

    fn store_integer(self, value: i128, sat: bool) -> u64 {
        let (low, high) = limits(self.to);
        let value = if sat { value.clamp(low, high) } else { value };
        match self.to {
            Ty::U8 => u64::from(value as u8),
            Ty::S8 => value as i8 as i64 as u64,
            Ty::U16 => u64::from(value as u16),
            Ty::S16 => value as i16 as i64 as u64,
            Ty::U32 => u64::from(value as u32),
            Ty::S32 => value as i32 as i64 as u64,
            _ => value as u64,
        }
    }
}

fn limits(ty: Ty) -> (i128, i128) {
    let bits = ty.bits().min(64);
    if ty.is_signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

fn read_integer(bits: u64, ty: Ty) -> i128 {
    match ty {
        Ty::U8 => i128::from(bits as u8),
        Ty::S8 => i128::from(bits as i8),
        Ty::U16 => i128::from(bits as u16),
        Ty::S16 => i128::from(bits as i16),
        Ty::U32 => i128::from(bits as u32),
        Ty::S32 => i128::from(bits as i32),
        Ty::S64 => i128::from(bits as i64),
        _ => i128::from(bits),
    }
}

/// Rounds to an integral value.
fn integral(real: Real, rounding: Rounding) -> Real {
    let Real::Finite { negative, mantissa, exponent, .. } = real else { return real };
    if exponent >= 0 || mantissa == 0 {
        return real;
    }
    let cut = -exponent;
    let (whole, half, rest) = if cut > 120 {
        (0, false, true)
    } else {
        let below = mantissa & ((1u128 << cut) - 1);
        let half = 1u128 << (cut - 1);
        (mantissa >> cut, below & half != 0, below & (half - 1) != 0)
    };
    let up = match rounding {
        Rounding::Nearest => half && (rest || whole & 1 == 1),
        Rounding::NearestAway => half,
        Rounding::Zero => false,
        Rounding::Down => negative && (half || rest),
        Rounding::Up => !negative && (half || rest),
    };
    Real::Finite { negative, mantissa: whole + u128::from(up), exponent: 0, sticky: false }
}

fn general(s: &mut [u64], x: &Args) {
    s[x.d as usize] = Conversion::decode(x.imm).run(s[x.a as usize]);
}

/// For a 32-bit destination register the slot's upper half stays clear.
fn general_narrow(s: &mut [u64], x: &Args) {
    s[x.d as usize] = Conversion::decode(x.imm).run(s[x.a as usize]) & 0xffff_ffff;
}

/// Two f32 to a pair: a becomes the upper half.
fn pair(s: &mut [u64], x: &Args) {
    let conversion = Conversion::decode(x.imm);
    let (high, low) = (conversion.run(s[x.a as usize]), conversion.run(s[x.b as usize]));
    s[x.d as usize] = (high & 0xffff) << 16 | low & 0xffff;
}

/// The common conversions, without the detour through exact arithmetic.
fn fast(from: Ty, to: Ty, conversion: &Conversion) -> Option<Alu> {
    if conversion.sat || conversion.relu || conversion.ftz {
        return None;
    }
    let nearest = conversion.rounding == Rounding::Nearest && !conversion.to_integral;
    Some(match (from, to) {
        (Ty::U32, Ty::U64 | Ty::S64) => alu!(|a: u32| -> u64 { u64::from(a) }),
        (Ty::S32, Ty::S64 | Ty::U64) => alu!(|a: i32| -> i64 { i64::from(a) }),
        (Ty::U64 | Ty::S64 | Ty::U32 | Ty::S32, Ty::U32 | Ty::S32) => alu!(|a: u32| -> u32 { a }),
        (Ty::U8, _) if !to.is_float() && to != Ty::S8 => alu!(|a: u8| -> u8 { a }),
        (Ty::U16, Ty::U16 | Ty::U32 | Ty::S32 | Ty::U64 | Ty::S64) => alu!(|a: u16| -> u16 { a }),
        (_, Ty::U16) if !from.is_float() && from.bits() >= 16 => alu!(|a: u16| -> u16 { a }),
        (Ty::S32, Ty::F32) if nearest => alu!(|a: i32| -> f32 { a as f32 }),
        (Ty::U32, Ty::F32) if nearest => alu!(|a: u32| -> f32 { a as f32 }),
        (Ty::S32, Ty::F64) => alu!(|a: i32| -> f64 { f64::from(a) }),
        (Ty::U32, Ty::F64) => alu!(|a: u32| -> f64 { f64::from(a) }),
        (Ty::S64, Ty::F64) if nearest => alu!(|a: i64| -> f64 { a as f64 }),
        (Ty::U64, Ty::F64) if nearest => alu!(|a: u64| -> f64 { a as f64 }),
        (Ty::F32, Ty::S32) if conversion.rounding == Rounding::Zero => alu!(|a: f32| -> i32 { a as i32 }),
        (Ty::F32, Ty::U32) if conversion.rounding == Rounding::Zero => alu!(|a: f32| -> u32 { a as u32 }),
        _ => return None,
    })
}

impl Decoder {
    /// `cvt.pack`: two clamped integers side by side, `a` above `b`, and what `c` has above both.
    fn pack_integers(&mut self, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode {
        let small = mods.take_any(&["u2", "s2"]);
        if !mods.take("sat") {
            return malformed("cvt.pack needs .sat");
        }
        let (bits, signed, rest) = match (small, mods.types()) {
            (Some(small), rest) => (2, small == "s2", rest),
            (None, [first, rest @ ..]) => (first.bits(), first.is_signed() || *first == Ty::S4, rest),
            (None, []) => return malformed("cvt.pack needs types"),
        };
        let sources = match (bits, rest) {
            (16, [Ty::S32]) => 2,
            (2 | 4 | 8, [Ty::S32, Ty::B32]) => 3,
            _ => return malformed("cvt.pack of these types"),
        };
        let imm = i64::from(bits) | i64::from(signed) << 8;
        let args = self.plain(operands, sources)?;
        let alu = alu_imm!(|imm; a: i32, b: i32, c: u32| -> u32 {
            let bits = imm as u32 & 31;
            let (low, high) = if imm >> 8 != 0 { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
            let clamp = |value: i32| value.clamp(low, high) as u32 & ((1 << bits) - 1);
            c.checked_shl(2 * bits).unwrap_or(0) | clamp(a) << bits | clamp(b)
        });
        self.alu(alu, Args { imm, ..args });
        Ok(())
    }

    pub(super) fn convert(
        &mut self,
        opcode: &str,
        operands: &[Operand<'_>],
        mods: &mut Mods<'_>,
    ) -> Decode<bool> {
        if opcode != "cvt" {
            return Ok(false);
        }
        if mods.take("pack") {
            self.pack_integers(operands, mods)?;
            return Ok(true);
        }
        let [to, from] = *mods.types() else { return malformed("cvt needs two types") };
        let integral = mods.take_any(&["rni", "rzi", "rmi", "rpi"]);
        let rounding = match integral {
            Some("rni") => Some(Rounding::Nearest),
            Some("rzi") => Some(Rounding::Zero),
            Some("rmi") => Some(Rounding::Down),
            Some(_) => Some(Rounding::Up),
            None => mods.rounding(),
        };
        let normal = |ty: Ty| match ty {
            Ty::F16x2 => Ty::F16,
            Ty::Bf16x2 => Ty::Bf16,
            Ty::B8 => Ty::U8,
            Ty::B16 => Ty::U16,
            Ty::B32 => Ty::U32,
            Ty::B64 => Ty::U64,
            other => other,
        };
        let mut conversion = Conversion {
            from: normal(from),
            to: normal(to),
            rounding: rounding.unwrap_or(Rounding::Nearest),
            to_integral: integral.is_some() && to.is_float(),
            ftz: mods.take("ftz"),
            sat: mods.take("sat"),
            relu: mods.take("relu"),
        };
        if mods.take("satfinite") || !TYPES.contains(&conversion.from) || !TYPES.contains(&conversion.to) {
            return unsupported("conversion of these types");
        }
        if matches!(to, Ty::F16x2 | Ty::Bf16x2) {
            let args = self.plain(operands, 2)?;
            self.alu(pair, Args { imm: conversion.encode(), ..args });
            return Ok(true);
        }
        if from.is_float() && to.is_float() && from.bits() == to.bits() && rounding.is_none() {
            conversion.rounding = Rounding::Nearest;
        }
        let wide = matches!(operands.first(), Some(Operand::Register { bits: 64, .. }));
        let alu = match fast(conversion.from, conversion.to, &conversion) {
            Some(alu) => alu,
            None if from == Ty::F32 && to == Ty::F64 && !conversion.ftz && !conversion.sat => {
                alu!(|a: f32| -> f64 { f64::from(a) })
            }
            None if from == Ty::F64
                && to == Ty::F32
                && rounding == Some(Rounding::Nearest)
                && !conversion.ftz
                && !conversion.sat =>
            {
                alu!(|a: f64| -> u32 { if a.is_nan() { 0x7fff_ffff } else { (a as f32).to_bits() } })
            }
            None if wide => general,
            None => general_narrow,
        };
        let args = self.plain(operands, 1)?;
        self.alu(alu, Args { imm: conversion.encode(), ..args });
        Ok(true)
    }
}
