//! Exact binary floating point in integers, rounded once. It serves every rounding mode that the host
//! does not offer, and the formats it does not have (f16, bf16).

/// Rounding modes of PTX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// `.rn`
    Nearest,
    /// `.rz`
    Zero,
    /// `.rm`
    Down,
    /// `.rp`
    Up,
    /// `.rna`
    NearestAway,
}

/// A binary interchange format: exponent bits and stored fraction bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    exponent: u32,
    fraction: u32,
}

pub(crate) const F16: Format = Format { exponent: 5, fraction: 10 };
pub(crate) const BF16: Format = Format { exponent: 8, fraction: 7 };
pub(crate) const TF32: Format = Format { exponent: 8, fraction: 10 };
pub(crate) const F32: Format = Format { exponent: 8, fraction: 23 };
pub(crate) const F64: Format = Format { exponent: 11, fraction: 52 };

impl Format {
    fn sign_bit(self) -> u64 {
        1 << (self.exponent + self.fraction)
    }
    fn infinity(self) -> u64 {
        ((1 << self.exponent) - 1) << self.fraction
    }
    fn nan(self) -> u64 {
        match self {
            F16 | BF16 => 0x7fff,
            F32 | TF32 => 0x7fff_ffff >> (23 - self.fraction),
            _ => 0x7ff8_0000_0000_0000,
        }
    }
    fn bias(self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }
}

/// A number: `mantissa × 2^exponent`, plus a nonzero amount below the last bit if `sticky`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Real {
    Nan,
    Infinity(bool),
    Finite { negative: bool, mantissa: u128, exponent: i32, sticky: bool },
}

use Real::{Finite, Infinity, Nan};

impl Real {
    pub fn unpack(bits: u64, format: Format) -> Self {
        let negative = bits & format.sign_bit() != 0;
        let fraction = bits & ((1 << format.fraction) - 1);
        let exponent = (bits & format.infinity()) >> format.fraction;
        let lowest = 1 - format.bias() - format.fraction as i32;
        if exponent == (1 << format.exponent) - 1 {
            return if fraction == 0 { Infinity(negative) } else { Nan };
        }
        let (mantissa, exponent) = if exponent == 0 {
            (fraction, lowest)
        } else {
            (fraction | 1 << format.fraction, exponent as i32 - 1 + lowest)
        };
        Finite { negative, mantissa: u128::from(mantissa), exponent, sticky: false }
    }

    pub fn from_integer(value: i128) -> Self {
        Finite { negative: value < 0, mantissa: value.unsigned_abs(), exponent: 0, sticky: false }
    }

    /// Rounds to a format's bit pattern. Tiny results become subnormal.
    pub fn pack(self, format: Format, rounding: Rounding) -> u64 {
        let (negative, mantissa, exponent, sticky) = match self {
            Nan => return format.nan(),
            Infinity(negative) => return format.infinity() | if negative { format.sign_bit() } else { 0 },
            Finite { negative, mantissa, exponent, sticky } => (negative, mantissa, exponent, sticky),
        };
        let sign = if negative { format.sign_bit() } else { 0 };
        if mantissa == 0 && !sticky {
            return sign;
        }
        // Put the top bit at 126, then cut to the precision that the exponent allows.
        let shift = mantissa.leading_zeros() as i32 - 1;
        let (mantissa, exponent) = if mantissa == 0 {
            (1, -100_000)
        } else if shift >= 0 {
            (mantissa << shift, exponent - shift)
        } else {
            ((mantissa >> 1) | (mantissa & 1), exponent + 1)
        };
        let lowest = 1 - format.bias() - format.fraction as i32;
        let top = exponent + 126;
        let unit = (top - format.fraction as i32).max(lowest);
        let cut = unit - exponent;
        let (kept, half, rest) = if cut > 127 {
            (0u128, false, true)
        } else {
            let below = mantissa & ((1u128 << cut) - 1);
            let half_bit = 1u128 << (cut - 1);
            (mantissa >> cut, below & half_bit != 0, below & (half_bit - 1) != 0 || sticky)
        };
        let up = match rounding {
            Rounding::Nearest => half && (rest || kept & 1 == 1),
            Rounding::NearestAway => half,
            Rounding::Zero => false,
            Rounding::Down => negative && (half || rest),
            Rounding::Up => !negative && (half || rest),
        };
        let kept = kept as u64 + u64::from(up);
        let hidden = 1u64 << format.fraction;
        // Adding the exponent field to the mantissa carries correctly from subnormal to normal and on.
        let bits = if kept < hidden { kept } else { kept + ((unit - lowest) as u64 * hidden) };
        if bits >= format.infinity() || unit - lowest > 1 << format.exponent {
            let away = match rounding {
                Rounding::Nearest | Rounding::NearestAway => true,
                Rounding::Zero => false,
                Rounding::Down => negative,
                Rounding::Up => !negative,
            };
            return sign | (format.infinity() - u64::from(!away));
        }
        sign | bits
    }

