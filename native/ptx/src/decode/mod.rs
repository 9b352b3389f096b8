//! Statements to instructions. Each family of opcodes has a file; compound instructions (dual
//! destinations, Boolean combinations) become several simple ones.

#[macro_use]
pub(crate) mod select;
mod control;
mod convert;
mod float;
mod fragment;
mod half;
mod integer;
mod matrix;
mod mbarrier;
pub(crate) mod meaning;
mod memory;
mod moves;
mod stack;
mod video;

use std::collections::HashMap;

use crate::ast::{Operand, Place, Slot, Special, Statement};
use crate::program::{ALWAYS, Alu, Args, CallSite, Inst, Matrix, Op, Preset};
use meaning::Meaning;
use select::{Mods, Ty};

pub(crate) use moves::offset_alu;
pub(crate) use stack::ARENA;

/// Why a statement was not decoded.
#[derive(Debug)]
pub(crate) enum Reject {
    /// Fails the module.
    Malformed(String),
    /// Poisons the function.
    Unsupported(String),
}

pub(crate) type Decode<T = ()> = Result<T, Reject>;

pub(crate) fn malformed<T>(message: impl Into<String>) -> Decode<T> {
    Err(Reject::Malformed(message.into()))
}

pub(crate) fn unsupported<T>(reason: impl Into<String>) -> Decode<T> {
    Err(Reject::Unsupported(reason.into()))
}

/// Labels of a body by scope: statement index.
#[derive(Debug, Default)]
pub(crate) struct Labels<'a> {
    pub places: HashMap<(usize, &'a str), usize>,
    pub tables: HashMap<&'a str, (usize, Vec<&'a str>)>,
    pub parents: Vec<usize>,
}

impl Labels<'_> {
    pub fn find(&self, name: &str, mut scope: usize) -> Option<usize> {
        loop {
            if let Some(&place) = self.places.get(&(scope, name)) {
                return Some(place);
            }
            if scope == 0 {
                return None;
            }
            scope = self.parents[scope];
        }
    }
}

/// Slots of a function's frame. Slot 0 is written by whoever has no destination.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    next: Slot,
    presets: HashMap<Preset, Slot>,
    /// Declared bits of each slot.
    bits: Vec<u16>,
}

impl Frame {
    pub fn new() -> Self {
        Self { next: 1, presets: HashMap::new(), bits: vec![64] }
    }

    pub fn new_slot(&mut self, bits: u16) -> Slot {
        let slot = self.next;
        self.bits.push(bits);
        self.next += 1;
        slot
    }

    pub fn preset(&mut self, preset: Preset) -> Slot {
        if let Some(&slot) = self.presets.get(&preset) {
            return slot;
        }
        let slot = self.new_slot(64);
        self.presets.insert(preset, slot);
        slot
    }

    pub fn slots(&self) -> u32 {
        self.next
    }

    pub fn bits(&self) -> Vec<u16> {
        self.bits.clone()
    }

    pub fn presets(&self) -> Vec<(Slot, Preset)> {
        let mut presets: Vec<_> = self.presets.iter().map(|(&preset, &slot)| (slot, preset)).collect();
        presets.sort_unstable_by_key(|&(slot, _)| slot);
        presets
    }
}

pub(crate) struct Decoder {
    pub insts: Vec<Inst>,
    pub frame: Frame,
    pub tables: Vec<Vec<usize>>,
    pub calls: Vec<CallSite>,
    pub matrices: Vec<Matrix>,
    pub places: Vec<Place>,
    /// See [`crate::program::Code::handovers`].
    pub handovers: Vec<usize>,
    /// Slots for values that live within one statement.
    scratch: Vec<Slot>,
    is_entry: bool,
    /// The stack pointer of a function that uses `alloca`, and where its arena ends in the frame's local memory.
    stack: Option<(Slot, u32)>,
    line: u32,
    guard: u32,
    /// Type that float immediates are converted to.
    ty: Option<Ty>,
    /// What the statement computes.
    meaning: Meaning,
}

