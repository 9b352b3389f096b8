//! Modifiers, types, and the macros that make one function per opcode and type.

use super::{Decode, unsupported};
use crate::softfloat::Rounding;

/// Types of PTX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as in PTX")]
#[non_exhaustive]
pub enum Ty {
    Pred,
    B8,
    B16,
    B32,
    B64,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    Tf32,
    F32,
    F64,
    U16x2,
    S16x2,
    S4,
    U4,
    B1,
    Other,
}

impl Ty {
    /// The type of that name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "pred" => Self::Pred,
            "b8" => Self::B8,
            "b16" => Self::B16,
            "b32" => Self::B32,
            "b64" => Self::B64,
            "u8" => Self::U8,
            "u16" => Self::U16,
            "u32" => Self::U32,
            "u64" => Self::U64,
            "s8" => Self::S8,
            "s16" => Self::S16,
            "s32" => Self::S32,
            "s64" => Self::S64,
            "f16" => Self::F16,
            "f16x2" => Self::F16x2,
            "bf16" => Self::Bf16,
            "bf16x2" => Self::Bf16x2,
            "tf32" => Self::Tf32,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "u16x2" => Self::U16x2,
            "s16x2" => Self::S16x2,
            "s4" => Self::S4,
            "u4" => Self::U4,
            "b1" => Self::B1,
            "b128" | "f32x2" | "e4m3" | "e5m2" | "e4m3x2" | "e5m2x2" => Self::Other,
            _ => return None,
        })
    }

    /// Width; 1 for predicates, 128 for what is wider than any register.
    pub fn bits(self) -> u32 {
        match self {
            Self::Pred | Self::B1 => 1,
            Self::S4 | Self::U4 => 4,
            Self::B8 | Self::U8 | Self::S8 => 8,
            Self::B16 | Self::U16 | Self::S16 | Self::F16 | Self::Bf16 => 16,
            Self::B64 | Self::U64 | Self::S64 | Self::F64 => 64,
            Self::Other => 128,
            _ => 32,
        }
    }

    /// Whether it is a signed integer.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::S8 | Self::S16 | Self::S32 | Self::S64)
    }

    /// Whether it is a floating-point type.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Self::F16 | Self::F16x2 | Self::Bf16 | Self::Bf16x2 | Self::Tf32 | Self::F32 | Self::F64
        )
    }

    /// The same width without a sign.
    pub fn unsigned(self) -> Self {
        match self {
            Self::B8 | Self::S8 => Self::U8,
            Self::B16 | Self::S16 | Self::F16 | Self::Bf16 => Self::U16,
            Self::B32 | Self::S32 | Self::F32 | Self::F16x2 | Self::Bf16x2 => Self::U32,
            Self::B64 | Self::S64 | Self::F64 => Self::U64,
            other => other,
        }
    }
}

/// The modifiers of a statement. Every one must be taken by whoever decodes it.
pub(crate) struct Mods<'a> {
    words: Vec<&'a str>,
    types: Vec<Ty>,
}

