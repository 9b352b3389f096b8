//! What compiled code and the rest of the crate agree on: the context that code works in, and the functions it calls.
//!
//! Compiled code touches memory in three ways only: the context and the packed registers, whose layout the compiler made;
//! parameters at constant offsets within what the launch has checked; and addresses that it compared with a range
//! immediately before. Ranges of global memory come from [`access`], which asks the interpreter's own check.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ptx::FaultKind;
use ptx::engine::{
    Code, Global, GroupMemory, Inst, LaneTrouble, Lanes, Memory, Op, Preset, Site, Slot, Spot, Trouble,
};

use crate::flow::Effect;
use crate::plan::{Class, Kind, Plan};

/// Read and written by compiled code, by offset.
#[repr(C)]
pub(crate) struct Context {
    /// Registers of the thread, or of the group's first one.
    pub slots: *mut u64,
    /// Packed registers; of a single thread its slots.
    pub packed: *mut u64,
    pub shared: *mut u8,
    pub shared_bytes: u64,
    pub local: *mut u8,
    pub local_bytes: u64,
    pub params: *const u8,
    pub sites: *mut Site,
    pub budget: i64,
    pub site_count: usize,
    /// The rest is for the functions below.
    host: *mut Host<'static, 'static>,
}

pub(crate) mod field {
    use super::Context;
    macro_rules! offsets {
        ($($name:ident = $field:ident;)*) => {$(
            pub const $name: i32 = std::mem::offset_of!(Context, $field) as i32;
        )*};
    }
    offsets! {
        SLOTS = slots; PACKED = packed; SHARED = shared; SHARED_BYTES = shared_bytes; LOCAL = local;
        LOCAL_BYTES = local_bytes; PARAMS = params; SITES = sites; BUDGET = budget;
    }
}

/// How compiled code ends, above the 32 bits of the place.
pub(crate) const INSTRUCTION: u64 = 0;
pub(crate) const SLICE: u64 = 1;
pub(crate) const FAULT: u64 = 2;
pub(crate) const SPLIT: u64 = 3;

/// Answer of [`access`] that is no address.
pub(crate) const REFUSED: u64 = 0;

/// An access as compiled code describes it to [`access`]: space | write << 3 | log2 of the alignment << 4 |
/// bytes << 8 | site << 32.
pub(crate) fn describe(space: u8, write: bool, align: u32, bytes: u32, site: usize) -> u64 {
    u64::from(space)
        | u64::from(write) << 3
        | u64::from(align.trailing_zeros()) << 4
        | u64::from(bytes) << 8
        | (site as u64) << 32
}

pub(crate) type Entry = unsafe extern "C" fn(*mut Context, u64) -> u64;

/// Instructions that compiled code leaves to the interpreter's functions.
#[derive(Debug)]
pub(crate) struct Operations {
    pub insts: Vec<Inst>,
    effects: Vec<Effect>,
    presets: Vec<Option<Preset>>,
    cells: Vec<Cell>,
}

/// Where a slot's values are.
#[derive(Debug, Clone, Copy)]
struct Cell {
    preset: bool,
    class: Class,
    kind: Kind,
    offset: usize,
}

impl Operations {
    pub fn new(code: &Code, plan: &Plan) -> Self {
        let cells = (0..plan.kinds.len())
            .map(|slot| Cell {
                preset: plan.presets[slot].is_some() || slot == 0,
                class: plan.classes[slot],
                kind: plan.kinds[slot],
                offset: plan.offsets[slot],
            })
            .collect();
        Self {
            insts: code.insts.clone(),
            effects: plan.flow.effects.clone(),
            presets: plan.presets.clone(),
            cells,
        }
    }

    /// Reads a slot of one lane from packed registers.
    pub fn read(&self, slot: Slot, lane: usize, packed: &[u64]) -> u64 {
        let cell = self.cells[slot as usize];
        let word = |index: usize| packed.get(index).copied().unwrap_or(0);
        let low = |value: u64| if cell.kind.bytes() == 8 { value } else { value & 0xffff_ffff };
        let value = match cell.class {
            Class::Uniform => low(word(cell.offset / 8)),
            Class::Linear(stride) => {
                low(word(cell.offset / 8).wrapping_add((stride as u64).wrapping_mul(lane as u64)))
            }
            Class::Varying if cell.kind.bytes() == 8 => word(cell.offset / 8 + lane),
            Class::Varying => word(cell.offset / 8 + lane / 2) >> (lane % 2 * 32) & 0xffff_ffff,
        };
        if cell.kind == Kind::Predicate { value & 1 } else { value }
    }

