//! Values of slots: where they are, and as what.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use ptx::engine::{Preset, Slot};

use super::Emitter;
use crate::plan::{Class, Kind};

/// A value in all lanes.
#[derive(Debug, Clone)]
pub(super) enum Val {
    /// The same in all.
    One(Value),
    /// The first lane's, and how much more each next one has.
    Linear(Value, i64),
    /// Vectors. Predicates are masks of 32 bits.
    Many(Vec<Value>),
}

/// The NaN that f32 operations answer.
const NAN: i64 = 0x7fff_ffff;

pub(super) fn scalar(kind: Kind) -> Type {
    match kind {
        Kind::Predicate => types::I8,
        Kind::I32 => types::I32,
        Kind::I64 => types::I64,
        Kind::F32 => types::F32,
        Kind::F64 => types::F64,
    }
}

pub(super) fn vector(kind: Kind) -> Type {
    match kind {
        Kind::Predicate | Kind::I32 => types::I32X4,
        Kind::I64 => types::I64X2,
        Kind::F32 => types::F32X4,
        Kind::F64 => types::F64X2,
    }
}

/// How the bits of a vector are numbered when its type changes.
pub(super) fn as_is() -> MemFlagsData {
    MemFlagsData::new().with_endianness(Endianness::Little)
}

impl Emitter<'_, '_> {
    /// Vectors that a value of this kind takes.
    pub(super) fn vectors(&self, kind: Kind) -> usize {
        (self.plan.lanes * kind.bytes() / 16).max(1)
    }

    fn declare(&mut self, slot: Slot) {
        if !self.variables[slot as usize].is_empty() {
            return;
        }
        let kind = self.plan.kinds[slot as usize];
        let (ty, count) = match self.plan.classes[slot as usize] {
            Class::Varying => (vector(kind), self.vectors(kind)),
            _ => (scalar(kind), 1),
        };
        let variables = (0..count).map(|_| self.b.declare_var(ty)).collect();
        self.variables[slot as usize] = variables;
    }

    fn preset(&mut self, slot: Slot, preset: Preset, kind: Kind) -> Val {
        if let Preset::Constant(value) = preset {
            return Val::One(self.constant(kind, value));
        }
        let flags = MemFlagsData::trusted().with_readonly().with_can_move();
        let whole = if kind == Kind::I64 || kind == Kind::F64 { Kind::I64 } else { Kind::I32 };
        let value = self.b.ins().load(scalar(whole), flags, self.slots, 8 * slot as i32);
        let val = match self.plan.classes[slot as usize] {
            Class::Linear(stride) => Val::Linear(value, stride),
            _ => Val::One(value),
        };
        self.convert(val, whole, kind)
    }

    pub(super) fn constant(&mut self, kind: Kind, value: u64) -> Value {
        match kind {
            Kind::Predicate => self.b.ins().iconst(types::I8, (value & 1) as i64),
            Kind::I32 => self.b.ins().iconst(types::I32, i64::from(value as u32)),
            Kind::I64 => self.b.ins().iconst(types::I64, value as i64),
            Kind::F32 => self.b.ins().f32const(f32::from_bits(value as u32)),
            Kind::F64 => self.b.ins().f64const(f64::from_bits(value)),
        }
    }

    /// A slot's value as a kind, with the NaN that PTX prescribes.
    pub(super) fn read(&mut self, slot: Slot, kind: Kind) -> Val {
        if self.raw.remove(&slot) {
            let val = self.read_raw(slot, Kind::F32);
            let val = self.canonical(val);
            self.define(slot, &val);
        }
        self.read_raw(slot, kind)
    }