impl<'a> Mods<'a> {
    pub fn new(modifiers: &[&'a str]) -> Self {
        let types = modifiers.iter().filter_map(|word| Ty::named(word)).collect();
        let words = modifiers.iter().filter(|word| Ty::named(word).is_none()).copied().collect();
        Self { words, types }
    }

    pub fn last_type(&self) -> Option<Ty> {
        self.types.last().copied()
    }

    pub fn ty(&self) -> Decode<Ty> {
        match self.types.last() {
            Some(ty) => Ok(*ty),
            None => super::malformed("instruction without a type"),
        }
    }

    pub fn types(&self) -> &[Ty] {
        &self.types
    }

    pub fn take(&mut self, word: &str) -> bool {
        let found = self.words.iter().position(|known| *known == word);
        if let Some(index) = found {
            self.words.remove(index);
        }
        found.is_some()
    }

    /// Takes the first of the words that is there.
    pub fn take_any(&mut self, words: &[&'static str]) -> Option<&'static str> {
        words.iter().copied().find(|word| self.take(word))
    }

    /// Takes every word that starts so.
    pub fn take_prefixed(&mut self, prefix: &str) {
        self.words.retain(|word| !word.starts_with(prefix));
    }

    pub fn contains(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    /// Takes the first word that `read` understands.
    pub fn take_matching<T>(&mut self, read: fn(&str) -> Option<T>) -> Option<T> {
        let (index, value) =
            self.words.iter().enumerate().find_map(|(index, word)| Some((index, read(word)?)))?;
        self.words.remove(index);
        Some(value)
    }

    pub fn take_first(&mut self) -> Option<&'a str> {
        (!self.words.is_empty()).then(|| self.words.remove(0))
    }

    pub fn rounding(&mut self) -> Option<Rounding> {
        Some(match self.take_any(&["rn", "rz", "rm", "rp", "rna"])? {
            "rn" => Rounding::Nearest,
            "rz" => Rounding::Zero,
            "rm" => Rounding::Down,
            "rp" => Rounding::Up,
            _ => Rounding::NearestAway,
        })
    }

    pub fn finish(self) -> Decode {
        match self.words.first() {
            None => Ok(()),
            Some(word) => unsupported(format!("modifier .{word}")),
        }
    }
}

/// A pure operation from a closure-like body over operands a, b, c, e.
macro_rules! alu {
    (|$a:ident: $ta:ty| -> $r:ty $body:block) => {
        alu!(@make s x $r $body, $a: $ta = a)
    };
    (|$a:ident: $ta:ty, $b:ident: $tb:ty| -> $r:ty $body:block) => {
        alu!(@make s x $r $body, $a: $ta = a, $b: $tb = b)
    };
    (|$a:ident: $ta:ty, $b:ident: $tb:ty, $c:ident: $tc:ty| -> $r:ty $body:block) => {
        alu!(@make s x $r $body, $a: $ta = a, $b: $tb = b, $c: $tc = c)
    };
    (|$a:ident: $ta:ty, $b:ident: $tb:ty, $c:ident: $tc:ty, $e:ident: $te:ty| -> $r:ty $body:block) => {
        alu!(@make s x $r $body, $a: $ta = a, $b: $tb = b, $c: $tc = c, $e: $te = e)
    };
    (@make $s:ident $x:ident $r:ty $body:block, $($name:ident: $type:ty = $field:ident),*) => {{
        fn run($s: &mut [u64], $x: &$crate::program::Args) {
            $(let $name = <$type as $crate::value::Value>::from_slot($s[$x.$field as usize]);)*
            let result: $r = $body;
            $s[$x.d as usize] = $crate::value::Value::to_slot(result);
        }
        run as $crate::program::Alu
    }};
}

/// The same with the immediate field, as `|imm; a: T, …|`.
macro_rules! alu_imm {
    (|$imm:ident; $a:ident: $ta:ty $(, $b:ident: $tb:ty $(, $c:ident: $tc:ty)?)?| -> $r:ty $body:block) => {{
        fn run(s: &mut [u64], x: &$crate::program::Args) {
            let $imm = x.imm;
            let $a = <$ta as $crate::value::Value>::from_slot(s[x.a as usize]);
            $(let $b = <$tb as $crate::value::Value>::from_slot(s[x.b as usize]);
            $(let $c = <$tc as $crate::value::Value>::from_slot(s[x.c as usize]);)?)?
            let result: $r = $body;
            s[x.d as usize] = $crate::value::Value::to_slot(result);
        }
        run as $crate::program::Alu
    }};
}

/// One arm per type: `by_type!(ty; U32 = u32, S32 = i32; T => expression of T)`.
macro_rules! by_type {
    ($ty:expr; $($name:ident = $type:ty),*; $T:ident => $body:expr) => {
        match $ty {
            $($crate::decode::select::Ty::$name => { type $T = $type; $body })*
            other => return $crate::decode::unsupported(format!("type {other:?}")),
        }
    };
}

macro_rules! by_integer {
    ($ty:expr; $T:ident => $body:expr) => {
        by_type!($ty; U16 = u16, S16 = i16, U32 = u32, S32 = i32, U64 = u64, S64 = i64; $T => $body)
    };
}

macro_rules! by_width {
    ($ty:expr; $T:ident => $body:expr) => {
        by_type!($ty.unsigned(); U16 = u16, U32 = u32, U64 = u64; $T => $body)
    };
}