    /// Writes a slot of one lane.
    fn write(&self, slot: Slot, lane: usize, packed: &mut [u64], value: u64) {
        let cell = self.cells[slot as usize];
        let value = match cell.kind {
            // Masks have all bits set.
            Kind::Predicate if cell.class == Class::Varying => (value & 1).wrapping_neg(),
            Kind::Predicate => value & 1,
            _ => value,
        };
        match cell.class {
            Class::Varying if cell.kind.bytes() == 4 => {
                let shift = lane % 2 * 32;
                if let Some(word) = packed.get_mut(cell.offset / 8 + lane / 2) {
                    *word = *word & !(0xffff_ffff << shift) | (value & 0xffff_ffff) << shift;
                }
            }
            Class::Varying => {
                if let Some(word) = packed.get_mut(cell.offset / 8 + lane) {
                    *word = value;
                }
            }
            _ => {
                if let Some(word) = packed.get_mut(cell.offset / 8) {
                    *word = value;
                }
            }
        }
    }

    pub fn is_preset(&self, slot: Slot) -> bool {
        self.cells[slot as usize].preset
    }

    /// The value of a slot that is the same in all lanes.
    pub fn uniform(&self, slot: Slot, lanes: &mut Lanes<'_>, packed: &[u64]) -> Option<u64> {
        let cell = self.cells[slot as usize];
        match self.presets[slot as usize] {
            Some(Preset::Constant(value)) => Some(value),
            Some(_) if cell.class == Class::Uniform => lanes.parts(0).0.get(slot as usize).copied(),
            None if cell.class == Class::Uniform => Some(self.read(slot, 0, packed)),
            _ => None,
        }
    }