    /// The same with any NaN, for operations that make theirs themselves.
    pub(super) fn read_raw(&mut self, slot: Slot, kind: Kind) -> Val {
        if slot == 0 {
            return Val::One(self.constant(kind, 0));
        }
        if let Some(preset) = self.plan.presets[slot as usize] {
            return self.preset(slot, preset, kind);
        }
        self.declare(slot);
        let values: Vec<Value> = self.variables[slot as usize]
            .clone()
            .into_iter()
            .map(|variable| self.b.use_var(variable))
            .collect();
        let val = match self.plan.classes[slot as usize] {
            Class::Uniform => Val::One(values[0]),
            Class::Linear(stride) => Val::Linear(values[0], stride),
            Class::Varying => Val::Many(values),
        };
        self.convert(val, self.plan.kinds[slot as usize], kind)
    }

    pub(super) fn canonical(&mut self, val: Val) -> Val {
        match val {
            Val::One(value) => {
                let is_nan = self.b.ins().fcmp(FloatCC::Unordered, value, value);
                let nan = self.constant(Kind::F32, NAN as u64);
                Val::One(self.b.ins().select(is_nan, nan, value))
            }
            Val::Many(values) => {
                let nan = self.b.ins().iconst(types::I32, NAN);
                let nan = self.b.ins().splat(types::I32X4, nan);
                let fix = |this: &mut Self, value| {
                    let is_nan = this.b.ins().fcmp(FloatCC::Unordered, value, value);
                    let bits = this.b.ins().bitcast(types::I32X4, as_is(), value);
                    let fixed = this.b.ins().bitselect(is_nan, nan, bits);
                    this.b.ins().bitcast(types::F32X4, as_is(), fixed)
                };
                Val::Many(values.into_iter().map(|value| fix(self, value)).collect())
            }
            linear @ Val::Linear(..) => linear,
        }
    }

    /// Gives a slot its value, where the guard holds.
    pub(super) fn write(&mut self, slot: Slot, val: Val, kind: Kind, guard: Option<&Val>) {
        if slot == 0 {
            return;
        }
        self.declare(slot);
        let own = self.plan.kinds[slot as usize];
        let mut val = self.convert(val, kind, own);
        if let Some(guard) = guard {
            let old = self.read(slot, own);
            val = self.choose(guard, val, old, own);
        }
        self.raw.remove(&slot);
        self.define(slot, &val);
    }

    fn define(&mut self, slot: Slot, val: &Val) {
        let kind = self.plan.kinds[slot as usize];
        let variables = self.variables[slot as usize].clone();
        match (self.plan.classes[slot as usize], val) {
            (Class::Varying, val) => {
                let values = self.spread(val.clone(), kind);
                variables
                    .into_iter()
                    .zip(values)
                    .for_each(|(variable, value)| self.b.def_var(variable, value));
            }
            (_, Val::One(value) | Val::Linear(value, _)) => self.b.def_var(variables[0], *value),
            (_, Val::Many(values)) => {
                // Only registers that are used at several widths: the function is given up.
                self.contradicts = true;
                let value = self.b.ins().extractlane(values[0], 0);
                self.b.def_var(variables[0], value);
            }
        }
    }

    /// `guard ? a : b`
    pub(super) fn choose(&mut self, guard: &Val, a: Val, b: Val, kind: Kind) -> Val {
        match (guard, &a, &b) {
            (Val::One(guard), Val::One(a), Val::One(b)) => Val::One(self.b.ins().select(*guard, *a, *b)),
            (Val::One(guard), Val::Linear(a, stride), Val::Linear(b, other)) if stride == other => {
                Val::Linear(self.b.ins().select(*guard, *a, *b), *stride)
            }
            _ => {
                let masks = self.spread(guard.clone(), Kind::Predicate);
                let masks = if kind.bytes() == 8 { self.widen_masks(&masks) } else { masks };
                let (a, b) = (self.spread(a, kind), self.spread(b, kind));
                let whole = if kind.bytes() == 8 { types::I64X2 } else { types::I32X4 };
                let pick = |(mask, (a, b)): (Value, (Value, Value))| {
                    let a = self.b.ins().bitcast(whole, as_is(), a);
                    let b = self.b.ins().bitcast(whole, as_is(), b);
                    let chosen = self.b.ins().bitselect(mask, a, b);
                    self.b.ins().bitcast(vector(kind), as_is(), chosen)
                };
                Val::Many(masks.into_iter().zip(a.into_iter().zip(b)).map(pick).collect())
            }
        }
    }

