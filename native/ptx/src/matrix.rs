//! Matrices in the registers of a warp: which lane holds which element, and their products.
//!
//! All layouts follow one pattern. A lane has a row of four (`lane / 4`) and a place in it (`lane % 4`); a register
//! holds neighbours along the inner dimension, and the registers of a lane step through tiles of eight.
//! Fragments of `wmma`, whose layout PTX leaves open, are tiles of `mma` side by side, repeated where the
//! fragment has more registers than the matrix has elements.

use crate::softfloat::{F16, F64, Rounding, convert, widen_bfloat, widen_half};

/// A matrix operand of `d = a × b + c`. The result lies like the accumulator `c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    A,
    B,
    Accumulator,
}

/// Element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    Half,
    Brain,
    Tensor32,
    Single,
    Double,
    Signed(u32),
    Unsigned(u32),
    /// One bit, products by `xor` or `and`, sums by counting.
    Bit,
}

impl Element {
    pub fn bits(self) -> u32 {
        match self {
            Self::Half | Self::Brain => 16,
            Self::Tensor32 | Self::Single => 32,
            Self::Double => 64,
            Self::Signed(bits) | Self::Unsigned(bits) => bits,
            Self::Bit => 1,
        }
    }

    /// Elements in a register.
    pub fn packed(self) -> u32 {
        (32 / self.bits()).max(1)
    }

    fn real(self, bits: u32) -> f64 {
        f64::from(match self {
            Self::Half => widen_half(bits as u16),
            Self::Brain => widen_bfloat(bits as u16),
            Self::Tensor32 => f32::from_bits(bits & 0xffff_e000),
            _ => f32::from_bits(bits),
        })
    }

    fn integer(self, bits: u32) -> i64 {
        let shift = 32 - self.bits();
        match self {
            Self::Signed(_) => i64::from((bits << shift) as i32 >> shift),
            _ => i64::from(bits << shift >> shift),
        }
    }
}

/// How a matrix lies in the registers of a warp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub role: Role,
    pub rows: u32,
    pub columns: u32,
    pub element: Element,
}

impl Layout {
    /// Registers of a lane that hold different elements.
    pub fn registers(self) -> u32 {
        self.rows * self.columns / (32 * self.element.packed())
    }

    /// The first element of a lane's first register.
    pub fn origin(self, lane: u32) -> (u32, u32) {
        let (outer, inner) = (lane >> 2, lane & 3);
        let packed = self.element.packed();
        match self.role {
            Role::A => (outer, inner * packed),
            Role::B => (inner * packed, outer),
            Role::Accumulator => (outer, inner * 2),
        }
    }

    /// What a register adds to the origin.
    pub fn step(self, register: u32) -> (u32, u32) {
        let packed = self.element.packed();
        match self.role {
            Role::A => {
                let blocks = self.columns / (4 * packed);
                let tall = (self.rows / 8).min(2);
                let (tile, register) = (register / (tall * blocks), register % (tall * blocks));
                (tile * 16 + register % tall * 8, register / tall * 4 * packed)
            }
            Role::B => {
                let blocks = self.rows / (4 * packed);
                (register % blocks * 4 * packed, register / blocks * 8)
            }
            Role::Accumulator => {
                let first = register * packed;
                let tall = (self.rows / 8).min(2);
                let tile = first / (2 * tall);
                let (down, right) = if self.columns > 8 { (0, tile * 8) } else { (tile * 16, 0) };
                (down + first / 2 % tall * 8, right + first % 2)
            }
        }
    }

    /// Calls `visit` with the index of each element and where it is: register, lane, place in the register.
    fn each(self, mut visit: impl FnMut(usize, usize, usize, u32)) {
        let packed = self.element.packed();
        for register in 0..self.registers() {
            let (down, right) = self.step(register);
            for lane in 0..32 {
                let (row, column) = self.origin(lane);
                for place in 0..packed {
                    let (row, column) = match self.role {
                        Role::B => (row + down + place, column + right),
                        _ => (row + down, column + right + place),
                    };
                    let index = (row * self.columns + column) as usize;
                    visit(index, register as usize, lane as usize, place);
                }
            }
        }
    }
}

/// `d = a × b + c` of the whole warp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Product {
    pub a: Layout,
    pub b: Layout,
    pub c: Layout,
    pub d: Layout,
    /// Clamp integer sums.
    pub saturate: bool,
    /// Single bits: `and` instead of `xor`.
    pub conjunction: bool,
    /// Rounding of f64.
    pub rounding: Rounding,
}

impl Product {
    /// The registers of the result, by register and lane. `read` gives a register of a lane.
    pub fn compute(&self, read: impl Fn(Role, usize, usize) -> u64) -> Vec<[u64; 32]> {
        match self.a.element {
            Element::Double => self.doubles(&read),
            Element::Signed(_) | Element::Unsigned(_) | Element::Bit => self.integers(&read),
            _ => self.reals(&read),
        }
    }

    fn gather<T: Copy>(
        layout: Layout,
        read: &impl Fn(Role, usize, usize) -> u64,
        zero: T,
        value: impl Fn(u64, u32) -> T,
    ) -> Vec<T> {
        let mut matrix = vec![zero; (layout.rows * layout.columns) as usize];
        layout.each(|index, register, lane, place| {
            matrix[index] = value(read(layout.role, register, lane), place);
        });
        matrix
    }

