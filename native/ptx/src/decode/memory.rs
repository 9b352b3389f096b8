//! Loads, stores, atomics, asynchronous copies, fences and hints.

use super::meaning::Meaning;
use super::select::{Mods, Ty};
use super::{Decode, Decoder, malformed, unsupported};
use crate::ast::{Operand, Place, Slot};
use crate::memory::{
    GENERIC, GLOBAL, LOCAL, LOCAL_WINDOW, Memory, PARAM, SHARED, SHARED_WINDOW, Trouble, Word,
};
use crate::program::{Args, MemoryOp, Op, Preset};
use crate::softfloat::{Rounding, narrow_bfloat, narrow_half, widen_bfloat, widen_half};
use crate::value::Value;

#[inline(always)]
fn effective<const SPACE: u8>(s: &[u64], x: &Args) -> u64 {
    offset_address::<SPACE>(s[x.a as usize], x.imm)
}

#[inline(always)]
pub(super) fn offset_address<const SPACE: u8>(base: u64, offset: i64) -> u64 {
    let address = base.wrapping_add(offset as u64);
    // Shared and local addresses live in 32-bit registers too, where they wrap.
    if (SPACE == SHARED || SPACE == LOCAL) && base <= u64::from(u32::MAX) {
        u64::from(address as u32)
    } else {
        address
    }
}

fn load<const SPACE: u8, W: Word, const N: usize, const SIGNED: bool>(
    s: &mut [u64],
    x: &Args,
    memory: &mut Memory<'_, '_>,
) -> Result<(), Trouble> {
    let words: [W; N] = memory.read::<SPACE, W, N>(effective::<SPACE>(s, x))?;
    for (word, slot) in words.into_iter().zip([x.d, x.b, x.c, x.e]) {
        s[slot as usize] = if SIGNED { word.signed() } else { word.to_slot() };
    }
    Ok(())
}

/// `ld.s32` into a 32-bit register keeps the upper half of the slot clear.
fn store<const SPACE: u8, W: Word, const N: usize>(
    s: &mut [u64],
    x: &Args,
    memory: &mut Memory<'_, '_>,
) -> Result<(), Trouble> {
    let mut words = [W::default(); N];
    for (word, slot) in words.iter_mut().zip([x.d, x.b, x.c, x.e]) {
        *word = W::from_slot(s[slot as usize]);
    }
    memory.write::<SPACE, W, N>(effective::<SPACE>(s, x), words)
}

macro_rules! by_space {
    ($space:expr; $SPACE:ident => $body:expr) => {
        match $space {
            GLOBAL => {
                const $SPACE: u8 = GLOBAL;
                $body
            }
            SHARED => {
                const $SPACE: u8 = SHARED;
                $body
            }
            LOCAL => {
                const $SPACE: u8 = LOCAL;
                $body
            }
            PARAM => {
                const $SPACE: u8 = PARAM;
                $body
            }
            _ => {
                const $SPACE: u8 = GENERIC;
                $body
            }
        }
    };
}

pub(super) use by_space;

macro_rules! by_count {
    ($count:expr; $N:ident => $body:expr) => {
        match $count {
            1 => {
                const $N: usize = 1;
                $body
            }
            2 => {
                const $N: usize = 2;
                $body
            }
            _ => {
                const $N: usize = 4;
                $body
            }
        }
    };
}

pub(super) fn load_op(space: u8, ty: Ty, count: usize, wide: bool) -> Decode<MemoryOp> {
    if ty.is_signed() && (ty.bits() < 32 || ty == Ty::S32 && wide) {
        return Ok(by_type!(ty.unsigned(); U8 = u8, U16 = u16, U32 = u32; T =>
            by_space!(space; S => by_count!(count; N => load::<S, T, N, true> as MemoryOp))));
    }
    Ok(by_type!(ty.unsigned(); U8 = u8, U16 = u16, U32 = u32, U64 = u64; T =>
        by_space!(space; S => by_count!(count; N => load::<S, T, N, false> as MemoryOp))))
}

pub(super) fn store_op(space: u8, ty: Ty, count: usize) -> Decode<MemoryOp> {
    Ok(by_type!(ty.unsigned(); U8 = u8, U16 = u16, U32 = u32, U64 = u64; T =>
        by_space!(space; S => by_count!(count; N => store::<S, T, N> as MemoryOp))))
}

