//! Matrix instructions. Loads and stores of fragments become ordinary accesses of each lane, `ldmatrix` and
//! `movmatrix` become shuffles; only the product itself is an operation of the warp.

use super::fragment::{by_element, matrix_row_op};
use super::memory::{load_op, store_op};
use super::select::{Mods, Ty};
use super::{Decode, Decoder, malformed, offset_alu, unsupported};
use crate::ast::{Operand, Slot};
use crate::matrix::{Element, Layout, Product, Role};
use crate::memory::{GENERIC, SHARED};
use crate::program::{Alu, Args, Collective, Matrix, Op, Preset};
use crate::softfloat::Rounding;

/// Rows, columns and the dimension that disappears.
type Shape = [u32; 3];

fn shape(word: &str) -> Option<Shape> {
    let (rows, rest) = word.strip_prefix('m')?.split_once('n')?;
    let (columns, inner) = rest.split_once('k')?;
    Some([rows.parse().ok()?, columns.parse().ok()?, inner.parse().ok()?])
}

fn element(ty: Ty) -> Decode<Element> {
    Ok(match ty {
        Ty::F16 => Element::Half,
        Ty::Bf16 => Element::Brain,
        Ty::Tf32 => Element::Tensor32,
        Ty::F32 => Element::Single,
        Ty::F64 => Element::Double,
        Ty::S32 => Element::Signed(32),
        Ty::S8 => Element::Signed(8),
        Ty::U8 => Element::Unsigned(8),
        Ty::S4 => Element::Signed(4),
        Ty::U4 => Element::Unsigned(4),
        Ty::B1 => Element::Bit,
        other => return unsupported(format!("matrices of {other:?}")),
    })
}

/// Whether `wmma` has the shape for these multiplicands.
fn is_wmma(shape: Shape, element: Element) -> bool {
    match element {
        Element::Half | Element::Brain | Element::Signed(8) | Element::Unsigned(8) => {
            matches!(shape, [16, 16, 16] | [32, 8, 16] | [8, 32, 16])
        }
        Element::Tensor32 => shape == [16, 16, 8],
        Element::Double => shape == [8, 8, 4],
        Element::Signed(4) | Element::Unsigned(4) => shape == [8, 8, 32],
        Element::Bit => shape == [8, 8, 128],
        _ => false,
    }
}

/// Whether `mma` has the shape on compute capability 8.0, in the layout that all but the oldest have.
fn is_mma(shape: Shape, element: Element) -> bool {
    match element {
        Element::Half | Element::Brain => matches!(shape, [16, 8, 8 | 16]),
        Element::Tensor32 => matches!(shape, [16, 8, 4 | 8]),
        Element::Double => shape == [8, 8, 4],
        Element::Signed(8) | Element::Unsigned(8) => matches!(shape, [8, 8, 16] | [16, 8, 16 | 32]),
        Element::Signed(4) | Element::Unsigned(4) => matches!(shape, [8, 8, 32] | [16, 8, 32 | 64]),
        Element::Bit => matches!(shape, [8, 8, 128] | [16, 8, 128 | 256]),
        _ => false,
    }
}

fn layout(role: Role, [rows, columns, inner]: Shape, element: Element) -> Layout {
    let (rows, columns) = match role {
        Role::A => (rows, inner),
        Role::B => (inner, columns),
        Role::Accumulator => (rows, columns),
    };
    Layout { role, rows, columns, element }
}

/// `d = a + origin(lane) in memory`: b = leading dimension, c = lane; imm: elements per place of a lane,
/// 256 = its place steps along the leading dimension, bits per element above.
fn origin_alu() -> Alu {
    alu_imm!(|imm; a: u64, b: u32, c: u32| -> u64 {
        let (outer, inner) = (u64::from(c >> 2), u64::from(c & 3) * (imm & 255) as u64);
        let (major, minor) = if imm & 256 != 0 { (inner, outer) } else { (outer, inner) };
        let elements = major.wrapping_mul(u64::from(b)).wrapping_add(minor);
        a.wrapping_add(elements.wrapping_mul((imm >> 9) as u64) >> 3)
    })
}

/// `d = a + leading dimension × imm`, imm in bits per unit of the leading dimension.
fn major_alu() -> Alu {
    alu_imm!(|imm; a: u64, b: u32| -> u64 { a.wrapping_add(u64::from(b).wrapping_mul(imm as u64) >> 3) })
}

