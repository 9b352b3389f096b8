//! What the compiler knows of each slot: how wide it is, whether it holds floats, and how its value depends on the lane.

use ptx::engine::{
    ALWAYS, Code, GENERIC, GLOBAL, Inst, Meaning, Op, Operation, PARAM, Preset, SHARED, Slot, Ty,
};

use crate::flow::Flow;

/// How a slot's value is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Predicate,
    I32,
    I64,
    F32,
    F64,
}

impl Kind {
    pub fn bytes(self) -> usize {
        if matches!(self, Self::I64 | Self::F64) { 8 } else { 4 }
    }
}

/// How a slot's value depends on the lane of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The same in all lanes.
    Uniform,
    /// Grows by this much from lane to lane, modulo its width.
    Linear(i64),
    Varying,
}

impl Class {
    fn join(self, other: Self) -> Self {
        if self == other { self } else { Self::Varying }
    }
    fn linear(stride: i64) -> Self {
        if stride == 0 { Self::Uniform } else { Self::Linear(stride) }
    }
    fn stride(self) -> Option<i64> {
        match self {
            Self::Uniform => Some(0),
            Self::Linear(stride) => Some(stride),
            Self::Varying => None,
        }
    }
}

/// Everything known of a function's slots, for groups of `lanes` threads.
#[derive(Debug)]
pub(crate) struct Plan {
    pub lanes: usize,
    pub kinds: Vec<Kind>,
    pub classes: Vec<Class>,
    /// The preset of each slot that is never written.
    pub presets: Vec<Option<Preset>>,
    pub flow: Flow,
    /// Bytes from the start of the packed registers to each slot's.
    pub offsets: Vec<usize>,
    /// Words of packed registers.
    pub words: usize,
    /// The function is compiled however much code it makes.
    pub unlimited: bool,
}

impl Plan {
    pub fn new(code: &Code, lanes: usize) -> Self {
        let slots = code.frame as usize;
        let mut presets: Vec<Option<Preset>> = vec![None; slots];
        for &(slot, preset) in &code.presets {
            presets[slot as usize] = Some(preset);
        }
        for inst in &code.insts {
            for slot in crate::flow::effect(code, inst).writes {
                // Functions on memory may only in principle write all that they name.
                let certain =
                    !matches!((inst.op, inst.meaning), (Op::Memory(_) | Op::WaitingLoad(_), Meaning::Other));
                if certain {
                    presets[slot as usize] = None;
                }
            }
        }
        if lanes > 1 {
            // These are packed like any other slot.
            let packs =
                |preset: Option<Preset>| preset.filter(|&preset| preset_class(preset) != Class::Varying);
            presets.iter_mut().for_each(|preset| *preset = packs(*preset));
        }
        let held: Vec<bool> = presets.iter().map(Option::is_some).collect();
        let flow = Flow::new(code, &held);
        let kinds = kinds(code, &flow);
        let mut plan = Self {
            lanes,
            kinds,
            classes: Vec::new(),
            presets,
            flow,
            offsets: Vec::new(),
            words: 0,
            unlimited: false,
        };
        plan.classes = plan.classify(code);
        plan.lay_out();
        plan
    }

    /// Alone a thread's packed registers are its slots.
    fn lay_out(&mut self) {
        if self.lanes == 1 {
            self.offsets = (0..self.kinds.len()).map(|slot| 8 * slot).collect();
            self.words = self.kinds.len();
            return;
        }
        let mut at = 0;
        for (class, kind) in self.classes.iter().zip(&self.kinds) {
            self.offsets.push(at);
            at += if *class == Class::Varying { self.lanes * kind.bytes() } else { 8 };
        }
        self.words = at.div_ceil(8);
    }

    pub fn constant(&self, slot: Slot) -> Option<u64> {
        match self.presets[slot as usize] {
            Some(Preset::Constant(value)) => Some(value),
            _ => None,
        }
    }