    fn scatter<T: Copy>(&self, matrix: &[T], bits: impl Fn(T) -> u64) -> Vec<[u64; 32]> {
        let mut registers = vec![[0; 32]; self.d.registers() as usize];
        let width = self.d.element.bits();
        self.d.each(|index, register, lane, place| {
            registers[register][lane] |= bits(matrix[index]) << (place * width);
        });
        registers
    }

    /// Sums of exact products in f64, rounded once: closer than the instruction promises.
    fn reals(&self, read: &impl Fn(Role, usize, usize) -> u64) -> Vec<[u64; 32]> {
        let real = |element: Element| {
            move |bits: u64, place: u32| {
                element.real((bits as u32).checked_shr(place * element.bits()).unwrap_or(0))
            }
        };
        let a = Self::gather(self.a, read, 0.0, real(self.a.element));
        let b = Self::gather(self.b, read, 0.0, real(self.b.element));
        let mut sums = Self::gather(self.c, read, 0.0, real(self.c.element));
        let (inner, columns) = (self.a.columns as usize, self.d.columns as usize);
        for (sums, a) in sums.chunks_mut(columns).zip(a.chunks(inner)) {
            for (&a, b) in a.iter().zip(b.chunks(columns)) {
                for (sum, &b) in sums.iter_mut().zip(b) {
                    *sum += a * b;
                }
            }
        }
        if self.d.element == Element::Half {
            self.scatter(&sums, |sum| convert(sum.to_bits(), F64, F16, Rounding::Nearest))
        } else {
            self.scatter(&sums, |sum: f64| {
                u64::from(if sum.is_nan() { 0x7fff_ffff } else { (sum as f32).to_bits() })
            })
        }
    }

    fn doubles(&self, read: &impl Fn(Role, usize, usize) -> u64) -> Vec<[u64; 32]> {
        let [a, b, mut sums] =
            [self.a, self.b, self.c].map(|layout| Self::gather(layout, read, 0, |bits, _| bits));
        let (inner, columns) = (self.a.columns as usize, self.d.columns as usize);
        for (sums, a) in sums.chunks_mut(columns).zip(a.chunks(inner)) {
            for (&a, b) in a.iter().zip(b.chunks(columns)) {
                for (sum, &b) in sums.iter_mut().zip(b) {
                    *sum = crate::softfloat::fused_double(a, b, *sum, self.rounding);
                }
            }
        }
        self.scatter(&sums, |sum| sum)
    }

    fn integers(&self, read: &impl Fn(Role, usize, usize) -> u64) -> Vec<[u64; 32]> {
        let integer = |element: Element| {
            move |bits: u64, place: u32| {
                element.integer((bits as u32).checked_shr(place * element.bits()).unwrap_or(0))
            }
        };
        let a = Self::gather(self.a, read, 0, integer(self.a.element));
        let b = Self::gather(self.b, read, 0, integer(self.b.element));
        let mut sums = Self::gather(self.c, read, 0, integer(self.c.element));
        let (inner, columns) = (self.a.columns as usize, self.d.columns as usize);
        let exclusive = self.a.element == Element::Bit && !self.conjunction;
        for (sums, a) in sums.chunks_mut(columns).zip(a.chunks(inner)) {
            for (&a, b) in a.iter().zip(b.chunks(columns)) {
                for (sum, &b) in sums.iter_mut().zip(b) {
                    *sum += if exclusive { a ^ b } else { a * b };
                }
            }
        }
        self.scatter(&sums, |sum| {
            let sum = if self.saturate { sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) } else { sum };
            u64::from(sum as u32)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every element is somewhere exactly once.
    #[test]
    fn layouts_cover_their_matrices() {
        let half = |role, rows, columns| Layout { role, rows, columns, element: Element::Half };
        let single =
            |rows, columns| Layout { role: Role::Accumulator, rows, columns, element: Element::Single };
        let bytes = |role, rows, columns| Layout { role, rows, columns, element: Element::Signed(8) };
        let all = [
            half(Role::A, 16, 16),
            half(Role::A, 32, 16),
            half(Role::A, 8, 16),
            half(Role::A, 16, 8),
            half(Role::B, 16, 16),
            half(Role::B, 16, 8),
            half(Role::B, 16, 32),
            half(Role::B, 8, 8),
            half(Role::Accumulator, 16, 16),
            half(Role::Accumulator, 8, 32),
            half(Role::Accumulator, 32, 8),
            half(Role::Accumulator, 16, 8),
            single(16, 16),
            single(8, 32),
            single(32, 8),
            single(16, 8),
            single(8, 8),
            bytes(Role::A, 16, 32),
            bytes(Role::A, 16, 16),
            bytes(Role::A, 8, 16),
            bytes(Role::A, 32, 16),
            bytes(Role::B, 32, 8),
            bytes(Role::B, 16, 8),
            bytes(Role::B, 16, 32),
        ];
        for layout in all {
            let mut seen = vec![0; (layout.rows * layout.columns) as usize];
            layout.each(|index, _, _, _| seen[index] += 1);
            assert!(seen.iter().all(|&count| count == 1), "{layout:?}");
        }
    }
}