    pub(super) fn widen_masks(&mut self, masks: &[Value]) -> Vec<Value> {
        let mut wide = Vec::new();
        for &mask in masks {
            wide.push(self.b.ins().swiden_low(mask));
            wide.push(self.b.ins().swiden_high(mask));
        }
        wide
    }

    /// 64-bit lanes to 32-bit ones, the lower halves.
    pub(super) fn narrow(&mut self, values: &[Value]) -> Vec<Value> {
        const LOW: [u8; 16] = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27];
        values
            .chunks(2)
            .map(|pair| {
                let (a, b) = (pair[0], pair.get(1).copied().unwrap_or(pair[0]));
                let a = self.b.ins().bitcast(types::I8X16, as_is(), a);
                let b = self.b.ins().bitcast(types::I8X16, as_is(), b);
                self.shuffle(a, b, LOW, types::I32X4)
            })
            .collect()
    }

    /// Picks bytes of two vectors of bytes.
    pub(super) fn shuffle(&mut self, a: Value, b: Value, mask: [u8; 16], to: Type) -> Value {
        let mask = self.b.func.dfg.immediates.push(mask.to_vec().into());
        let bytes = self.b.ins().shuffle(a, b, mask);
        self.b.ins().bitcast(to, as_is(), bytes)
    }

    /// All lanes as vectors.
    pub(super) fn spread(&mut self, val: Val, kind: Kind) -> Vec<Value> {
        let count = self.vectors(kind);
        match val {
            Val::Many(values) => values,
            Val::One(value) => {
                let value = match kind {
                    Kind::Predicate => {
                        let bit = self.b.ins().uextend(types::I32, value);
                        self.b.ins().ineg(bit)
                    }
                    _ => value,
                };
                let splat = self.b.ins().splat(vector(kind), value);
                vec![splat; count]
            }
            Val::Linear(value, stride) => {
                let splat = self.b.ins().splat(vector(kind), value);
                let per = 16 / kind.bytes();
                (0..count)
                    .map(|index| {
                        let bytes: Vec<u8> = (index * per..(index + 1) * per)
                            .flat_map(|lane| {
                                let more = stride.wrapping_mul(lane as i64).to_le_bytes();
                                more[..kind.bytes()].to_vec()
                            })
                            .collect();
                        let more = self.b.func.dfg.constants.insert(bytes.into());
                        let more = self.b.ins().vconst(vector(kind), more);
                        self.b.ins().iadd(splat, more)
                    })
                    .collect()
            }
        }
    }

    /// The bits of a value as another kind: cut, or filled up with zeros.
    pub(super) fn convert(&mut self, val: Val, from: Kind, to: Kind) -> Val {
        use Kind::{F32, F64, I32, I64, Predicate};
        if from == to {
            return val;
        }
        match (from, to) {
            (Predicate, I32) => match val {
                Val::One(value) => Val::One(self.b.ins().uextend(types::I32, value)),
                val => {
                    let values = self.spread(val, Predicate);
                    let one = self.b.ins().iconst(types::I32, 1);
                    let one = self.b.ins().splat(types::I32X4, one);
                    Val::Many(values.into_iter().map(|value| self.b.ins().band(value, one)).collect())
                }
            },
            (I32, Predicate) => match val {
                Val::One(value) => {
                    let low = self.b.ins().ireduce(types::I8, value);
                    let one = self.b.ins().iconst(types::I8, 1);
                    Val::One(self.b.ins().band(low, one))
                }
                val => {
                    let values = self.spread(val, I32);
                    let one = self.b.ins().iconst(types::I32, 1);
                    let one = self.b.ins().splat(types::I32X4, one);
                    let mask = |value| {
                        let bit = self.b.ins().band(value, one);
                        self.b.ins().icmp(IntCC::Equal, bit, one)
                    };
                    Val::Many(values.into_iter().map(mask).collect())
                }
            },
            (I64, I32) => match val {
                Val::One(value) => Val::One(self.b.ins().ireduce(types::I32, value)),
                Val::Linear(value, stride) => Val::Linear(self.b.ins().ireduce(types::I32, value), stride),
                Val::Many(values) => Val::Many(self.narrow(&values)),
            },
            (I32, I64) => match val {
                Val::One(value) => Val::One(self.b.ins().uextend(types::I64, value)),
                // A sum that wraps around in 32 bits is not linear in 64.
                val => {
                    let values = self.spread(val, I32);
                    let mut wide = Vec::new();
                    for value in values {
                        wide.push(self.b.ins().uwiden_low(value));
                        wide.push(self.b.ins().uwiden_high(value));
                    }
                    Val::Many(wide)
                }
            },
            (F32, I32) | (I32, F32) | (F64, I64) | (I64, F64) => match val {
                Val::One(value) => Val::One(self.b.ins().bitcast(scalar(to), MemFlagsData::new(), value)),
                val => {
                    let values = self.spread(val, from);
                    let cast = |value| self.b.ins().bitcast(vector(to), as_is(), value);
                    Val::Many(values.into_iter().map(cast).collect())
                }
            },
            (F32, _) | (Predicate, _) => {
                let val = self.convert(val, from, I32);
                self.convert(val, I32, to)
            }
            (F64, _) => {
                let val = self.convert(val, from, I64);
                self.convert(val, I64, to)
            }
            (_, F32) | (_, Predicate) => {
                let val = self.convert(val, from, I32);
                self.convert(val, I32, to)
            }
            (_, F64) => {
                let val = self.convert(val, from, I64);
                self.convert(val, I64, to)
            }
            _ => val,
        }
    }

    /// Fetches a slot from the packed registers.
    pub(super) fn load_packed(&mut self, slot: Slot) {
        if slot == 0 || self.plan.presets[slot as usize].is_some() {
            return;
        }
        self.declare(slot);
        self.raw.remove(&slot);
        let kind = self.plan.kinds[slot as usize];
        let offset = self.plan.offsets[slot as usize] as i32;
        let flags = MemFlagsData::trusted();
        if self.plan.classes[slot as usize] == Class::Varying {
            let values = (0..self.vectors(kind))
                .map(|index| {
                    let flags = MemFlagsData::new().with_notrap();
                    self.b.ins().load(vector(kind), flags, self.packed, offset + 16 * index as i32)
                })
                .collect();
            self.define(slot, &Val::Many(values));
            return;
        }
        let value = match kind {
            Kind::Predicate => {
                let value = self.b.ins().load(types::I8, flags, self.packed, offset);
                let one = self.b.ins().iconst(types::I8, 1);
                self.b.ins().band(value, one)
            }
            _ => self.b.ins().load(scalar(kind), flags, self.packed, offset),
        };
        self.define(slot, &Val::One(value));
    }

    /// Puts a slot into the packed registers.
    pub(super) fn store_packed(&mut self, slot: Slot) {
        if slot == 0 || self.plan.presets[slot as usize].is_some() {
            return;
        }
        let kind = self.plan.kinds[slot as usize];
        let mut val = self.read_raw(slot, kind);
        if self.raw.contains(&slot) {
            val = self.canonical(val);
        }
        let offset = self.plan.offsets[slot as usize] as i32;
        if self.plan.classes[slot as usize] == Class::Varying {
            let values = self.spread(val, kind);
            for (index, value) in values.into_iter().enumerate() {
                let flags = MemFlagsData::new().with_notrap();
                self.b.ins().store(flags, value, self.packed, offset + 16 * index as i32);
            }
            return;
        }
        // A thread's slot is whole: what is above the value's width is zero.
        let val = match val {
            Val::Linear(value, _) => Val::One(value),
            val => val,
        };
        if let Val::One(value) = self.convert(val, kind, Kind::I64) {
            self.b.ins().store(MemFlagsData::trusted(), value, self.packed, offset);
        }
    }
}
