//! Compiling functions, and running what was compiled.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module as _, default_libcall_names};
use ptx::engine::{
    Code, GroupMemory, GroupRoutine, Inst, LaneTrouble, Lanes, Memory, Op, Routine, Slot, Stop, Trouble,
};

use crate::abi::{self, Entry, Operations};
use crate::emit;
use crate::error::CompileError;
use crate::plan::Plan;

/// A compiled function.
pub(crate) struct Compiled {
    entry: Entry,
    /// Owns the machine code.
    module: Mutex<Option<JITModule>>,
    plan: Plan,
    operations: Operations,
    enters: Vec<bool>,
    /// Live slots at each entry.
    live_at_entries: HashMap<usize, Vec<Slot>>,
    /// Operands and results of the exchanges that touch no other slots, and the slot of the member mask.
    exchanges: HashMap<usize, Exchange>,
    /// How often groups parted.
    partings: AtomicU64,
    given_up: AtomicBool,
    /// Sites used by it and those before it.
    pub sites: usize,
}

struct Exchange {
    operands: Vec<Slot>,
    results: Vec<Slot>,
    mask: Slot,
}

fn exchanges(code: &Code, plan: &Plan) -> HashMap<usize, Exchange> {
    let tracked = |slots: &[Slot]| -> Vec<Slot> {
        slots.iter().copied().filter(|&slot| plan.presets[slot as usize].is_none()).collect()
    };
    let exchange = |(pc, inst): (usize, &Inst)| {
        let effect = &plan.flow.effects[pc];
        let fits = matches!(inst.op, Op::Collective(_)) && !effect.everything;
        let exchange = Exchange {
            operands: tracked(&effect.reads),
            results: tracked(&effect.writes),
            mask: inst.args.f,
        };
        fits.then_some((pc, exchange))
    };
    code.insts.iter().enumerate().filter_map(exchange).collect()
}

/// How much is done for code that runs fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Registers are given out in one pass: compiled in half the time, and slower where a loop needs most of them.
    Quick,
    /// Registers are given out with the whole function in view.
    Thorough,
}

fn machine(effort: Effort) -> Result<OwnedTargetIsa, CompileError> {
    let refuse = |reason: &dyn std::fmt::Display| CompileError::Machine(reason.to_string());
    let mut flags = settings::builder();
    // The optimiser would move arithmetic behind all loads of a block, and then has no registers for what they load. What
    // else it does the emitter does itself.
    let registers = match effort {
        Effort::Quick => "single_pass",
        Effort::Thorough => "backtracking",
    };
    for (name, value) in [
        ("opt_level", "none"),
        ("regalloc_algorithm", registers),
        ("enable_verifier", verifier()),
        ("is_pic", "false"),
    ] {
        flags.set(name, value).map_err(|error| refuse(&error))?;
    }
    cranelift_native::builder()
        .map_err(|error| refuse(&error))?
        .finish(settings::Flags::new(flags))
        .map_err(|error| refuse(&error))
}

fn verifier() -> &'static str {
    if cfg!(debug_assertions) { "true" } else { "false" }
}

impl Compiled {
    /// Compiles a function for so many lanes. Its accesses use sites from `sites` on.
    ///
    /// # Errors
    /// When the code generator refuses.
    pub fn new(
        function: &ptx::Function,
        code: &Code,
        lanes: usize,
        sites: usize,
        parameter_bytes: u64,
        (unlimited, effort): (bool, Effort),
    ) -> Result<Self, CompileError> {
        let refuse = |reason: String| CompileError::Function { function: function.name.clone(), reason };
        // A code generator that meets what it cannot do may panic. Nothing of it is used afterwards.
        let work = || {
            let plan = Plan { unlimited, ..Plan::new(code, lanes) };
            Self::compile(code, plan, effort, sites, parameter_bytes)
        };
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(result) => result.map_err(refuse),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Err(refuse(text.unwrap_or_default()))
            }
        }
    }

    fn compile(
        code: &Code,
        plan: Plan,
        effort: Effort,
        sites: usize,
        parameter_bytes: u64,
    ) -> Result<Self, String> {
        let isa = machine(effort).map_err(|error| error.to_string())?;
        let target = isa.frontend_config();
        let mut module = JITModule::new(JITBuilder::with_isa(isa, default_libcall_names()));
        let mut context = module.make_context();
        context.func.signature = emit::signature(target.default_call_conv);
        let id = module
            .declare_function("kernel", Linkage::Local, &context.func.signature)
            .map_err(|error| error.to_string())?;
        let mut workspace = FunctionBuilderContext::new();
        let sites =
            emit::emit(&mut context.func, &mut workspace, code, &plan, sites, parameter_bytes, target)?;
        module.define_function(id, &mut context).map_err(|error| format!("{error:?}"))?;
        module.finalize_definitions().map_err(|error| error.to_string())?;
        let address = module.get_finalized_function(id);
        // SAFETY: the code was just made with the signature that `Entry` stands for.
        let entry = unsafe { std::mem::transmute::<*const u8, Entry>(address) };
        let mut enters = vec![false; code.insts.len() + 1];
        let mut live_at_entries = HashMap::new();
        for &block in &plan.flow.entries {
            let block = &plan.flow.blocks[block];
            enters[block.start] = true;
            live_at_entries.insert(block.start, block.live.iter().collect());
        }
        let operations = Operations::new(code, &plan);
        let exchanges = exchanges(code, &plan);
        let module = Mutex::new(Some(module));
        Ok(Self {
            entry,
            module,
            plan,
            operations,
            enters,
            live_at_entries,
            exchanges,
            partings: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            sites,
        })
    }

    /// How often groups parted so far.
    pub fn partings(&self) -> u64 {
        self.partings.load(Ordering::Relaxed)
    }

    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Says that it costs more than it gains.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    fn live(&self, pc: usize) -> Vec<Slot> {
        let blocks = &self.plan.flow.blocks;
        let index = blocks.partition_point(|block| block.start <= pc) - 1;
        self.plan.flow.live_within(index)[pc - blocks[index].start].iter().collect()
    }

    fn stopped(answer: u64, pc: &mut usize) -> Stop {
        *pc = (answer & 0xffff_ffff) as usize;
        match answer >> 32 {
            abi::SLICE => Stop::Slice,
            abi::SPLIT => Stop::Split,
            _ => Stop::Instruction,
        }
    }
}