    pub fn negate(self) -> Self {
        match self {
            Nan => Nan,
            Infinity(negative) => Infinity(!negative),
            Finite { negative, mantissa, exponent, sticky } => {
                Finite { negative: !negative, mantissa, exponent, sticky }
            }
        }
    }

    /// Exact for operands of at most 64 bits.
    pub fn multiply(self, other: Self) -> Self {
        match (self, other) {
            (Nan, _) | (_, Nan) => Nan,
            (Infinity(sign), Infinity(other)) => Infinity(sign ^ other),
            (Infinity(sign), Finite { negative, mantissa, .. })
            | (Finite { negative, mantissa, .. }, Infinity(sign)) => {
                if mantissa == 0 {
                    Nan
                } else {
                    Infinity(sign ^ negative)
                }
            }
            (
                Finite { negative: n, mantissa: m, exponent: e, .. },
                Finite { negative, mantissa, exponent, .. },
            ) => Finite {
                negative: n ^ negative,
                mantissa: m * mantissa,
                exponent: e + exponent,
                sticky: false,
            },
        }
    }

    /// The sum, with at least 18 bits more than its operands' 108. An exact zero sum of unlike signs is
    /// negative only when rounding down.
    pub fn add(self, other: Self, rounding: Rounding) -> Self {
        let (mut large, mut small) = match (self, other) {
            (Nan, _) | (_, Nan) => return Nan,
            (Infinity(a), Infinity(b)) => return if a == b { Infinity(a) } else { Nan },
            (Infinity(sign), _) | (_, Infinity(sign)) => return Infinity(sign),
            (
                Finite { negative: n, mantissa: m, exponent: e, .. },
                Finite { negative, mantissa, exponent, .. },
            ) => ((n, m, e), (negative, mantissa, exponent)),
        };
        if large.1 == 0 && small.1 == 0 {
            let negative = if large.0 == small.0 { large.0 } else { rounding == Rounding::Down };
            return Finite { negative, mantissa: 0, exponent: 0, sticky: false };
        }
        let top = |number: (bool, u128, i32)| {
            if number.1 == 0 { i32::MIN } else { number.2 + 127 - number.1.leading_zeros() as i32 }
        };
        if top(large) < top(small) {
            std::mem::swap(&mut large, &mut small);
        }
        let shift = large.1.leading_zeros() as i32 - 2;
        let mantissa = large.1 << shift;
        let exponent = large.2 - shift;
        let distance = exponent - small.2;
        let (aligned, sticky) = if small.1 == 0 {
            (0, false)
        } else if distance <= 0 {
            (small.1 << -distance, false)
        } else if distance > 127 {
            (0, true)
        } else {
            (small.1 >> distance, small.1 & ((1u128 << distance) - 1) != 0)
        };
        if large.0 == small.0 {
            return Finite { negative: large.0, mantissa: mantissa + aligned, exponent, sticky };
        }
        // A lost part of the subtrahend: the exact value lies just below the truncated difference.
        let (difference, negative) = if mantissa >= aligned {
            (mantissa - aligned - u128::from(sticky), large.0)
        } else {
            (aligned - mantissa, small.0)
        };
        let negative = if difference == 0 && !sticky { rounding == Rounding::Down } else { negative };
        Finite { negative, mantissa: difference, exponent, sticky }
    }

