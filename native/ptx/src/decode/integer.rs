//! Integer arithmetic, logic, shifts, bit fields and comparisons.

use super::meaning::{Logic, Meaning};
use super::select::{Mods, Ty};
use super::{Decode, Decoder, malformed, unsupported};
use crate::ast::{Operand, Slot};
use crate::program::{Alu, Args, Op};

/// What the macros below need of the integer types.
trait Whole: Copy + Ord {
    type Wide;
    fn high(self, other: Self) -> Self;
    fn wide(self, other: Self) -> Self::Wide;
    fn divide(self, other: Self) -> Self;
    fn remainder(self, other: Self) -> Self;
}

macro_rules! whole {
    ($($type:ty, $wide:ty, $ones:expr;)*) => {$(
        impl Whole for $type {
            type Wide = $wide;
            fn high(self, other: Self) -> Self {
                ((self as $wide * other as $wide) >> <$type>::BITS) as $type
            }
            fn wide(self, other: Self) -> $wide {
                self as $wide * other as $wide
            }
            // Division by zero is undefined in PTX; hardware answers with all bits set.
            fn divide(self, other: Self) -> Self {
                if other == 0 { $ones } else { self.wrapping_div(other) }
            }
            fn remainder(self, other: Self) -> Self {
                if other == 0 { self } else { self.wrapping_rem(other) }
            }
        }
    )*};
}

whole! {
    u16, u32, u16::MAX; i16, i32, -1; u32, u64, u32::MAX; i32, i64, -1; u64, u128, u64::MAX; i64, i128, -1;
}

/// Shift amounts above the width give zero, or copies of the sign.
macro_rules! shift_left {
    ($T:ty) => {
        alu!(|a: $T, b: u32| -> $T { if b >= <$T>::BITS { 0 } else { a << b } })
    };
}
macro_rules! shift_right {
    ($T:ty) => {
        alu!(|a: $T, b: u32| -> $T { a >> b.min(<$T>::BITS - 1) >> u32::from(b >= <$T>::BITS) })
    };
}

fn comparison(name: &str, ty: Ty) -> Decode<Alu> {
    let unsigned = ty.unsigned();
    Ok(match name {
        "eq" => by_width!(ty; T => alu!(|a: T, b: T| -> bool { a == b })),
        "ne" => by_width!(ty; T => alu!(|a: T, b: T| -> bool { a != b })),
        "lt" => by_integer!(ty; T => alu!(|a: T, b: T| -> bool { a < b })),
        "le" => by_integer!(ty; T => alu!(|a: T, b: T| -> bool { a <= b })),
        "gt" => by_integer!(ty; T => alu!(|a: T, b: T| -> bool { a > b })),
        "ge" => by_integer!(ty; T => alu!(|a: T, b: T| -> bool { a >= b })),
        "lo" => by_width!(unsigned; T => alu!(|a: T, b: T| -> bool { a < b })),
        "ls" => by_width!(unsigned; T => alu!(|a: T, b: T| -> bool { a <= b })),
        "hi" => by_width!(unsigned; T => alu!(|a: T, b: T| -> bool { a > b })),
        "hs" => by_width!(unsigned; T => alu!(|a: T, b: T| -> bool { a >= b })),
        _ => return malformed(format!("no comparison .{name} for integers")),
    })
}

/// Joins the results of comparisons.
pub(super) fn combination(name: &str) -> Alu {
    match name {
        "and" => alu!(|a: bool, b: bool| -> bool { a & b }),
        "or" => alu!(|a: bool, b: bool| -> bool { a | b }),
        _ => alu!(|a: bool, b: bool| -> bool { a ^ b }),
    }
}

fn lop3(a: u32, b: u32, c: u32, table: i64) -> u32 {
    (0..8).filter(|bit| table >> bit & 1 != 0).fold(0, |result, bit| {
        let pick = |value: u32, mask: u32| if bit & mask != 0 { value } else { !value };
        result | (pick(a, 4) & pick(b, 2) & pick(c, 1))
    })
}

fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
    let pick = |lane: u32| {
        let control = selector >> (4 * lane) & 15;
        let byte = bytes[(control & 7) as usize];
        if control & 8 != 0 { if byte & 0x80 != 0 { 0xff } else { 0 } } else { byte }
    };
    u32::from_le_bytes([pick(0), pick(1), pick(2), pick(3)])
}

