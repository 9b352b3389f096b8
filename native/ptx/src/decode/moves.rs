//! `mov` with packing and unpacking, `selp`, `slct`, `cvta`, `isspacep`, `getctarank`-free address arithmetic.

use super::meaning::Meaning;
use super::select::{Mods, Ty};
use super::{Decode, Decoder, malformed, unsupported};
use crate::ast::{Operand, Slot};
use crate::memory::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};
use crate::program::{Alu, Args, Op};

/// `d = a + imm`
pub(crate) fn offset_alu() -> Alu {
    alu_imm!(|imm; a: u64| -> u64 { a.wrapping_add(imm as u64) })
}

fn move_alu(bits: u32) -> Alu {
    match bits {
        1 => alu!(|a: bool| -> bool { a }),
        8 => alu!(|a: u8| -> u8 { a }),
        16 => alu!(|a: u16| -> u16 { a }),
        32 => alu!(|a: u32| -> u32 { a }),
        _ => alu!(|a: u64| -> u64 { a }),
    }
}

impl Decoder {
    pub(super) fn moves(
        &mut self,
        opcode: &str,
        operands: &[Operand<'_>],
        mods: &mut Mods<'_>,
    ) -> Decode<bool> {
        match opcode {
            "mov" => self.mov(operands, mods.ty()?)?,
            "selp" => {
                let ty = mods.ty()?;
                let args = self.plain(operands, 3)?;
                let alu = by_width!(ty; T => alu!(|a: T, b: T, p: bool| -> T { if p { a } else { b } }));
                self.alu(alu, args);
            }
            "slct" => {
                let ftz = mods.take("ftz");
                let [ty, test] = *mods.types() else { return malformed("slct needs two types") };
                let args = self.plain(operands, 3)?;
                let alu = if test == Ty::F32 && ftz {
                    by_width!(ty; T => alu!(|a: T, b: T, c: f32| -> T { if c >= 0.0 || c.is_subnormal() { a } else { b } }))
                } else if test == Ty::F32 {
                    by_width!(ty; T => alu!(|a: T, b: T, c: f32| -> T { if c >= 0.0 { a } else { b } }))
                } else {
                    by_width!(ty; T => alu!(|a: T, b: T, c: i32| -> T { if c >= 0 { a } else { b } }))
                };
                self.alu(alu, args);
            }
            "cvta" => {
                let to = mods.take("to");
                let Some(space) =
                    mods.take_any(&["global", "const", "shared", "shared::cta", "local", "param"])
                else {
                    return unsupported("address space");
                };
                let in_function_local = space == "param" && !self.is_entry;
                let window = match space {
                    "shared" | "shared::cta" => SHARED_WINDOW,
                    "local" => LOCAL_WINDOW,
                    "param" if in_function_local => LOCAL_WINDOW,
                    "param" => PARAM_WINDOW,
                    _ => 0,
                };
                let args = Args {
                    imm: if to { (window as i64).wrapping_neg() } else { window as i64 },
                    ..self.plain(operands, 1)?
                };
                self.push_meant(Meaning::Offset, Op::Alu(offset_alu()), args);
            }
            "isspacep" => {
                let window = match mods.take_first() {
                    Some("global" | "const") => 0,
                    Some("shared" | "shared::cta" | "shared::cluster") => SHARED_WINDOW,
                    Some("local") => LOCAL_WINDOW,
                    Some("param") => PARAM_WINDOW,
                    _ => return unsupported("address space"),
                };
                let args = Args { imm: (window >> 48) as i64, ..self.plain(operands, 1)? };
                self.alu(alu_imm!(|imm; a: u64| -> bool { a >> 48 == imm as u64 }), args);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn mov(&mut self, operands: &[Operand<'_>], ty: Ty) -> Decode {
        let [to, from] = operands else { return malformed("mov needs two operands") };
        let bits = ty.bits();
        match (to, from) {
            (Operand::Vector(_), Operand::Vector(_)) => unsupported("vector registers"),
            (Operand::Vector(parts), whole) => {
                let (width, count) = Self::parts(parts, bits)?;
                let a = self.source(whole)?;
                let slots: Vec<Slot> =
                    parts.iter().map(|part| self.destination(part)).collect::<Decode<_>>()?;
                // The source may be one of the destinations: copy it first.
                let copy = self.temporary();
                self.push_meant(
                    Meaning::Move(64),
                    Op::Alu(move_alu(64)),
                    Args { d: copy, a, ..Args::default() },
                );
                for (index, d) in slots.into_iter().enumerate().take(count) {
                    let args = Args { d, a: copy, imm: i64::from(width) * index as i64, ..Args::default() };
                    let alu = match width {
                        8 => alu_imm!(|imm; a: u64| -> u8 { (a >> imm) as u8 }),
                        16 => alu_imm!(|imm; a: u64| -> u16 { (a >> imm) as u16 }),
                        _ => alu_imm!(|imm; a: u64| -> u32 { (a >> imm) as u32 }),
                    };
                    self.push_meant(Meaning::Extract(width), Op::Alu(alu), args);
                }
                Ok(())
            }
            (whole, Operand::Vector(parts)) => {
                let (width, _) = Self::parts(parts, bits)?;
                let mut slots = [0; 4];
                for (slot, part) in slots.iter_mut().zip(parts) {
                    *slot = self.source(part)?;
                }
                let d = self.destination(whole)?;
                let args = Args { d, a: slots[0], b: slots[1], c: slots[2], e: slots[3], ..Args::default() };
                let alu = match (width, parts.len()) {
                    (8, 2) => alu!(|a: u8, b: u8| -> u16 { u16::from(a) | u16::from(b) << 8 }),
                    (8, _) => alu!(|a: u8, b: u8, c: u8, e: u8| -> u32 { u32::from_le_bytes([a, b, c, e]) }),
                    (16, 2) => alu!(|a: u16, b: u16| -> u32 { u32::from(a) | u32::from(b) << 16 }),
                    (16, _) => alu!(|a: u16, b: u16, c: u16, e: u16| -> u64 {
                        u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(e) << 48
                    }),
                    _ => alu!(|a: u32, b: u32| -> u64 { u64::from(a) | u64::from(b) << 32 }),
                };
                self.alu(alu, args);
                Ok(())
            }
            _ => {
                let args = self.plain(operands, 1)?;
                if bits > 64 {
                    return unsupported("128-bit registers");
                }
                self.alu(move_alu(bits), args);
                Ok(())
            }
        }
    }

    fn parts(parts: &[Operand<'_>], bits: u32) -> Decode<(u32, usize)> {
        let count = parts.len();
        let width = if count == 2 || count == 4 { bits / count as u32 } else { 0 };
        match width {
            _ if bits > 64 => unsupported("128-bit registers"),
            8 | 16 | 32 => Ok((width, count)),
            _ => malformed("vector does not fit the type"),
        }
    }
}