    pub fn divide(self, other: Self) -> Self {
        match (self, other) {
            (Nan, _) | (_, Nan) | (Infinity(_), Infinity(_)) => Nan,
            (Infinity(sign), Finite { negative, .. }) => Infinity(sign ^ negative),
            (Finite { negative, .. }, Infinity(sign)) => {
                Finite { negative: negative ^ sign, mantissa: 0, exponent: 0, sticky: false }
            }
            (
                Finite { negative: n, mantissa: m, exponent: e, .. },
                Finite { negative, mantissa: divisor, exponent, .. },
            ) => {
                let negative = n ^ negative;
                match (m, divisor) {
                    (0, 0) => Nan,
                    (_, 0) => Infinity(negative),
                    (0, _) => Finite { negative, mantissa: 0, exponent: 0, sticky: false },
                    _ => {
                        let shift = m.leading_zeros() as i32;
                        let dividend = m << shift;
                        Finite {
                            negative,
                            mantissa: dividend / divisor,
                            exponent: e - shift - exponent,
                            sticky: !dividend.is_multiple_of(divisor),
                        }
                    }
                }
            }
        }
    }

    pub fn square_root(self) -> Self {
        match self {
            Nan | Infinity(true) => Nan,
            Infinity(false) => Infinity(false),
            Finite { mantissa: 0, .. } => self,
            Finite { negative: true, .. } => Nan,
            Finite { mantissa, exponent, .. } => {
                let mut shift = mantissa.leading_zeros() as i32;
                if (exponent - shift) % 2 != 0 {
                    shift -= 1;
                }
                let radicand = mantissa << shift;
                let root = radicand.isqrt();
                Finite {
                    negative: false,
                    mantissa: root,
                    exponent: (exponent - shift) / 2,
                    sticky: root * root != radicand,
                }
            }
        }
    }
}

/// Converts a bit pattern between formats.
pub(crate) fn convert(bits: u64, from: Format, to: Format, rounding: Rounding) -> u64 {
    Real::unpack(bits, from).pack(to, rounding)
}

/// `a × b + c` of f64 bit patterns.
pub(crate) fn fused_double(a: u64, b: u64, c: u64, rounding: Rounding) -> u64 {
    if rounding == Rounding::Nearest {
        return f64::from_bits(a).mul_add(f64::from_bits(b), f64::from_bits(c)).to_bits();
    }
    let [a, b, c] = [a, b, c].map(|bits| Real::unpack(bits, F64));
    a.multiply(b).add(c, rounding).pack(F64, rounding)
}

/// f16 to f32, exactly.
pub(crate) fn widen_half(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    let sign = u32::from(bits & 0x8000) << 16;
    if (0x0400..0x7c00).contains(&magnitude) {
        f32::from_bits(sign | ((magnitude << 13) + (112 << 23)))
    } else {
        f32::from_bits(convert(u64::from(bits), F16, F32, Rounding::Nearest) as u32)
    }
}

/// f32 to f16.
pub(crate) fn narrow_half(value: f32, rounding: Rounding) -> u16 {
    convert(u64::from(value.to_bits()), F32, F16, rounding) as u16
}

/// bf16 to f32, exactly.
pub(crate) fn widen_bfloat(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// f32 to bf16.
pub(crate) fn narrow_bfloat(value: f32, rounding: Rounding) -> u16 {
    convert(u64::from(value.to_bits()), F32, BF16, rounding) as u16
}