fn permute_mode(a: u32, b: u32, c: u32, mode: i64) -> u32 {
    let c = c & 3;
    let selector = match mode {
        0 => [0x3210, 0x4321, 0x5432, 0x6543][c as usize],
        1 => [0x5670, 0x6701, 0x7012, 0x0123][c as usize],
        2 => 0x1111 * c,
        3 => [0x3210, 0x3211, 0x3222, 0x3333][c as usize],
        4 => [0x0000, 0x1110, 0x2210, 0x3210][c as usize],
        _ => [0x1010, 0x3232, 0x1010, 0x3232][c as usize],
    };
    permute(a, b, selector)
}

fn bit_field(position: u32, length: u32, bits: u32) -> u64 {
    let (position, length) = (position & 255, length & 255);
    if position >= bits {
        return 0;
    }
    let length = length.min(bits - position);
    if length >= 64 { u64::MAX << position } else { ((1 << length) - 1) << position }
}

fn extract_field(value: u64, position: u32, length: u32, bits: u32, signed: bool) -> u64 {
    let (position, length) = (position & 255, length & 255);
    if length == 0 {
        return 0;
    }
    let sign_at = position.saturating_add(length - 1).min(bits - 1);
    let negative = signed && value >> sign_at & 1 != 0;
    let mut field = if position >= bits { 0 } else { value >> position };
    let valid = bits.saturating_sub(position).min(length);
    if valid < 64 {
        field &= (1 << valid) - 1;
        if negative {
            field |= u64::MAX << valid;
        }
    }
    field
}

fn find_leading(value: u64, signed: bool, bits: u32, shift_amount: bool) -> u32 {
    let negative = signed && value >> (bits - 1) & 1 != 0;
    let value = if negative { !value } else { value } & if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    if value == 0 {
        return u32::MAX;
    }
    let top = 63 - value.leading_zeros();
    if shift_amount { bits - 1 - top } else { top }
}

/// `fns`: the position of the n-th set bit of `mask` from `base`.
fn find_nth(mask: u32, base: u32, offset: i32) -> u32 {
    let base = base & 31;
    let (step, mut left) = if offset < 0 { (-1i32, -i64::from(offset)) } else { (1, i64::from(offset)) };
    if offset == 0 {
        return if mask >> base & 1 != 0 { base } else { u32::MAX };
    }
    let mut at = base as i32;
    while (0..32).contains(&at) {
        if mask >> at & 1 != 0 {
            left -= 1;
            if left == 0 {
                return at as u32;
            }
        }
        at += step;
    }
    u32::MAX
}

fn dot(a: u32, b: u32, c: u32, signed: (bool, bool)) -> u32 {
    let widen = |byte: u8, signed: bool| if signed { i32::from(byte as i8) } else { i32::from(byte) };
    let (x, y) = (a.to_le_bytes(), b.to_le_bytes());
    x.into_iter()
        .zip(y)
        .fold(c, |sum, (x, y)| sum.wrapping_add(widen(x, signed.0).wrapping_mul(widen(y, signed.1)) as u32))
}

/// Two 16-bit integers of `a` with the low two bytes of `b`.
fn dot_halves(a: u32, b: u32, c: u32, signed: (bool, bool)) -> u32 {
    (0..2).fold(c, |sum, index| {
        let (x, y) = (a >> (16 * index), b >> (8 * index));
        let x = if signed.0 { i32::from(x as i16) } else { i32::from(x as u16) };
        let y = if signed.1 { i32::from(y as i8) } else { i32::from(y as u8) };
        sum.wrapping_add(x.wrapping_mul(y) as u32)
    })
}

fn carry32(s: &mut [u64], x: &Args) {
    carry(s, x, 32);
}
fn carry64(s: &mut [u64], x: &Args) {
    carry(s, x, 64);
}
/// `d = a + b (+ carry)`, or `a + !b + carry` to subtract. Slot f holds the carry; imm: 1 = carry in,
/// 2 = carry out, 4 = subtract (borrow is the inverted carry).
fn carry(s: &mut [u64], x: &Args, bits: u32) {
    let mask = if bits == 64 { u64::MAX } else { u64::from(u32::MAX) };
    let subtract = x.imm & 4 != 0;
    let (a, b) = (s[x.a as usize] & mask, s[x.b as usize] & mask);
    let b = if subtract { !b & mask } else { b };
    let flag = s[x.f as usize] & 1;
    let carry_in = match (x.imm & 1 != 0, subtract) {
        (true, true) => 1 - flag,
        (true, false) => flag,
        (false, subtract) => u64::from(subtract),
    };
    let sum = u128::from(a) + u128::from(b) + u128::from(carry_in);
    s[x.d as usize] = sum as u64 & mask;
    if x.imm & 2 != 0 {
        let out = (sum >> bits) as u64 & 1;
        s[x.f as usize] = if subtract { 1 - out } else { out };
    }
}