impl Decoder {
    pub fn new(frame: Frame, is_entry: bool) -> Self {
        Self {
            insts: Vec::new(),
            frame,
            tables: Vec::new(),
            calls: Vec::new(),
            matrices: Vec::new(),
            scratch: Vec::new(),
            places: Vec::new(),
            handovers: Vec::new(),
            is_entry,
            stack: None,
            line: 0,
            guard: ALWAYS,
            ty: None,
            meaning: Meaning::Other,
        }
    }

    fn begin(&mut self, statement: &Statement<'_>) {
        self.line = statement.line;
        self.guard = statement.guard.map_or(ALWAYS, |(slot, negated)| slot << 1 | u32::from(negated));
    }

    /// A statement may become several instructions, of which one overwrites the guard of the others.
    fn keep_guard(&mut self, guard: Option<(Slot, bool)>, to: Option<&Operand<'_>>) {
        let Some((slot, negated)) = guard else { return };
        let is_guard =
            |operand: &Operand<'_>| matches!(operand, Operand::Register { slot: to, .. } if *to == slot);
        let overwritten = match to {
            Some(Operand::Pair(first, second)) => is_guard(first) || is_guard(second),
            Some(Operand::Vector(items)) => items.iter().any(is_guard),
            Some(single) => is_guard(single),
            None => false,
        };
        if overwritten {
            let copy = self.temporary();
            self.guard = ALWAYS;
            self.alu(alu!(|a: bool| -> bool { a }), Args { d: copy, a: slot, ..Args::default() });
            self.guard = copy << 1 | u32::from(negated);
        }
    }

    pub fn call(&mut self, statement: &Statement<'_>, site: CallSite) {
        self.begin(statement);
        self.calls.push(site);
        self.push(Op::Call, Args { imm: self.calls.len() as i64 - 1, ..Args::default() });
    }

    pub fn statement(&mut self, statement: &Statement<'_>, labels: &Labels<'_>) -> Decode {
        if let Some(reason) = refusal(statement.opcode, &statement.modifiers) {
            return unsupported(reason);
        }
        self.begin(statement);
        let mut mods = Mods::new(&statement.modifiers);
        self.ty = mods.last_type();
        let operands = &statement.operands[..];
        self.keep_guard(statement.guard, operands.first());
        let opcode = statement.opcode;
        let first = self.insts.len();
        self.meaning = meaning::of(statement);
        let handled = self.moves(opcode, operands, &mut mods)?
            || self.memory(opcode, operands, &mut mods)?
            || self.matrix(opcode, operands, &mut mods)?
            || self.control(opcode, operands, &mut mods, labels, statement.scope)?
            || self.stack(opcode, operands, &mut mods)?
            || self.video(opcode, operands, &mut mods)?
            || self.convert(opcode, operands, &mut mods)?
            || self.half(opcode, operands, &mut mods)?
            || self.float(opcode, operands, &mut mods)?
            || self.integer(opcode, operands, &mut mods)?;
        if !handled {
            return unsupported("instruction is not executed");
        }
        self.attach_meaning(opcode, first);
        mods.finish()
    }

    /// Gives the statement's meaning to the instruction that computes it: the last one, when all before it only
    /// fetch operands.
    fn attach_meaning(&mut self, opcode: &str, first: usize) {
        let unknown = |inst: &Inst| inst.meaning == Meaning::Other;
        if matches!(opcode, "set" | "setp")
            || self.insts[first..].iter().filter(|inst| unknown(inst)).count() != 1
        {
            return;
        }
        if let Some(last) = self.insts.last_mut()
            && unknown(last)
            && matches!(last.op, Op::Alu(_))
        {
            last.meaning = self.meaning;
        }
    }