impl Decoder {
    fn registers<'o, 'a>(operand: &'o Operand<'a>) -> &'o [Operand<'a>] {
        match operand {
            Operand::Vector(items) => items,
            single => std::slice::from_ref(single),
        }
    }

    /// Takes `.sync.aligned`, which change nothing here.
    fn converged(mods: &mut Mods<'_>) {
        mods.take("sync");
        mods.take("aligned");
    }

    fn fragment(operands: &Operand<'_>, layout: Layout, repeats: u32) -> Decode {
        let (count, distinct) = (Self::registers(operands).len() as u32, layout.registers());
        if count == distinct * repeats {
            Ok(())
        } else {
            malformed("fragment has the wrong number of registers")
        }
    }

    /// Fragments of f16 always have eight registers.
    fn repeats(layout: Layout) -> u32 {
        match (layout.role, layout.element) {
            (Role::A | Role::B, Element::Half) => 8 / layout.registers(),
            _ => 1,
        }
    }

    fn wmma_access(&mut self, operands: &[Operand<'_>], mods: &mut Mods<'_>, is_load: bool) -> Decode {
        let role = match mods.take_any(&["a", "b", "c", "d"]) {
            Some("a") if is_load => Role::A,
            Some("b") if is_load => Role::B,
            Some("c") if is_load => Role::Accumulator,
            Some("d") if !is_load => Role::Accumulator,
            _ => return malformed("no such matrix"),
        };
        let row_major = match mods.take_any(&["row", "col"]) {
            Some(order) => order == "row",
            None => return malformed("expected .row or .col"),
        };
        let Some(shape) = mods.take_matching(shape) else { return malformed("expected a shape") };
        let layout = layout(role, shape, element(mods.ty()?)?);
        let known = match role {
            Role::Accumulator => match layout.element {
                Element::Half => is_wmma(shape, Element::Half),
                Element::Single => is_wmma(shape, Element::Half) || is_wmma(shape, Element::Tensor32),
                Element::Double => is_wmma(shape, Element::Double),
                Element::Signed(32) => [Element::Signed(8), Element::Signed(4), Element::Bit]
                    .iter()
                    .any(|&kind| is_wmma(shape, kind)),
                _ => false,
            },
            _ => is_wmma(shape, layout.element),
        };
        if !known {
            return unsupported("matrices of this shape and type");
        }
        let (fragment, address, stride) = match operands {
            [first, second] if is_load => (first, second, None),
            [first, second, stride] if is_load => (first, second, Some(stride)),
            [first, second] => (second, first, None),
            [first, second, stride] => (second, first, Some(stride)),
            _ => return malformed("expected two or three operands"),
        };
        Self::fragment(fragment, layout, Self::repeats(layout))?;
        let registers = Self::registers(fragment);
        let slots = registers
            .iter()
            .map(|item| if is_load { self.destination(item) } else { self.source(item) })
            .collect::<Decode<Vec<Slot>>>()?;
        let (a, imm, place) = self.address(address)?;
        let space = self.space(mods, place)?;
        let stride = match stride {
            Some(stride) => self.source(stride)?,
            None => self.constant(u64::from(if row_major { layout.columns } else { layout.rows })),
        };
        self.fragment_accesses(layout, row_major, (a, imm, space), stride, &slots, is_load)
    }

    fn fragment_accesses(
        &mut self,
        layout: Layout,
        row_major: bool,
        (a, imm, space): (Slot, i64, u8),
        stride: Slot,
        slots: &[Slot],
        is_load: bool,
    ) -> Decode {
        let (bits, packed) = (layout.element.bits(), layout.element.packed());
        let inner = if layout.role == Role::Accumulator { 2 } else { packed };
        // Along which dimension a lane's neighbours lie, and which one is contiguous in memory.
        let neighbours_in_row = layout.role != Role::B;
        let contiguous = neighbours_in_row == row_major;
        if bits < 8 && !contiguous {
            return unsupported("this order for elements smaller than a byte");
        }
        let lane = self.frame.preset(Preset::Lane);
        let base = self.scratch(0);
        let shape = i64::from(inner) | if contiguous { 0 } else { 256 } | i64::from(bits) << 9;
        self.alu(origin_alu(), Args { d: base, a, b: stride, c: lane, imm: shape, ..Args::default() });
        let mut majors = vec![(0, base)];
        for (register, &slot) in slots.iter().enumerate() {
            let register = register as u32;
            if register >= layout.registers() {
                let first = slots[(register % layout.registers()) as usize];
                self.alu(offset_alu(), Args { d: slot, a: first, ..Args::default() });
                continue;
            }
            let (down, right) = layout.step(register);
            let (major, minor) = if row_major { (down, right) } else { (right, down) };
            let known = majors.iter().find(|(step, _)| *step == major).map(|&(_, slot)| slot);
            let a = match known {
                Some(slot) => slot,
                None => {
                    let d = self.scratch(majors.len());
                    let args =
                        Args { d, a: base, b: stride, imm: i64::from(major * bits), ..Args::default() };
                    self.alu(major_alu(), args);
                    majors.push((major, d));
                    d
                }
            };
            let imm = imm.wrapping_add(i64::from(minor * bits / 8));
            let args = Args { d: slot, a, b: stride, imm, ..Args::default() };
            let ty = if bits == 64 { Ty::U64 } else { Ty::U32 };
            let op = match (contiguous || packed == 1, is_load) {
                (true, true) => load_op(space, ty, 1, false)?,
                (true, false) => store_op(space, ty, 1)?,
                (false, _) => by_element(space, bits, is_load)?,
            };
            self.push(Op::Memory(op), args);
        }
        Ok(())
    }

    fn product(&mut self, operands: &[Operand<'_>], mods: &mut Mods<'_>, is_wmma_form: bool) -> Decode {
        let Some(shape) = mods.take_matching(shape) else { return malformed("expected a shape") };
        let orders = [mods.take_any(&["row", "col"]), mods.take_any(&["row", "col"])];
        let [d, a, b, c] = match *mods.types() {
            [d, c] if is_wmma_form => [d, Ty::F16, Ty::F16, c],
            [d, a, b, c] => [d, a, b, c],
            _ => return malformed("expected the types of the matrices"),
        };
        let [d, a, b, c] = [element(d)?, element(a)?, element(b)?, element(c)?];
        let multiplicands = match (a, b) {
            (Element::Signed(x) | Element::Unsigned(x), Element::Signed(y) | Element::Unsigned(y)) => {
                x == y && x < 32
            }
            _ => a == b,
        };
        let sums = match a {
            Element::Half => {
                matches!((c, d), (Element::Half | Element::Single, Element::Half | Element::Single))
            }
            Element::Double => c == Element::Double && d == Element::Double,
            Element::Brain | Element::Tensor32 => c == Element::Single && d == Element::Single,
            _ => c == Element::Signed(32) && d == c,
        };
        if !multiplicands || !sums {
            return malformed("types that do not fit each other");
        }
        if !is_wmma_form && a == Element::Half && shape == [8, 8, 4] {
            return unsupported("the layout of compute capability 7.0");
        }
        let known = if is_wmma_form { is_wmma(shape, a) } else { is_mma(shape, a) };
        if !known {
            return unsupported("matrices of this shape and type");
        }
        if !is_wmma_form && orders != [Some("col"), Some("row")] && orders != [Some("row"), Some("col")] {
            return malformed("expected .row.col");
        }
        let mut conjunction = false;
        if a == Element::Bit {
            conjunction = match mods.take_any(&["xor", "and"]) {
                Some(operation) => operation == "and",
                None => return malformed("expected .xor or .and"),
            };
            mods.take("popc");
        }
        let product = Product {
            a: layout(Role::A, shape, a),
            b: layout(Role::B, shape, b),
            c: layout(Role::Accumulator, shape, c),
            d: layout(Role::Accumulator, shape, d),
            saturate: mods.take("satfinite"),
            conjunction,
            rounding: if a == Element::Double { mods.rounding() } else { None }.unwrap_or(Rounding::Nearest),
        };
        let [to, first, second, third] = operands else { return malformed("expected four operands") };
        let layouts = [(to, product.d), (first, product.a), (second, product.b), (third, product.c)];
        for (operand, layout) in layouts {
            Self::fragment(operand, layout, if is_wmma_form { Self::repeats(layout) } else { 1 })?;
        }
        let mut sources = |operand, layout: Layout| -> Decode<Vec<Slot>> {
            let registers = Self::registers(operand).iter().take(layout.registers() as usize);
            registers.map(|item| self.source(item)).collect()
        };
        let (a, b, c) = (sources(first, product.a)?, sources(second, product.b)?, sources(third, product.c)?);
        let d =
            Self::registers(to).iter().map(|item| self.destination(item)).collect::<Decode<Vec<Slot>>>()?;
        self.matrices.push(Matrix { product, d, a, b, c });
        let f = self.constant(u64::from(u32::MAX));
        let imm = self.matrices.len() as i64 - 1;
        self.push(Op::Collective(Collective::Multiply), Args { f, imm, ..Args::default() });
        Ok(())
    }

    /// `d = a of the lane in slot b`, all lanes together.
    fn exchange(&mut self, d: Slot, a: Slot, b: Slot) {
        let (c, f) = (self.constant(31), self.constant(u64::from(u32::MAX)));
        self.push(Op::Collective(Collective::ShuffleIndex), Args { d, a, b, c, f, ..Args::default() });
    }

    fn load_matrix(&mut self, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode {
        let count = match mods.take_any(&["x1", "x2", "x4"]) {
            Some("x1") => 1,
            Some("x2") => 2,
            Some(_) => 4,
            None => return malformed("expected .x1, .x2 or .x4"),
        };
        if !mods.take("m8n8") || mods.ty()? != Ty::B16 {
            return unsupported("matrices of this shape and type");
        }
        let transposed = mods.take("trans");
        let [to, from] = operands else { return malformed("expected two operands") };
        let registers = Self::registers(to);
        if registers.len() != count {
            return malformed("vector does not fit the instruction");
        }
        let (a, imm, place) = self.address(from)?;
        let space = self.space(mods, place)?;
        if !matches!(space, SHARED | GENERIC) {
            return malformed("ldmatrix reads shared memory");
        }
        let lane = self.frame.preset(Preset::Lane);
        let (address, source) = (self.scratch(0), self.scratch(1));
        self.alu(offset_alu(), Args { d: address, a, imm, ..Args::default() });
        let rows_of_lane = if transposed { 2 } else { 1 };
        for (index, register) in registers.iter().enumerate() {
            let index = index as i64;
            let mut rows = [0; 2];
            for (row, slot) in rows.iter_mut().enumerate().take(rows_of_lane) {
                let first = 8 * index + row as i64;
                let alu = if transposed {
                    alu_imm!(|imm; a: u32| -> u32 { imm as u32 + 2 * (a & 3) })
                } else {
                    alu_imm!(|imm; a: u32| -> u32 { imm as u32 + (a >> 2) })
                };
                self.alu(alu, Args { d: source, a: lane, imm: first, ..Args::default() });
                *slot = self.scratch(2 + 2 * index as usize + row);
                self.exchange(*slot, address, source);
                // Only the lower half was exchanged; the upper half says which window it is.
                let whole = alu!(|a: u64, b: u64| -> u64 { a & 0xffff_ffff_0000_0000 | b & 0xffff_ffff });
                self.alu(whole, Args { d: *slot, a: address, b: *slot, ..Args::default() });
            }
            let d = self.destination(register)?;
            let op = matrix_row_op(space, transposed);
            self.push(Op::Memory(op), Args { d, a: rows[0], b: lane, c: rows[1], ..Args::default() });
        }
        Ok(())
    }

    /// Lane `l` gets elements `2 (l % 4)` and the next of column `l / 4`.
    fn transpose(&mut self, operands: &[Operand<'_>], mods: &mut Mods<'_>) -> Decode {
        if !mods.take("m8n8") || !mods.take("trans") || mods.ty()? != Ty::B16 {
            return unsupported("matrices of this shape and type");
        }
        let args = self.plain(operands, 1)?;
        let lane = self.frame.preset(Preset::Lane);
        let (source, low, high) = (self.scratch(0), self.scratch(1), self.scratch(2));
        for (row, d) in [(0, low), (1, high)] {
            let alu = alu_imm!(|imm; a: u32| -> u32 { (2 * (a & 3) + imm as u32) * 4 + (a >> 3) });
            self.alu(alu, Args { d: source, a: lane, imm: row, ..Args::default() });
            self.exchange(d, args.a, source);
        }
        let join = alu!(|a: u32, b: u32, c: u32| -> u32 {
            let shift = (c >> 2 & 1) * 16;
            a >> shift & 0xffff | (b >> shift & 0xffff) << 16
        });
        self.alu(join, Args { d: args.d, a: low, b: high, c: lane, ..Args::default() });
        Ok(())
    }

    pub(super) fn matrix(
        &mut self,
        opcode: &str,
        operands: &[Operand<'_>],
        mods: &mut Mods<'_>,
    ) -> Decode<bool> {
        match opcode {
            "wmma" => {
                Self::converged(mods);
                match mods.take_any(&["load", "store", "mma"]) {
                    Some("load") => self.wmma_access(operands, mods, true)?,
                    Some("store") => self.wmma_access(operands, mods, false)?,
                    Some(_) => self.product(operands, mods, true)?,
                    None => return malformed("expected .load, .store or .mma"),
                }
            }
            "mma" => {
                Self::converged(mods);
                self.product(operands, mods, false)?;
            }
            "ldmatrix" => {
                Self::converged(mods);
                self.load_matrix(operands, mods)?;
            }
            "movmatrix" => {
                Self::converged(mods);
                self.transpose(operands, mods)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