impl Decoder {
    /// Predicate results, combined with a Boolean and in one or two destinations.
    pub(super) fn set_predicates(
        &mut self,
        compare: Alu,
        operands: &[Operand<'_>],
        combine: Option<&str>,
    ) -> Decode<(Slot, Option<Slot>)> {
        let count = if combine.is_some() { 4 } else { 3 };
        if operands.len() != count {
            return malformed(format!("expected {count} operands, found {}", operands.len()));
        }
        let (a, b) = (self.source(&operands[1])?, self.source(&operands[2])?);
        let (d, second) = self.destinations(&operands[0])?;
        if combine.is_none() && second.is_none() {
            self.push_meant(self.compared(), Op::Alu(compare), Args { d, a, b, ..Args::default() });
            return Ok((d, second));
        }
        let first_result = self.temporary();
        self.push_meant(self.compared(), Op::Alu(compare), Args { d: first_result, a, b, ..Args::default() });
        let other_result = self.temporary();
        let not = alu!(|a: bool| -> bool { !a });
        let args = Args { d: other_result, a: first_result, ..Args::default() };
        self.push_meant(Meaning::Not(1), Op::Alu(not), args);
        if let Some(combine) = combine {
            let c = self.source(&operands[3])?;
            let alu = combination(combine);
            let logic = match combine {
                "and" => Logic::And,
                "or" => Logic::Or,
                _ => Logic::Xor,
            };
            for slot in [first_result, other_result] {
                let args = Args { d: slot, a: slot, b: c, ..Args::default() };
                self.push_meant(Meaning::Logic(logic, 1), Op::Alu(alu), args);
            }
        }
        let copy = alu!(|a: bool| -> bool { a });
        if let Some(q) = second {
            let args = Args { d: q, a: other_result, ..Args::default() };
            self.push_meant(Meaning::Move(1), Op::Alu(copy), args);
        }
        self.push_meant(Meaning::Move(1), Op::Alu(copy), Args { d, a: first_result, ..Args::default() });
        Ok((d, second))
    }

    /// The meaning of the statement if it is a comparison.
    fn compared(&self) -> Meaning {
        if matches!(self.meaning, Meaning::Compare(..)) { self.meaning } else { Meaning::Other }
    }

    /// `setp` and `set` of any type, given the comparison.
    pub(super) fn comparison(
        &mut self,
        opcode: &str,
        operands: &[Operand<'_>],
        mods: &mut Mods<'_>,
        compare: Alu,
    ) -> Decode {
        let combine = mods.take_any(&["and", "or", "xor"]);
        if opcode == "setp" {
            self.set_predicates(compare, operands, combine)?;
            return Ok(());
        }
        let [result, ..] = *mods.types() else { return malformed("set needs two types") };
        let [first, rest @ ..] = operands else { return malformed("set without operands") };
        let slot = self.temporary();
        let mut items = vec![Operand::Register { slot, bits: 1 }];
        items.extend_from_slice(rest);
        self.set_predicates(compare, &items, combine)?;
        let d = self.destination(first)?;
        let alu = match result {
            Ty::F32 => alu!(|a: bool| -> f32 { if a { 1.0 } else { 0.0 } }),
            Ty::F16 => alu!(|a: bool| -> u16 { if a { 0x3c00 } else { 0 } }),
            Ty::Bf16 => alu!(|a: bool| -> u16 { if a { 0x3f80 } else { 0 } }),
            Ty::U16 | Ty::S16 => alu!(|a: bool| -> u16 { if a { u16::MAX } else { 0 } }),
            Ty::U32 | Ty::S32 => alu!(|a: bool| -> u32 { if a { u32::MAX } else { 0 } }),
            other => return unsupported(format!("set.{other:?}")),
        };
        self.alu(alu, Args { d, a: slot, ..Args::default() });
        Ok(())
    }

    /// `lop3.BoolOp d|p, a, b, c, table, q`: p says whether the result has any bit, and or or with q.
    fn lop3_with_predicate(&mut self, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode {
        let combine = mods.take_any(&["and", "or"]);
        let [Operand::Pair(d, p), a, b, c, Operand::Integer(table), q] = operands else {
            return malformed("lop3 with a predicate needs d|p, a, b, c, a constant table and q");
        };
        if combine.is_none() {
            return malformed("lop3 with a predicate needs .and or .or");
        }
        let whole = Operand::Register { slot: self.temporary(), bits: 32 };
        let args = self.plain(&[whole.clone(), a.clone(), b.clone(), c.clone()], 3)?;
        self.alu(
            alu_imm!(|imm; a: u32, b: u32, c: u32| -> u32 { lop3(a, b, c, imm) }),
            Args { imm: *table as i64, ..args },
        );
        let differs = alu!(|a: u32, b: u32| -> bool { a != b });
        self.set_predicates(
            differs,
            &[(**p).clone(), whole.clone(), Operand::Integer(0), q.clone()],
            combine,
        )?;
        let args = self.plain(&[(**d).clone(), whole], 1)?;
        self.alu(alu!(|a: u32| -> u32 { a }), args);
        Ok(())
    }

    fn logic(&mut self, opcode: &str, operands: &[Operand<'_>], ty: Ty) -> Decode {
        let unary = matches!(opcode, "not" | "cnot");
        let args = self.plain(operands, if unary { 1 } else { 2 })?;
        let alu = match (opcode, ty) {
            ("and", _) => alu!(|a: u64, b: u64| -> u64 { a & b }),
            ("or", _) => alu!(|a: u64, b: u64| -> u64 { a | b }),
            ("xor", _) => alu!(|a: u64, b: u64| -> u64 { a ^ b }),
            ("not", Ty::Pred) => alu!(|a: bool| -> bool { !a }),
            ("not", _) => by_width!(ty; T => alu!(|a: T| -> T { !a })),
            _ => by_width!(ty; T => alu!(|a: T| -> T { T::from(a == 0) })),
        };
        // Registers wider than the operation must not keep foreign upper bits.
        let alu = match (opcode, ty.bits()) {
            ("and", 16) => alu!(|a: u16, b: u16| -> u16 { a & b }),
            ("or", 16) => alu!(|a: u16, b: u16| -> u16 { a | b }),
            ("xor", 16) => alu!(|a: u16, b: u16| -> u16 { a ^ b }),
            ("and", 32) => alu!(|a: u32, b: u32| -> u32 { a & b }),
            ("or", 32) => alu!(|a: u32, b: u32| -> u32 { a | b }),
            ("xor", 32) => alu!(|a: u32, b: u32| -> u32 { a ^ b }),
            _ => alu,
        };
        self.alu(alu, args);
        Ok(())
    }

    fn multiply(&mut self, opcode: &str, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode {
        let ty = mods.ty()?;
        let saturate = mods.take("sat");
        let part = mods.take_any(&["lo", "hi", "wide"]);
        let add = opcode == "mad";
        let args = self.plain(operands, if add { 3 } else { 2 })?;
        let alu = match (part, add) {
            (Some("hi"), true) if saturate && ty == Ty::S32 => {
                alu!(|a: i32, b: i32, c: i32| -> i32 { a.high(b).saturating_add(c) })
            }
            _ if saturate => return unsupported("saturation of this type"),
            (Some("wide"), false) => by_type!(ty; U16 = u16, S16 = i16, U32 = u32, S32 = i32;
                T => alu!(|a: T, b: T| -> <T as Whole>::Wide { a.wide(b) })),
            (Some("wide"), true) => by_type!(ty; U16 = u16, S16 = i16, U32 = u32, S32 = i32;
                T => alu!(|a: T, b: T, c: <T as Whole>::Wide| -> <T as Whole>::Wide { a.wide(b).wrapping_add(c) })),
            (Some("hi"), false) => by_integer!(ty; T => alu!(|a: T, b: T| -> T { a.high(b) })),
            (Some("hi"), true) => {
                by_integer!(ty; T => alu!(|a: T, b: T, c: T| -> T { a.high(b).wrapping_add(c) }))
            }
            (Some(_), false) => by_integer!(ty; T => alu!(|a: T, b: T| -> T { a.wrapping_mul(b) })),
            (Some(_), true) => {
                by_integer!(ty; T => alu!(|a: T, b: T, c: T| -> T { a.wrapping_mul(b).wrapping_add(c) }))
            }
            (None, _) => return malformed("expected .lo, .hi or .wide"),
        };
        self.alu(alu, args);
        Ok(())
    }

    fn multiply24(&mut self, opcode: &str, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode {
        fn product(a: u32, b: u32, signed: bool, high: bool) -> u32 {
            let widen = |value: u32| {
                if signed { i64::from((value << 8) as i32 >> 8) } else { i64::from(value & 0xff_ffff) }
            };
            let product = widen(a).wrapping_mul(widen(b));
            (if high { product >> 16 } else { product }) as u32
        }
        let signed = mods.ty()?.is_signed();
        let high = mods.take_any(&["lo", "hi"]) == Some("hi");
        let args = self.plain(operands, if opcode == "mad24" { 3 } else { 2 })?;
        let imm = i64::from(signed) | i64::from(high) << 1;
        let alu = if opcode == "mad24" {
            alu_imm!(|imm; a: u32, b: u32, c: u32| -> u32 { product(a, b, imm & 1 != 0, imm & 2 != 0).wrapping_add(c) })
        } else {
            alu_imm!(|imm; a: u32, b: u32| -> u32 { product(a, b, imm & 1 != 0, imm & 2 != 0) })
        };
        self.alu(alu, Args { imm, ..args });
        Ok(())
    }

    fn with_carry(&mut self, opcode: &str, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode {
        let ty = mods.ty()?;
        let carry_out = mods.take("cc");
        // The condition code register is a slot that only these instructions know.
        let f = self.frame.preset(crate::program::Preset::Constant(0x0cc0_0cc0_0cc0_0cc0));
        let flags = i64::from(matches!(opcode, "addc" | "subc" | "madc"))
            | i64::from(carry_out) << 1
            | i64::from(opcode.starts_with("sub")) << 2;
        let run = if ty.bits() == 64 { carry64 } else { carry32 };
        if !opcode.starts_with("mad") {
            let args = self.plain(operands, 2)?;
            self.alu(run, Args { f, imm: flags, ..args });
            return Ok(());
        }
        let args = self.plain(operands, 3)?;
        let product = self.temporary();
        let high = mods.take_any(&["lo", "hi"]) == Some("hi");
        let alu = if high {
            by_integer!(ty; T => alu!(|a: T, b: T| -> T { a.high(b) }))
        } else {
            by_integer!(ty; T => alu!(|a: T, b: T| -> T { a.wrapping_mul(b) }))
        };
        self.alu(alu, Args { d: product, ..args });
        self.alu(run, Args { d: args.d, a: product, b: args.c, f, imm: flags, ..Args::default() });
        Ok(())
    }

    fn bits(&mut self, opcode: &str, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode<bool> {
        let ty = mods.ty()?;
        let wide = ty.bits() == 64;
        let (alu, sources, imm): (Alu, usize, i64) = match opcode {
            "popc" if wide => (alu!(|a: u64| -> u32 { a.count_ones() }), 1, 0),
            "popc" => (alu!(|a: u32| -> u32 { a.count_ones() }), 1, 0),
            "clz" if wide => (alu!(|a: u64| -> u32 { a.leading_zeros() }), 1, 0),
            "clz" => (alu!(|a: u32| -> u32 { a.leading_zeros() }), 1, 0),
            "brev" if wide => (alu!(|a: u64| -> u64 { a.reverse_bits() }), 1, 0),
            "brev" => (alu!(|a: u32| -> u32 { a.reverse_bits() }), 1, 0),
            "bfe" => {
                let alu = match ty {
                    Ty::U32 => alu!(|a: u32, b: u32, c: u32| -> u32 {
                        extract_field(a.into(), b, c, 32, false) as u32
                    }),
                    Ty::S32 => alu!(|a: u32, b: u32, c: u32| -> u32 {
                        extract_field(a.into(), b, c, 32, true) as u32
                    }),
                    Ty::U64 => alu!(|a: u64, b: u32, c: u32| -> u64 { extract_field(a, b, c, 64, false) }),
                    _ => alu!(|a: u64, b: u32, c: u32| -> u64 { extract_field(a, b, c, 64, true) }),
                };
                (alu, 3, 0)
            }
            "bfi" if wide => {
                let alu = alu!(|a: u64, b: u64, c: u32, e: u32| -> u64 {
                    let mask = bit_field(c, e, 64);
                    b & !mask | a.checked_shl(c & 255).unwrap_or(0) & mask
                });
                (alu, 4, 0)
            }
            "bfi" => {
                let alu = alu!(|a: u32, b: u32, c: u32, e: u32| -> u32 {
                    let mask = bit_field(c, e, 32) as u32;
                    b & !mask | a.checked_shl(c & 255).unwrap_or(0) & mask
                });
                (alu, 4, 0)
            }
            "bfind" => {
                let shift = mods.take("shiftamt");
                let imm = i64::from(shift) | i64::from(ty.is_signed()) << 1 | i64::from(ty.bits()) << 2;
                let alu = alu_imm!(|imm; a: u64| -> u32 {
                    find_leading(a, imm & 2 != 0, (imm >> 2) as u32, imm & 1 != 0)
                });
                (alu, 1, imm)
            }
            "bmsk" => {
                let clamp = mods.take_any(&["clamp", "wrap"]) == Some("clamp");
                let alu = alu_imm!(|imm; a: u32, b: u32| -> u32 {
                    let (a, b) = if imm != 0 { (a, b) } else { (a & 31, b & 31) };
                    let length = if b >= 32 { u32::MAX } else { (1 << b) - 1 };
                    length.checked_shl(a).unwrap_or(0)
                });
                (alu, 2, i64::from(clamp))
            }
            "fns" => (alu!(|a: u32, b: u32, c: i32| -> u32 { find_nth(a, b, c) }), 3, 0),
            "szext" => {
                let clamp = mods.take_any(&["clamp", "wrap"]) == Some("clamp");
                let imm = i64::from(clamp) | i64::from(ty.is_signed()) << 1;
                let alu = alu_imm!(|imm; a: u32, b: u32| -> u32 {
                    let length = if imm & 1 != 0 { b.min(32) } else { b & 31 };
                    extract_field(a.into(), 0, length, 32, imm & 2 != 0) as u32
                });
                (alu, 2, imm)
            }
            "lop3" => {
                if operands.len() == 6 {
                    self.lop3_with_predicate(operands, mods)?;
                    return Ok(true);
                }
                if operands.len() != 5 {
                    return malformed("lop3 needs 5 or 6 operands");
                }
                let Operand::Integer(table) = operands[4] else {
                    return malformed("lop3 needs a constant table");
                };
                (alu_imm!(|imm; a: u32, b: u32, c: u32| -> u32 { lop3(a, b, c, imm) }), 3, table as i64)
            }
            "prmt" => {
                let mode =
                    ["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"].iter().position(|mode| mods.take(mode));
                let alu = match mode {
                    None => alu!(|a: u32, b: u32, c: u32| -> u32 { permute(a, b, c) }),
                    Some(_) => alu_imm!(|imm; a: u32, b: u32, c: u32| -> u32 { permute_mode(a, b, c, imm) }),
                };
                (alu, 3, mode.unwrap_or(0) as i64)
            }
            "shf" => {
                let left = mods.take_any(&["l", "r"]) == Some("l");
                let clamp = mods.take_any(&["clamp", "wrap"]) == Some("clamp");
                let alu = alu_imm!(|imm; a: u32, b: u32, c: u32| -> u32 {
                    let count = if imm & 1 != 0 { c.min(32) } else { c & 31 };
                    let pair = u64::from(b) << 32 | u64::from(a);
                    if imm & 2 != 0 { (pair << count >> 32) as u32 } else { (pair >> count) as u32 }
                });
                (alu, 3, i64::from(clamp) | i64::from(left) << 1)
            }
            _ => return Ok(false),
        };
        let operands = if opcode == "lop3" { &operands[..4] } else { operands };
        let args = self.plain(operands, sources)?;
        self.alu(alu, Args { imm, ..args });
        Ok(true)
    }

    pub(super) fn integer(
        &mut self,
        opcode: &str,
        operands: &[Operand<'_>],
        mods: &mut Mods<'_>,
    ) -> Decode<bool> {
        let ty = mods.ty()?;
        let alu = match opcode {
            "setp" | "set" => {
                let name = mods.take_first().unwrap_or_default();
                self.comparison(opcode, operands, mods, comparison(name, ty)?)?;
                return Ok(true);
            }
            "and" | "or" | "xor" | "not" | "cnot" => {
                self.logic(opcode, operands, ty)?;
                return Ok(true);
            }
            "mad" if mods.contains("cc") => {
                self.with_carry(opcode, operands, mods)?;
                return Ok(true);
            }
            "mul" | "mad" => {
                self.multiply(opcode, operands, mods)?;
                return Ok(true);
            }
            "mul24" | "mad24" => {
                self.multiply24(opcode, operands, mods)?;
                return Ok(true);
            }
            "addc" | "subc" | "madc" => {
                self.with_carry(opcode, operands, mods)?;
                return Ok(true);
            }
            "add" | "sub" if mods.contains("cc") => {
                self.with_carry(opcode, operands, mods)?;
                return Ok(true);
            }
            "add" if mods.take("sat") => {
                by_type!(ty; S32 = i32; T => alu!(|a: T, b: T| -> T { a.saturating_add(b) }))
            }
            "sub" if mods.take("sat") => {
                by_type!(ty; S32 = i32; T => alu!(|a: T, b: T| -> T { a.saturating_sub(b) }))
            }
            "add" => by_integer!(ty; T => alu!(|a: T, b: T| -> T { a.wrapping_add(b) })),
            "sub" => by_integer!(ty; T => alu!(|a: T, b: T| -> T { a.wrapping_sub(b) })),
            "div" => by_integer!(ty; T => alu!(|a: T, b: T| -> T { a.divide(b) })),
            "rem" => by_integer!(ty; T => alu!(|a: T, b: T| -> T { a.remainder(b) })),
            "min" => by_integer!(ty; T => alu!(|a: T, b: T| -> T { a.min(b) })),
            "max" => by_integer!(ty; T => alu!(|a: T, b: T| -> T { a.max(b) })),
            "abs" => {
                by_type!(ty; S16 = i16, S32 = i32, S64 = i64; T => alu!(|a: T| -> T { a.wrapping_abs() }))
            }
            "neg" => {
                by_type!(ty; S16 = i16, S32 = i32, S64 = i64; T => alu!(|a: T| -> T { a.wrapping_neg() }))
            }
            "sad" => by_integer!(ty; T => alu!(|a: T, b: T, c: T| -> T {
                c.wrapping_add(a.max(b).wrapping_sub(a.min(b)))
            })),
            "shl" => by_width!(ty; T => shift_left!(T)),
            "shr" => match ty.is_signed() {
                true => by_type!(ty; S16 = i16, S32 = i32, S64 = i64; T => shift_right!(T)),
                false => by_width!(ty; T => shift_right!(T)),
            },
            "dp2a" => {
                let [first, second] = *mods.types() else { return malformed("dp2a needs two types") };
                let high = match mods.take_any(&["lo", "hi"]) {
                    Some(part) => part == "hi",
                    None => return malformed("expected .lo or .hi"),
                };
                let imm =
                    i64::from(first.is_signed()) | i64::from(second.is_signed()) << 1 | i64::from(high) << 2;
                let args = self.plain(operands, 3)?;
                let alu = alu_imm!(|imm; a: u32, b: u32, c: u32| -> u32 {
                    let b = if imm & 4 != 0 { b >> 16 } else { b };
                    dot_halves(a, b, c, (imm & 1 != 0, imm & 2 != 0))
                });
                self.alu(alu, Args { imm, ..args });
                return Ok(true);
            }
            "dp4a" => {
                let [first, second] = *mods.types() else { return malformed("dp4a needs two types") };
                let imm = i64::from(first.is_signed()) | i64::from(second.is_signed()) << 1;
                let args = self.plain(operands, 3)?;
                let alu = alu_imm!(|imm; a: u32, b: u32, c: u32| -> u32 { dot(a, b, c, (imm & 1 != 0, imm & 2 != 0)) });
                self.alu(alu, Args { imm, ..args });
                return Ok(true);
            }
            _ => return self.bits(opcode, operands, mods),
        };
        let sources = match opcode {
            "abs" | "neg" => 1,
            "sad" => 3,
            _ => 2,
        };
        let args = self.plain(operands, sources)?;
        self.alu(alu, args);
        Ok(true)
    }
}