    /// Turns statement indices into instruction indices and closes the body.
    pub fn finish(&mut self, starts: &[usize]) {
        for inst in &mut self.insts {
            if matches!(inst.op, Op::Branch) {
                inst.args.imm = starts[inst.args.imm as usize] as i64;
            }
        }
        for target in self.tables.iter_mut().flatten() {
            *target = starts[*target];
        }
        self.guard = ALWAYS;
        self.push(if self.is_entry { Op::Exit } else { Op::Return }, Args::default());
    }

    fn push(&mut self, op: Op, args: Args) {
        self.insts.push(Inst { op, guard: self.guard, line: self.line, args, meaning: Meaning::Other });
    }

    /// Pushes an operation whose meaning is not the statement's.
    fn push_meant(&mut self, meaning: Meaning, op: Op, args: Args) {
        self.insts.push(Inst { op, guard: self.guard, line: self.line, args, meaning });
    }

    fn alu(&mut self, alu: Alu, args: Args) {
        self.push(Op::Alu(alu), args);
    }

    fn temporary(&mut self) -> Slot {
        self.frame.new_slot(64)
    }

    fn scratch(&mut self, index: usize) -> Slot {
        while self.scratch.len() <= index {
            let slot = self.temporary();
            self.scratch.push(slot);
        }
        self.scratch[index]
    }

    fn constant(&mut self, value: u64) -> Slot {
        self.frame.preset(Preset::Constant(value))
    }

    fn destination(&mut self, operand: &Operand<'_>) -> Decode<Slot> {
        match operand {
            Operand::Register { slot, .. } => Ok(*slot),
            Operand::Sink => Ok(0),
            Operand::Name(name) => malformed(format!("undefined name '{name}'")),
            Operand::Part(_, part) => unsupported(format!("part .{part} of an operand")),
            _ => malformed("destination is not a register"),
        }
    }

    /// One or two destinations, `d|p`.
    fn destinations(&mut self, operand: &Operand<'_>) -> Decode<(Slot, Option<Slot>)> {
        match operand {
            Operand::Pair(first, second) => Ok((self.destination(first)?, Some(self.destination(second)?))),
            other => Ok((self.destination(other)?, None)),
        }
    }

    fn symbol(&mut self, place: Place) -> Slot {
        self.places.push(place);
        let preset = match place {
            Place::Variable(index) => Preset::Variable(index),
            Place::Shared(index) => Preset::Shared(index),
            Place::DynamicShared => Preset::DynamicShared,
            Place::Local(offset) => {
                let base = self.frame.preset(Preset::LocalFrame);
                return self.offset(base, i64::from(offset));
            }
            Place::EntryParam(offset) => Preset::Constant(u64::from(offset)),
            Place::Function(index) => Preset::Function(index),
        };
        self.frame.preset(preset)
    }

    fn offset(&mut self, base: Slot, offset: i64) -> Slot {
        if offset == 0 {
            return base;
        }
        let d = self.temporary();
        let args = Args { d, a: base, imm: offset, ..Args::default() };
        self.push_meant(Meaning::Offset, Op::Alu(offset_alu()), args);
        d
    }

    fn source(&mut self, operand: &Operand<'_>) -> Decode<Slot> {
        match operand {
            Operand::Register { slot, .. } => Ok(*slot),
            Operand::Integer(value) => Ok(self.constant(*value)),
            Operand::Float32(bits) if self.ty == Some(Ty::F64) => {
                Ok(self.constant(f64::from(f32::from_bits(*bits)).to_bits()))
            }
            Operand::Float32(bits) => Ok(self.constant(u64::from(*bits))),
            Operand::Float64(bits) if self.ty == Some(Ty::F32) => {
                Ok(self.constant(u64::from((f64::from_bits(*bits) as f32).to_bits())))
            }
            Operand::Float64(bits) => Ok(self.constant(*bits)),
            Operand::Special(Special::Fixed(preset)) => Ok(self.frame.preset(*preset)),
            Operand::Special(special) => {
                let d = self.temporary();
                self.push(Op::Clock(*special), Args { d, ..Args::default() });
                Ok(d)
            }
            Operand::Symbol(place, offset) => {
                let base = self.symbol(*place);
                Ok(self.offset(base, *offset))
            }
            Operand::Not(inner) => {
                let a = self.source(inner)?;
                let d = self.temporary();
                let not = Op::Alu(alu!(|a: bool| -> bool { !a }));
                self.push_meant(Meaning::Not(1), not, Args { d, a, ..Args::default() });
                Ok(d)
            }
            Operand::Part(_, part) => unsupported(format!("part .{part} of an operand")),
            Operand::Name(name) if name.starts_with('%') => unsupported(format!("special register {name}")),
            Operand::Name(name) => malformed(format!("undefined name '{name}'")),
            _ => malformed("operand of the wrong kind"),
        }
    }