/// An atomic from a body over the old value and operands b and c; `None` means no change.
macro_rules! atomic {
    ($W:ty, |$old:ident, $b:ident, $c:ident| $body:expr) => {{
        #[allow(
            unused_variables,
            clippy::redundant_closure_call,
            reason = "not every operation has a second operand"
        )]
        fn run(s: &mut [u64], x: &Args, memory: &mut Memory<'_, '_>) -> Result<(), Trouble> {
            let $b = <$W as Value>::from_slot(s[x.b as usize]);
            let $c = <$W as Value>::from_slot(s[x.c as usize]);
            let address = s[x.a as usize].wrapping_add(x.imm as u64);
            let old = memory.update::<$W>(address, &mut |$old: $W| Some($body))?;
            s[x.d as usize] = old.to_slot();
            Ok(())
        }
        run as MemoryOp
    }};
}

fn compare_and_swap<W: Word>(s: &mut [u64], x: &Args, memory: &mut Memory<'_, '_>) -> Result<(), Trouble> {
    let expected = W::from_slot(s[x.b as usize]);
    let new = W::from_slot(s[x.c as usize]);
    let address = s[x.a as usize].wrapping_add(x.imm as u64);
    let old = memory.update::<W>(address, &mut |old| (old == expected).then_some(new))?;
    memory.contended = old != expected;
    s[x.d as usize] = old.to_slot();
    Ok(())
}

fn halves(a: u32, b: u32, join: fn(u16, u16) -> u16) -> u32 {
    u32::from(join(a as u16, b as u16)) | u32::from(join((a >> 16) as u16, (b >> 16) as u16)) << 16
}
fn add_half(a: u16, b: u16) -> u16 {
    narrow_half(widen_half(a) + widen_half(b), Rounding::Nearest)
}
fn add_bfloat(a: u16, b: u16) -> u16 {
    narrow_bfloat(widen_bfloat(a) + widen_bfloat(b), Rounding::Nearest)
}

fn atomic_op(name: &str, ty: Ty) -> Decode<MemoryOp> {
    Ok(match (name, ty) {
        ("cas", _) => by_width!(ty; T => compare_and_swap::<T> as MemoryOp),
        ("exch", _) => by_type!(ty.unsigned(); U32 = u32, U64 = u64; T => atomic!(T, |old, b, c| b)),
        ("and", _) => by_type!(ty.unsigned(); U32 = u32, U64 = u64; T => atomic!(T, |old, b, c| old & b)),
        ("or", _) => by_type!(ty.unsigned(); U32 = u32, U64 = u64; T => atomic!(T, |old, b, c| old | b)),
        ("xor", _) => by_type!(ty.unsigned(); U32 = u32, U64 = u64; T => atomic!(T, |old, b, c| old ^ b)),
        ("add", Ty::F32) => add_float,
        ("add", Ty::F64) => atomic!(u64, |old, b, c| (f64::from_bits(old) + f64::from_bits(b)).to_bits()),
        ("add", Ty::F16x2) => atomic!(u32, |old, b, c| halves(old, b, add_half)),
        ("add", Ty::Bf16x2) => atomic!(u32, |old, b, c| halves(old, b, add_bfloat)),
        ("add", Ty::F16) => atomic!(u16, |old, b, c| add_half(old, b)),
        ("add", Ty::Bf16) => atomic!(u16, |old, b, c| add_bfloat(old, b)),
        ("add", Ty::U32 | Ty::S32) => atomic!(u32, |old, b, c| old.wrapping_add(b)),
        ("add", Ty::U64 | Ty::S64) => atomic!(u64, |old, b, c| old.wrapping_add(b)),
        ("inc", Ty::U32) => atomic!(u32, |old, b, c| if old >= b { 0 } else { old + 1 }),
        ("dec", Ty::U32) => atomic!(u32, |old, b, c| if old == 0 || old > b { b } else { old - 1 }),
        ("min", Ty::U32) => atomic!(u32, |old, b, c| old.min(b)),
        ("max", Ty::U32) => atomic!(u32, |old, b, c| old.max(b)),
        ("min", Ty::S32) => atomic!(u32, |old, b, c| (old as i32).min(b as i32) as u32),
        ("max", Ty::S32) => atomic!(u32, |old, b, c| (old as i32).max(b as i32) as u32),
        ("min", Ty::U64) => atomic!(u64, |old, b, c| old.min(b)),
        ("max", Ty::U64) => atomic!(u64, |old, b, c| old.max(b)),
        ("min", Ty::S64) => atomic!(u64, |old, b, c| (old as i64).min(b as i64) as u64),
        ("max", Ty::S64) => atomic!(u64, |old, b, c| (old as i64).max(b as i64) as u64),
        _ => return unsupported(format!("atomic {name} of {ty:?}")),
    })
}