    /// The least solution: slots that start out as nothing grow as their instructions demand.
    fn classify(&self, code: &Code) -> Vec<Class> {
        let mut classes: Vec<Option<Class>> = self
            .presets
            .iter()
            .map(|preset| {
                preset.map(|preset| if self.lanes == 1 { Class::Uniform } else { preset_class(preset) })
            })
            .collect();
        if self.lanes == 1 {
            return vec![Class::Uniform; classes.len()];
        }
        loop {
            let mut changed = false;
            for (inst, effect) in code.insts.iter().zip(&self.flow.effects) {
                if effect.writes.is_empty() {
                    continue;
                }
                let read = |slot: Slot| if slot == 0 { Some(Class::Uniform) } else { classes[slot as usize] };
                let Some(mut class) = self.transfer(inst, &effect.reads, read) else { continue };
                if inst.guard != ALWAYS {
                    match classes[(inst.guard >> 1) as usize] {
                        Some(Class::Uniform) => {}
                        Some(_) => class = Class::Varying,
                        None => continue,
                    }
                }
                for &slot in &effect.writes {
                    if self.presets[slot as usize].is_some() {
                        continue;
                    }
                    let slot = slot as usize;
                    let mut new = classes[slot].map_or(class, |old| old.join(class));
                    if !matches!(self.kinds[slot], Kind::I32 | Kind::I64) && matches!(new, Class::Linear(_)) {
                        new = Class::Varying;
                    }
                    changed |= classes[slot] != Some(new);
                    classes[slot] = Some(new);
                }
            }
            if changed {
                continue;
            }
            // What is read before anybody writes it may hold anything, and so may what is made of it.
            let mut unknown = false;
            for class in classes.iter_mut().filter(|class| class.is_none()) {
                *class = Some(Class::Varying);
                unknown = true;
            }
            if !unknown {
                break;
            }
        }
        classes.into_iter().map(|class| class.unwrap_or(Class::Varying)).collect()
    }

    /// The class of an instruction's results; none while its operands have none.
    fn transfer(&self, inst: &Inst, reads: &[Slot], read: impl Fn(Slot) -> Option<Class>) -> Option<Class> {
        let x = &inst.args;
        let guard = (inst.guard != ALWAYS).then_some(inst.guard >> 1);
        let inputs = reads.iter().filter(|&&slot| Some(slot) != guard);
        let all = || {
            let mut class = Class::Uniform;
            for &slot in inputs.clone() {
                match read(slot) {
                    Some(Class::Uniform) => {}
                    // An old value that stays where a guard does not hold is no input.
                    None if guard.is_some() && slot == x.d => {}
                    Some(_) if guard.is_some() && slot == x.d => {}
                    Some(_) => class = Class::Varying,
                    None => return None,
                }
            }
            Some(class)
        };
        match (inst.op, inst.meaning) {
            (Op::Alu(_), Meaning::Offset | Meaning::Move(32 | 64)) => Some(match read(x.a)? {
                // What wraps around in 32 bits is no line in 64.
                Class::Linear(_) if self.widens(x.a, x.d) => Class::Varying,
                class => class,
            }),
            (Op::Alu(_), Meaning::Arithmetic(operation, ty, _)) if is_whole(ty) && ty.bits() >= 32 => {
                let (a, b) = (read(x.a)?.stride(), if x.b == 0 { Some(0) } else { read(x.b)?.stride() });
                let linear = match (operation, a, b) {
                    (Operation::Add, Some(a), Some(b)) => a.checked_add(b),
                    (Operation::Sub, Some(a), Some(b)) => a.checked_sub(b),
                    (Operation::Mul, Some(a), Some(0)) => self.scaled(a, x.b),
                    (Operation::Mul, Some(0), Some(b)) => self.scaled(b, x.a),
                    (Operation::Shl, Some(a), Some(0)) => {
                        let count = self.constant(x.b).filter(|&count| count < u64::from(ty.bits()));
                        count.and_then(|count| a.checked_mul(1 << count.min(62)))
                    }
                    _ => None,
                };
                linear.filter(|_| self.fit(ty, &[x.a, x.b, x.d])).map(Class::linear).or_else(all_or(&all))
            }
            (Op::Alu(_), Meaning::MulAdd(ty, _)) if is_whole(ty) && ty.bits() >= 32 => {
                let fused = self.fused(x.a, x.b, read(x.a)?, read(x.b)?, read(x.c)?);
                fused.filter(|_| self.fit(ty, &[x.a, x.b, x.c, x.d])).or_else(all_or(&all))
            }
            (Op::Alu(_), Meaning::MulWide(Ty::U32 | Ty::S32)) => {
                self.fused(x.a, x.b, read(x.a)?, read(x.b)?, Class::Uniform).or_else(all_or(&all))
            }
            (Op::Alu(_), Meaning::MulAddWide(Ty::U32 | Ty::S32)) => {
                self.fused(x.a, x.b, read(x.a)?, read(x.b)?, read(x.c)?).or_else(all_or(&all))
            }
            (Op::Alu(_), Meaning::Convert(to, from, None)) if is_whole(to) && is_whole(from) => {
                let keeps = to.bits() >= 32 && from.bits() >= 32;
                if keeps { read(x.a) } else { all() }
            }
            (Op::Memory(_) | Op::WaitingLoad(_), Meaning::Load { space, .. }) => match read(x.a)? {
                _ if !is_near(x.imm) => Some(Class::Varying),
                Class::Uniform if matches!(space, GLOBAL | SHARED | PARAM) => Some(Class::Uniform),
                // Code splits the group where such an address turns out to be one of local memory; functions do not.
                Class::Uniform if space == GENERIC && matches!(inst.op, Op::Memory(_)) => {
                    Some(Class::Uniform)
                }
                _ => Some(Class::Varying),
            },
            (Op::Alu(_), _) => all(),
            _ => Some(Class::Varying),
        }
    }