    /// Destination and one, two, three or four sources.
    fn plain(&mut self, operands: &[Operand<'_>], sources: usize) -> Decode<Args> {
        if operands.len() != sources + 1 {
            return malformed(format!("expected {} operands, found {}", sources + 1, operands.len()));
        }
        let mut slots = [0; 4];
        for (slot, operand) in slots.iter_mut().zip(&operands[1..]) {
            *slot = self.source(operand)?;
        }
        let d = self.destination(&operands[0])?;
        Ok(Args { d, a: slots[0], b: slots[1], c: slots[2], e: slots[3], ..Args::default() })
    }
}

/// Why an opcode, or all forms of it with some modifier, are not executed.
fn refusal(opcode: &str, modifiers: &[&str]) -> Option<&'static str> {
    const LATER: &str = "exists since compute capability 9.0 or later";
    let has = |word: &str| modifiers.contains(&word);
    Some(match opcode {
        "tex" | "tld4" | "txq" | "suld" | "sust" | "sured" | "suq" | "istypep" => {
            "textures and surfaces are not executed"
        }
        "clusterlaunchcontrol"
        | "elect"
        | "getctarank"
        | "griddepcontrol"
        | "mapa"
        | "multimem"
        | "setmaxnreg"
        | "stmatrix"
        | "tcgen05"
        | "tensormap"
        | "wgmma" => LATER,
        "st" | "red" if has("async") => LATER,
        "atom" | "red" if ["v2", "v4", "v8", "b128"].iter().any(|word| has(word)) => LATER,
        "cp" if has("bulk") => LATER,
        "mma" if modifiers.iter().any(|word| word.starts_with("sp")) => "sparse matrices are not executed",
        _ => return None,
    })
}

/// Hardware registers that a thread may need: the largest number of simultaneously live values when each
/// lives from its first to its last appearance.
pub(crate) fn register_estimate(statements: &[Statement<'_>]) -> u32 {
    fn visit(operand: &Operand<'_>, at: usize, spans: &mut HashMap<Slot, (usize, usize, u16)>) {
        match operand {
            Operand::Register { slot, bits } if *bits > 1 => {
                spans.entry(*slot).or_insert((at, at, *bits)).1 = at;
            }
            Operand::Address(inner, _) | Operand::Not(inner) => visit(inner, at, spans),
            Operand::Vector(items) | Operand::Tuple(items) => {
                items.iter().for_each(|item| visit(item, at, spans))
            }
            Operand::Pair(first, second) => {
                visit(first, at, spans);
                visit(second, at, spans);
            }
            _ => {}
        }
    }
    let mut spans = HashMap::new();
    for (at, statement) in statements.iter().enumerate() {
        statement.operands.iter().for_each(|operand| visit(operand, at, &mut spans));
    }
    let mut change = vec![0i64; statements.len() + 1];
    for (first, last, bits) in spans.into_values() {
        let registers = if bits > 32 { 2 } else { 1 };
        change[first] += registers;
        change[last] -= registers;
    }
    let mut live = 0;
    let most = change
        .iter()
        .map(|change| {
            live += change;
            live
        })
        .max()
        .unwrap_or(0);
    ((most as u32 + 8).div_ceil(8) * 8).clamp(16, 255)
}