    /// Packs the slots of the group's threads; false when they do not fit their classes.
    pub fn pack(
        &self,
        slots: impl Iterator<Item = Slot>,
        lanes: &mut Lanes<'_>,
        count: usize,
        packed: &mut [u64],
    ) -> bool {
        for slot in slots {
            let cell = self.cells[slot as usize];
            for lane in 0..count {
                let value = lanes.parts(lane).0[slot as usize];
                if lane == 0 || cell.class == Class::Varying {
                    self.write(slot, lane, packed, value);
                } else {
                    let low = if cell.kind.bytes() == 8 { u64::MAX } else { 0xffff_ffff };
                    let low = if cell.kind == Kind::Predicate { 1 } else { low };
                    if self.read(slot, lane, packed) != value & low {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// The reverse of [`Operations::pack`].
    pub fn unpack(
        &self,
        slots: impl Iterator<Item = Slot>,
        lanes: &mut Lanes<'_>,
        count: usize,
        packed: &[u64],
    ) {
        for slot in slots {
            for lane in 0..count {
                lanes.parts(lane).0[slot as usize] = self.read(slot, lane, packed);
            }
        }
    }
}

/// The Rust side of a run.
struct Host<'a, 'd> {
    operations: &'a Operations,
    threads: Threads<'a, 'd>,
    trouble: Option<LaneTrouble>,
}

enum Threads<'a, 'd> {
    Single {
        slots: &'a mut [u64],
        memory: &'a mut Memory<'a, 'd>,
    },
    Group {
        lanes: &'a mut Lanes<'a>,
        count: usize,
        packed: &'a mut [u64],
        memory: &'a mut GroupMemory<'a, 'd>,
    },
}

/// Runs code for one thread.
///
/// # Safety
/// `entry` was compiled for code whose slots `slots` are and whose operations are `operations`, is still there, and the
/// parameters are those of a checked launch of its kernel; `global.sites` has as many entries as it was compiled for.
pub(crate) unsafe fn run_single(
    entry: Entry,
    pc: usize,
    operations: &Operations,
    slots: &mut [u64],
    memory: &mut Memory<'_, '_>,
    budget: &mut i64,
) -> (u64, Option<LaneTrouble>) {
    let mut context = Context {
        slots: slots.as_mut_ptr(),
        packed: slots.as_mut_ptr(),
        shared: memory.shared.as_mut_ptr(),
        shared_bytes: memory.shared.len() as u64,
        local: memory.local.as_mut_ptr(),
        local_bytes: memory.local.len() as u64,
        params: memory.params.as_ptr(),
        sites: memory.global.sites.as_mut_ptr(),
        site_count: memory.global.sites.len(),
        budget: *budget,
        host: std::ptr::null_mut(),
    };
    let memory: *mut Memory<'_, '_> = memory;
    // SAFETY: the host lives only as long as this call, and so do all borrows that it makes longer.
    let memory = unsafe { &mut *memory.cast::<Memory<'_, '_>>() };
    let mut host = Host { operations, threads: Threads::Single { slots, memory }, trouble: None };
    context.host = (&raw mut host).cast();
    // SAFETY: the caller promises that code and context fit.
    let answer = unsafe { entry(&raw mut context, pc as u64) };
    *budget = context.budget;
    (answer, host.trouble.take())
}

/// Runs code for a group.
///
/// # Safety
/// As for [`run_single`]; `packed` has the words of the plan, and the lanes are as many as it was compiled for.
pub(crate) unsafe fn run_group(
    entry: Entry,
    pc: usize,
    operations: &Operations,
    (lanes, count): (&mut Lanes<'_>, usize),
    packed: &mut [u64],
    memory: &mut GroupMemory<'_, '_>,
    budget: &mut i64,
) -> (u64, Option<LaneTrouble>) {
    let mut context = Context {
        slots: lanes.parts(0).0.as_mut_ptr(),
        packed: packed.as_mut_ptr(),
        shared: memory.shared.as_mut_ptr(),
        shared_bytes: memory.shared.len() as u64,
        local: std::ptr::null_mut(),
        local_bytes: 0,
        params: memory.params.as_ptr(),
        sites: memory.global.sites.as_mut_ptr(),
        site_count: memory.global.sites.len(),
        budget: *budget,
        host: std::ptr::null_mut(),
    };
    let lanes: *mut Lanes<'_> = lanes;
    let memory: *mut GroupMemory<'_, '_> = memory;
    // SAFETY: the host lives only as long as this call, and so do all borrows that it makes longer.
    let (lanes, memory) =
        unsafe { (&mut *lanes.cast::<Lanes<'_>>(), &mut *memory.cast::<GroupMemory<'_, '_>>()) };
    let mut host =
        Host { operations, threads: Threads::Group { lanes, count, packed, memory }, trouble: None };
    context.host = (&raw mut host).cast();
    // SAFETY: the caller promises that code and context fit.
    let answer = unsafe { entry(&raw mut context, pc as u64) };
    *budget = context.budget;
    (answer, host.trouble.take())
}

/// Finds out whether accesses to so many bytes, which compiled code could not vouch for, are allowed. Answers with the
/// host address, or refuses: then the interpreter executes the instruction, which knows what is wrong if anything is.
/// What it finds of global memory it leaves in the instruction's site.
pub(crate) unsafe extern "C" fn access(context: *mut Context, address: u64, description: u64) -> u64 {
    // SAFETY: compiled code passes the context that it was called with, which outlives the call.
    let context = unsafe { &mut *context };
    // SAFETY: `run_single` and `run_group` put it there, and nobody else uses it now.
    let host = unsafe { &mut *context.host };
    let space = (description & 7) as u8;
    let write = description >> 3 & 1 != 0;
    let align = 1u64 << (description >> 4 & 15);
    let bytes = description >> 8 & 0xff_ffff;
    let site = (description >> 32) as usize;
    match &mut host.threads {
        Threads::Single { memory, .. } => find(context, memory, space, address, (align, bytes), write, site),
        Threads::Group { memory: GroupMemory { shared, params, global }, .. } => {
            // Local memory is another one for each thread: addresses of it are outside of this.
            let mut memory = Memory { shared, local: &mut [], params, global, contended: false, watch: None };
            find(context, &mut memory, space, address, (align, bytes), write, site)
        }
    }
}

fn find(
    context: &Context,
    memory: &mut Memory<'_, '_>,
    space: u8,
    address: u64,
    (align, bytes): (u64, u64),
    write: bool,
    site: usize,
) -> u64 {
    let last = address.wrapping_add(bytes - align);
    let (first, Ok(_)) =
        (memory.check(space, address, align, write), memory.check(space, last, align, write))
    else {
        return REFUSED;
    };
    // Windows of the other spaces are whole; of global memory both ends may lie in different ranges.
    match first {
        Ok(Spot::Global(address)) => {
            let whole = memory.global.range(address, write).is_some_and(|range| range.end - address >= bytes);
            if !whole {
                return REFUSED;
            }
            remember(context, memory.global, site, address, (align, bytes), write);
            address
        }
        Ok(Spot::Shared(offset)) if last >= address => {
            context.shared.expose_provenance() as u64 + offset as u64
        }
        Ok(Spot::Local(offset)) if last >= address => {
            context.local.expose_provenance() as u64 + offset as u64
        }
        Ok(Spot::Param(offset)) if last >= address => {
            context.params.expose_provenance() as u64 + offset as u64
        }
        _ => REFUSED,
    }
}

/// Range starts are multiples of 16, so what is aligned in the range is aligned.
fn remember(
    context: &Context,
    global: &Global<'_>,
    site: usize,
    address: u64,
    (align, bytes): (u64, u64),
    write: bool,
) {
    let Some(range) = global.range(address, write) else { return };
    if site < context.site_count && range.start % 16 == 0 && range.end - range.start >= bytes {
        let known = Site { start: range.start, count: (range.end - range.start - bytes) / align + 1 };
        // SAFETY: the index is below the number of sites, which stay where they are during a launch.
        unsafe { context.sites.add(site).write(known) };
    }
}

/// Runs an instruction with the interpreter's own function, for each lane of `mask`. Operands are in the packed
/// registers. Answers 1 after a fault.
pub(crate) unsafe extern "C" fn operate(context: *mut Context, index: u64, mask: u64) -> u64 {
    // SAFETY: compiled code passes the context that it was called with, which outlives the call.
    let context = unsafe { &mut *context };
    // SAFETY: `run_single` and `run_group` put it there, and nobody else uses it now.
    let host = unsafe { &mut *context.host };
    // Machine code cannot be unwound.
    let answer = catch_unwind(AssertUnwindSafe(|| operate_lanes(context, host, index, mask)));
    answer.unwrap_or_else(|_| {
        host.trouble = Some(Box::new((0, Box::new(FaultKind::IllegalInstruction))));
        1
    })
}

fn operate_lanes(context: &mut Context, host: &mut Host<'_, '_>, index: u64, mask: u64) -> u64 {
    let operations = host.operations;
    let inst = &operations.insts[index as usize];
    let mut waits = 0;
    let result = match &mut host.threads {
        Threads::Single { slots, memory } => {
            perform(inst, &inst.args, slots, memory, &mut waits).map_err(|trouble| (0, trouble))
        }
        Threads::Group { lanes, count, packed, memory } => {
            let effect = &operations.effects[index as usize];
            let mut scratch = Scratch::new(inst);
            let mut all = Ok(());
            for lane in (0..*count).filter(|lane| mask >> lane & 1 != 0) {
                let (slots, local) = lanes.parts(lane);
                scratch.gather(|slot| {
                    if operations.presets[slot as usize].is_some() {
                        slots[slot as usize]
                    } else {
                        operations.read(slot, lane, packed)
                    }
                });
                let mut memory = Memory {
                    shared: &mut *memory.shared,
                    local,
                    params: memory.params,
                    global: &mut *memory.global,
                    contended: false,
                    watch: None,
                };
                if let Err(trouble) =
                    perform(inst, &scratch.args, &mut scratch.values, &mut memory, &mut waits)
                {
                    all = Err((lane, trouble));
                    break;
                }
                for &slot in &effect.writes {
                    if !operations.is_preset(slot) {
                        operations.write(slot, lane, packed, scratch.value(slot));
                    }
                }
            }
            all
        }
    };
    context.budget -= waits;
    match result {
        Ok(()) => 0,
        Err((lane, trouble)) => {
            // Threads before the lane have executed the instruction: the group cannot go back.
            host.trouble = Some(Box::new((lane, trouble)));
            1
        }
    }
}

/// As the interpreter's loop does it. `waits` is what it costs of the time slice besides.
fn perform(
    inst: &Inst,
    args: &ptx::engine::Args,
    slots: &mut [u64],
    memory: &mut Memory<'_, '_>,
    waits: &mut i64,
) -> Result<(), Trouble> {
    match inst.op {
        Op::Alu(run) => {
            run(slots, args);
            Ok(())
        }
        Op::Memory(run) => run(slots, args, memory),
        Op::WaitingLoad(run) => {
            run(slots, args, memory)?;
            *waits += 64;
            Ok(())
        }
        Op::Atomic(run) => {
            run(slots, args, memory)?;
            if std::mem::take(&mut memory.contended) {
                *waits += 4096;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The operands of one lane, side by side, and arguments that name them there.
struct Scratch {
    values: [u64; 8],
    names: [Slot; 8],
    count: usize,
    args: ptx::engine::Args,
}

impl Scratch {
    fn new(inst: &Inst) -> Self {
        let mut scratch = Self { values: [0; 8], names: [0; 8], count: 1, args: inst.args };
        let x = inst.args;
        scratch.args.d = scratch.place(x.d);
        scratch.args.a = scratch.place(x.a);
        scratch.args.b = scratch.place(x.b);
        scratch.args.c = scratch.place(x.c);
        scratch.args.e = scratch.place(x.e);
        scratch.args.f = scratch.place(x.f);
        scratch
    }

    fn place(&mut self, slot: Slot) -> Slot {
        if let Some(known) = self.names[..self.count].iter().position(|&name| name == slot) {
            return known as Slot;
        }
        self.names[self.count] = slot;
        self.count += 1;
        self.count as Slot - 1
    }

    fn gather(&mut self, read: impl Fn(Slot) -> u64) {
        for index in 1..self.count {
            self.values[index] = read(self.names[index]);
        }
    }

    fn value(&self, slot: Slot) -> u64 {
        let index = self.names[..self.count].iter().position(|&name| name == slot);
        index.map_or(0, |index| self.values[index])
    }
}