    /// Whether registers are as wide as the instruction takes them to be.
    fn fit(&self, ty: Ty, slots: &[Slot]) -> bool {
        let kind = if ty.bits() == 64 { Kind::I64 } else { Kind::I32 };
        slots.iter().all(|&slot| slot == 0 || self.kinds[slot as usize] == kind)
    }

    fn widens(&self, from: Slot, to: Slot) -> bool {
        self.kinds[from as usize] == Kind::I32 && self.kinds[to as usize] == Kind::I64
    }

    /// The stride after a multiplication by a slot, if that is a constant.
    fn scaled(&self, stride: i64, by: Slot) -> Option<i64> {
        if stride == 0 {
            return Some(0);
        }
        // Larger factors would have to be cut to the width of the product; they are no sizes of anything.
        let factor = i64::from(i32::try_from(self.constant(by)?).ok()?);
        stride.checked_mul(factor).filter(|stride| i32::try_from(*stride).is_ok())
    }

    fn fused(&self, a: Slot, b: Slot, class_a: Class, class_b: Class, class_c: Class) -> Option<Class> {
        let product = match (class_a.stride()?, class_b.stride()?) {
            (0, 0) => 0,
            (stride, 0) => self.scaled(stride, b)?,
            (0, stride) => self.scaled(stride, a)?,
            _ => return None,
        };
        product.checked_add(class_c.stride()?).map(Class::linear)
    }
}

fn all_or<'a>(all: &'a impl Fn() -> Option<Class>) -> impl FnOnce() -> Option<Class> + 'a {
    move || all()
}

pub(crate) fn is_whole(ty: Ty) -> bool {
    !ty.is_float() && matches!(ty.unsigned(), Ty::U8 | Ty::U16 | Ty::U32 | Ty::U64)
}

/// Whether an offset from an address is one that code checks: sums of a few do not overflow.
pub(crate) fn is_near(offset: i64) -> bool {
    offset.unsigned_abs() < 1 << 40
}

/// Neighbours in a group differ in the first coordinate alone: groups are formed only where that is so.
fn preset_class(preset: Preset) -> Class {
    match preset {
        Preset::ThreadId(0) | Preset::Lane => Class::Linear(1),
        Preset::Constant(_)
        | Preset::ThreadId(_)
        | Preset::BlockSize(_)
        | Preset::BlockId(_)
        | Preset::GridSize(_)
        | Preset::Warp
        | Preset::WarpCount
        | Preset::Processor
        | Preset::ProcessorCount
        | Preset::GridId
        | Preset::DynamicSharedBytes
        | Preset::TotalSharedBytes
        | Preset::AggregateSharedBytes
        | Preset::ReservedShared(_)
        | Preset::WorkspaceHigh
        | Preset::WorkspaceLow
        | Preset::Variable(_)
        | Preset::Shared(_)
        | Preset::DynamicShared
        | Preset::LocalFrame
        | Preset::Function(_) => Class::Uniform,
        _ => Class::Varying,
    }
}