/// Subnormals count as zero in global memory, and are kept elsewhere.
fn add_float(s: &mut [u64], x: &Args, memory: &mut Memory<'_, '_>) -> Result<(), Trouble> {
    let address = s[x.a as usize].wrapping_add(x.imm as u64);
    let flush =
        |value: f32| if address >> 48 == 0 && value.is_subnormal() { 0f32.copysign(value) } else { value };
    let addend = flush(f32::from_slot(s[x.b as usize]));
    let old = memory
        .update::<u32>(address, &mut |old| Some(flush(flush(f32::from_bits(old)) + addend).to_bits()))?;
    s[x.d as usize] = old.to_slot();
    Ok(())
}

pub(super) fn shared_or_generic(space: u8) -> Decode<u8> {
    if matches!(space, SHARED | GENERIC) { Ok(space) } else { malformed("the object lies in shared memory") }
}

/// `cp.async`: d = destination (shared), a = source, b = source size or 0, imm = bytes; c and e hold the offsets.
fn copy_async(s: &mut [u64], x: &Args, memory: &mut Memory<'_, '_>) -> Result<(), Trouble> {
    let to =
        (s[x.d as usize].wrapping_add(s[x.c as usize]) & u64::from(u32::MAX)).wrapping_add(SHARED_WINDOW);
    let from = s[x.a as usize].wrapping_add(s[x.e as usize]);
    let size = x.imm as u64;
    let valid = if x.b == 0 { size } else { u64::from(s[x.b as usize] as u32).min(size) };
    let mut bytes = [0u32; 4];
    // The whole source must be aligned, but only its valid part is read.
    for (index, word) in bytes.iter_mut().enumerate().take(size as usize / 4) {
        let start = index as u64 * 4;
        if start + 4 <= valid {
            [*word] = memory.read::<GLOBAL, u32, 1>(from.wrapping_add(start))?;
        } else {
            for byte in start..valid.min(start + 4) {
                let [value] = memory.read::<GLOBAL, u8, 1>(from.wrapping_add(byte))?;
                *word |= u32::from(value) << (8 * (byte - start));
            }
        }
    }
    match size {
        4 => memory.write::<GENERIC, u32, 1>(to, [bytes[0]]),
        8 => memory.write::<GENERIC, u32, 2>(to, [bytes[0], bytes[1]]),
        _ => memory.write::<GENERIC, u32, 4>(to, bytes),
    }
}

impl Decoder {
    /// Base slot, offset and, for symbols, what it is.
    pub(super) fn address(&mut self, operand: &Operand<'_>) -> Decode<(Slot, i64, Option<Place>)> {
        let Operand::Address(base, offset) = operand else {
            return if matches!(operand, Operand::Tuple(_)) {
                unsupported("address form")
            } else {
                malformed("expected an address")
            };
        };
        match &**base {
            Operand::Register { slot, .. } => Ok((*slot, *offset, None)),
            Operand::Integer(value) => Ok((self.constant(0), (*value as i64).wrapping_add(*offset), None)),
            Operand::Symbol(place, start) => {
                let offset = offset.wrapping_add(*start);
                Ok(match place {
                    Place::EntryParam(at) => {
                        (self.constant(0), offset.wrapping_add(i64::from(*at)), Some(*place))
                    }
                    Place::Local(at) => (
                        self.frame.preset(Preset::LocalFrame),
                        offset.wrapping_add(i64::from(*at)),
                        Some(*place),
                    ),
                    _ => (self.symbol(*place), offset, Some(*place)),
                })
            }
            Operand::Name(name) => malformed(format!("undefined name '{name}'")),
            _ => malformed("expected an address"),
        }
    }