impl Drop for Compiled {
    fn drop(&mut self) {
        if let Some(module) = self.module.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // SAFETY: only borrows of this value run the code, and there are none any more.
            unsafe { module.free_memory() };
        }
    }
}

impl Routine for Compiled {
    fn enters(&self, pc: usize) -> bool {
        self.enters[pc]
    }

    fn run(
        &self,
        pc: &mut usize,
        slots: &mut [u64],
        memory: &mut Memory<'_, '_>,
        budget: &mut i64,
    ) -> Result<Stop, Trouble> {
        assert!(
            slots.len() >= self.plan.words && memory.global.sites.len() >= self.sites,
            "another function's threads"
        );
        // SAFETY: slots and sites are as many as the code uses, and the interpreter checked the launch, with this
        // kernel's parameters.
        let (answer, trouble) =
            unsafe { abi::run_single(self.entry, *pc, &self.operations, slots, memory, budget) };
        let stop = Self::stopped(answer, pc);
        trouble.map_or(Ok(stop), |trouble| Err(trouble.1))
    }
}

impl GroupRoutine for Compiled {
    fn lanes(&self) -> usize {
        self.plan.lanes
    }

    fn words(&self) -> usize {
        self.plan.words
    }

    fn enters(&self, pc: usize) -> bool {
        self.enters[pc]
    }

    fn pack(&self, pc: usize, lanes: &mut Lanes<'_>, packed: &mut [u64]) -> bool {
        let Some(live) = self.live_at_entries.get(&pc) else { return false };
        self.operations.pack(live.iter().copied(), lanes, self.plan.lanes, packed)
    }

    fn unpack(&self, pc: usize, lanes: &mut Lanes<'_>, packed: &[u64]) {
        self.partings.fetch_add(1, Ordering::Relaxed);
        self.operations.unpack(self.live(pc).into_iter(), lanes, self.plan.lanes, packed);
    }

    fn show_operands(&self, pc: usize, members: u32, lanes: &mut Lanes<'_>, packed: &[u64]) -> bool {
        let Some(exchange) = self.exchanges.get(&pc) else { return false };
        if self
            .operations
            .uniform(exchange.mask, lanes, packed)
            .is_none_or(|mask| mask as u32 & members != members)
        {
            return false;
        }
        self.operations.unpack(exchange.operands.iter().copied(), lanes, self.plan.lanes, packed);
        true
    }

    fn take_results(&self, pc: usize, lanes: &mut Lanes<'_>, packed: &mut [u64]) {
        if let Some(exchange) = self.exchanges.get(&pc) {
            // Results of exchanges fit: they may be anything in each lane.
            let fits = self.operations.pack(exchange.results.iter().copied(), lanes, self.plan.lanes, packed);
            debug_assert!(fits, "results that are no line");
        }
    }

    fn uniform(&self, slot: Slot, lanes: &mut Lanes<'_>, packed: &[u64]) -> Option<u64> {
        self.operations.uniform(slot, lanes, packed)
    }

    fn run(
        &self,
        pc: &mut usize,
        lanes: &mut Lanes<'_>,
        packed: &mut [u64],
        memory: &mut GroupMemory<'_, '_>,
        budget: &mut i64,
    ) -> Result<Stop, LaneTrouble> {
        assert!(
            packed.len() >= self.plan.words
                && memory.global.sites.len() >= self.sites
                && lanes.parts(0).0.len() >= self.plan.kinds.len(),
            "another kernel's group"
        );
        let lanes = (lanes, self.plan.lanes);
        // SAFETY: packed registers, slots and sites are as many as the code uses, and the interpreter checked the
        // launch, with this kernel's parameters.
        let (answer, trouble) =
            unsafe { abi::run_group(self.entry, *pc, &self.operations, lanes, packed, memory, budget) };
        let stop = Self::stopped(answer, pc);
        trouble.map_or(Ok(stop), Err)
    }
}