/// Bits that an instruction's result has, where its meaning says so; values narrower than 32 bits count as 32.
fn result_bits(inst: &Inst) -> Option<u32> {
    Some(match inst.meaning {
        Meaning::Compare(..) | Meaning::Not(1) | Meaning::Logic(_, 1) | Meaning::Move(1) => 1,
        Meaning::Move(bits) | Meaning::Logic(_, bits) | Meaning::Not(bits) | Meaning::Select(bits) => {
            bits.max(32)
        }
        Meaning::Extract(bits) => bits.max(32),
        Meaning::Pack(bits, count) => (bits * count).max(32),
        Meaning::Arithmetic(Operation::PopulationCount | Operation::LeadingZeros, ..) => 32,
        Meaning::Arithmetic(_, ty, _) | Meaning::MulAdd(ty, _) => ty.bits().max(32),
        Meaning::Lop3 | Meaning::Funnel => 32,
        Meaning::Load { bits, signed: false, .. } => bits.max(32),
        _ => return None,
    })
}

fn kinds(code: &Code, flow: &Flow) -> Vec<Kind> {
    let slots = code.frame as usize;
    let mut widest: Vec<Option<u32>> = vec![None; slots];
    let mut known = vec![true; slots];
    let mut votes = vec![0i32; slots];
    for (inst, effect) in code.insts.iter().zip(&flow.effects) {
        let bits = result_bits(inst);
        for &slot in &effect.writes {
            let slot = slot as usize;
            match bits {
                Some(bits) => widest[slot] = Some(widest[slot].unwrap_or(0).max(bits)),
                None => known[slot] = false,
            }
        }
        let guard = (inst.guard != ALWAYS).then_some(inst.guard >> 1);
        let (vote, result) = match inst.meaning {
            Meaning::Arithmetic(Operation::Neg | Operation::Abs, ty, _) if ty.is_float() => (1, 1),
            Meaning::Arithmetic(_, ty, _) | Meaning::MulAdd(ty, _) => {
                let vote = if ty.is_float() { 4 } else { -4 };
                (vote, vote)
            }
            Meaning::Compare(_, ty, _) => (if ty.is_float() { 4 } else { -4 }, 0),
            Meaning::Convert(to, from, _) => {
                (if from.is_float() { 4 } else { -4 }, if to.is_float() { 4 } else { -4 })
            }
            Meaning::Logic(..) | Meaning::Not(_) | Meaning::Lop3 | Meaning::Funnel | Meaning::MulWide(_) => {
                (-4, -4)
            }
            Meaning::MulAddWide(_) | Meaning::Offset => (-4, -4),
            _ => (0, 0),
        };
        if vote != 0 {
            let reads = effect.reads.iter().filter(|&&slot| Some(slot) != guard);
            reads.for_each(|&slot| votes[slot as usize] += vote);
            effect.writes.iter().for_each(|&slot| votes[slot as usize] += result);
        }
        if let Meaning::Load { .. } | Meaning::Store { .. } = inst.meaning {
            votes[inst.args.a as usize] -= 8;
        }
    }
    (0..slots)
        .map(|slot| {
            let declared = u32::from(code.bits.get(slot).copied().unwrap_or(64));
            let bits = match widest[slot] {
                Some(bits) if known[slot] && declared == 64 => bits,
                _ => declared,
            };
            match (bits, votes[slot] > 0) {
                (1, _) => Kind::Predicate,
                (2..=32, true) => Kind::F32,
                (2..=32, false) => Kind::I32,
                (_, true) => Kind::F64,
                _ => Kind::I64,
            }
        })
        .collect()
}