    /// Takes semantics, scope and cache hints; says (waiting load, release, acquire).
    pub(super) fn ordering(mods: &mut Mods<'_>) -> (bool, bool, bool) {
        let waiting = mods.take_any(&["volatile", "relaxed", "mmio"]).is_some();
        let acquire = mods.take("acquire");
        let release = mods.take("release");
        let both = mods.take("acq_rel") || mods.take("sc");
        mods.take("weak");
        for scope in ["cta", "cluster", "gpu", "sys"] {
            mods.take(scope);
        }
        for hint in ["ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc", "uni"] {
            mods.take(hint);
        }
        mods.take_prefixed("L1::");
        mods.take_prefixed("L2::");
        mods.take_prefixed("level::");
        (waiting || acquire, release || both, acquire || both)
    }

    pub(super) fn space(&self, mods: &mut Mods<'_>, place: Option<Place>) -> Decode<u8> {
        let named = mods.take_any(&[
            "global",
            "const",
            "shared",
            "shared::cta",
            "local",
            "param",
            "param::entry",
            "param::func",
        ]);
        Ok(match (named, place) {
            (Some("global" | "const"), _) => GLOBAL,
            (Some("shared" | "shared::cta"), _) => SHARED,
            (Some("local"), _) | (Some(_), Some(Place::Local(_))) => LOCAL,
            (Some(_), Some(Place::EntryParam(_))) => PARAM,
            (Some(_), _) => {
                if self.is_entry {
                    PARAM
                } else {
                    LOCAL
                }
            }
            // A symbol used without its space is a generic address only when the window is zero.
            (None, Some(Place::Shared(_) | Place::DynamicShared)) => SHARED,
            (None, Some(Place::Local(_))) => LOCAL,
            (None, _) => GENERIC,
        })
    }

    fn vector(mods: &mut Mods<'_>) -> usize {
        match mods.take_any(&["v2", "v4"]) {
            Some("v2") => 2,
            Some(_) => 4,
            None => 1,
        }
    }

    fn load_or_store(&mut self, operands: &[Operand<'_>], mods: &mut Mods<'_>, is_load: bool) -> Decode {
        let ty = mods.ty()?;
        let (waiting, release, acquire) = Self::ordering(mods);
        let count = Self::vector(mods);
        let [first, second, ..] = operands else { return malformed("expected two operands") };
        let (value, address) = if is_load { (first, second) } else { (second, first) };
        let items = match value {
            Operand::Vector(items) => &items[..],
            single => std::slice::from_ref(single),
        };
        if items.len() != count {
            return malformed("vector does not fit the instruction");
        }
        let mut slots = [0; 4];
        let mut wide = false;
        for (slot, item) in slots.iter_mut().zip(items) {
            *slot = if is_load { self.destination(item)? } else { self.source(item)? };
            wide |= matches!(item, Operand::Register { bits: 64, .. });
        }
        let (a, imm, place) = self.address(address)?;
        let space = self.space(mods, place)?;
        let args = Args { d: slots[0], a, b: slots[1], c: slots[2], e: slots[3], f: 0, imm };
        if is_load {
            let op = load_op(space, ty, count, wide)?;
            let signed = ty.is_signed() && (ty.bits() < 32 || ty == Ty::S32 && wide);
            let meaning = Meaning::Load { space, bits: ty.bits(), count: count as u32, signed };
            self.push_meant(meaning, if waiting { Op::WaitingLoad(op) } else { Op::Memory(op) }, args);
            if acquire {
                self.push(Op::Fence, Args::default());
            }
        } else {
            if release {
                self.push(Op::Fence, Args::default());
            }
            let op = store_op(space, ty, count)?;
            let meaning = Meaning::Store { space, bits: ty.bits(), count: count as u32 };
            if waiting || release {
                self.handovers.push(self.insts.len());
            }
            self.push_meant(meaning, Op::Memory(op), args);
        }
        Ok(())
    }

    fn atomic(&mut self, opcode: &str, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode {
        let ty = mods.ty()?;
        let names = ["cas", "exch", "and", "or", "xor", "add", "inc", "dec", "min", "max"];
        let Some(name) = mods.take_any(&names) else { return malformed("atomic without an operation") };
        mods.take("noftz");
        let (_, release, acquire) = Self::ordering(mods);
        let (result, rest) = match (opcode, operands) {
            ("atom", [result, rest @ ..]) => (self.destination(result)?, rest),
            (_, rest) => (0, rest),
        };
        let [address, values @ ..] = rest else { return malformed("atomic without an address") };
        if values.len() < if name == "cas" { 2 } else { 1 } {
            return malformed("atomic without a value");
        }
        if matches!(values[0], Operand::Vector(_)) {
            return unsupported("vector atomics");
        }
        let (a, imm, place) = self.address(address)?;
        let space = self.space(mods, place)?;
        let window = match space {
            SHARED => SHARED_WINDOW,
            LOCAL => LOCAL_WINDOW,
            _ => 0,
        };
        let b = self.source(&values[0])?;
        let c = if values.len() > 1 { self.source(&values[1])? } else { 0 };
        let args = Args { d: result, a, b, c, imm: imm.wrapping_add(window as i64), ..Args::default() };
        let op = atomic_op(name, ty)?;
        // Locks are made of the last two, often without an order.
        if release || acquire || matches!(name, "cas" | "exch") {
            self.handovers.push(self.insts.len());
        }
        self.push(Op::Atomic(op), args);
        Ok(())
    }

    fn copy(&mut self, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode {
        if !mods.take("async") || mods.contains("bulk") || mods.contains("reduce") {
            return unsupported("bulk copies exist since compute capability 9.0");
        }
        if mods.take("mbarrier") {
            return self.copies_arrive(operands, mods);
        }
        if mods.take("commit_group") || mods.take("wait_group") || mods.take("wait_all") {
            return Ok(());
        }
        Self::ordering(mods);
        for space in ["shared", "shared::cta", "global"] {
            mods.take(space);
        }
        let [to, from, size, rest @ ..] = operands else { return malformed("cp.async needs three operands") };
        let (d, to_offset, _) = self.address(to)?;
        let (a, from_offset, _) = self.address(from)?;
        let Operand::Integer(size @ (4 | 8 | 16)) = size else { return malformed("size is not 4, 8 or 16") };
        let b = match rest {
            [] => 0,
            [ignored @ (Operand::Register { bits: 1, .. } | Operand::Not(_)), ..] => {
                let (p, valid) = (self.source(ignored)?, self.scratch(0));
                let alu = alu_imm!(|imm; a: bool| -> u32 { if a { 0 } else { imm as u32 } });
                self.alu(alu, Args { d: valid, a: p, imm: *size as i64, ..Args::default() });
                valid
            }
            [valid, ..] => self.source(valid)?,
        };
        let (c, e) = (self.constant(to_offset as u64), self.constant(from_offset as u64));
        self.push(Op::Memory(copy_async), Args { d, a, b, c, e, f: 0, imm: *size as i64 });
        Ok(())
    }

    pub(super) fn memory(
        &mut self,
        opcode: &str,
        operands: &[Operand<'_>],
        mods: &mut Mods<'_>,
    ) -> Decode<bool> {
        match opcode {
            "ld" | "ldu" => self.load_or_store(operands, mods, true)?,
            "st" => self.load_or_store(operands, mods, false)?,
            "atom" | "red" => self.atomic(opcode, operands, mods)?,
            "cp" => self.copy(operands, mods)?,
            "mbarrier" => self.memory_barrier(operands, mods)?,
            "membar" | "fence" => {
                if mods.contains("proxy") {
                    mods.take_prefixed("");
                }
                Self::ordering(mods);
                for level in ["gl", "proxy"] {
                    mods.take(level);
                }
                mods.take_prefixed("mbarrier_init");
                self.push(Op::Fence, Args::default());
            }
            "prefetch" | "prefetchu" | "discard" | "applypriority" => mods.take_prefixed(""),
            "createpolicy" => {
                mods.take_prefixed("");
                let d = self.destination(operands.first().unwrap_or(&Operand::Sink))?;
                let a = self.constant(0);
                self.alu(super::offset_alu(), Args { d, a, ..Args::default() });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
