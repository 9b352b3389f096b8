//! Execution. [`thread`] runs one thread until it waits; [`block`] lets the threads of a block take turns
//! and lets them meet; [`warp`] computes what threads of a warp exchange.

pub(crate) mod block;
mod builtin;
pub(crate) mod group;
mod printf;
pub(crate) mod thread;
mod together;
mod waits;
mod warp;

use std::time::Instant;

use crate::engine::{Engine, GroupRoutine};
use crate::launch::LaunchConfig;
use crate::module::{Function, Module};
use crate::program::{Preset, RESERVED_SHARED_BYTES};

/// What registers and memory hold before anyone writes to them.
pub(crate) const FRESH_WORD: u64 = 0xcdcd_cdcd_cdcd_cdcd;
pub(crate) const FRESH_BYTE: u8 = 0xcd;

/// One launch, as all its threads see it.
pub(crate) struct Kernel<'a> {
    pub module: &'a Module,
    pub function: &'a Function,
    pub config: &'a LaunchConfig<'a>,
    /// Addresses of the module's variables; 0 for those the kernel cannot reach.
    pub variables: Vec<u64>,
    pub dynamic_shared_offset: u32,
    pub total_shared: u32,
    /// Address of the grid barrier workspace, or 0.
    pub workspace: u64,
    pub processors: u32,
    pub grid_id: u64,
    pub started: Instant,
    /// Runs what it has compiled; the interpreter runs the rest.
    pub engine: Option<&'a dyn Engine>,
    /// Races are looked for. Only the interpreter does.
    pub watched: bool,
}

/// Who a thread is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Identity {
    pub thread: [u32; 3],
    pub block: [u32; 3],
    /// Index of the thread in its block.
    pub index: u32,
    pub processor: u32,
}

impl Kernel<'_> {
    pub fn threads_per_block(&self) -> u32 {
        self.config.block.iter().product()
    }

    /// What runs threads of its blocks together, if anything does.
    pub fn groups(&self) -> Option<&dyn GroupRoutine> {
        self.engine.and_then(|engine| engine.group(self.config.block))
    }

    /// The value of a preset slot.
    pub fn preset(&self, preset: Preset, who: &Identity, local_base: usize) -> u64 {
        let lane = who.index % 32;
        u64::from(match preset {
            Preset::Constant(value) => return value,
            Preset::ThreadId(axis) => who.thread[axis as usize],
            Preset::BlockId(axis) => who.block[axis as usize],
            Preset::BlockSize(axis) => self.config.block[axis as usize],
            Preset::GridSize(axis) => self.config.grid[axis as usize],
            Preset::Lane => lane,
            Preset::Warp => who.index / 32,
            Preset::WarpCount => self.threads_per_block().div_ceil(32),
            Preset::LaneMaskEq => 1 << lane,
            Preset::LaneMaskLt => (1 << lane) - 1,
            Preset::LaneMaskLe => u32::MAX >> (31 - lane),
            Preset::LaneMaskGt => !(u32::MAX >> (31 - lane)),
            Preset::LaneMaskGe => u32::MAX << lane,
            Preset::Processor => who.processor,
            Preset::ProcessorCount => self.processors,
            Preset::GridId => return self.grid_id,
            Preset::DynamicSharedBytes => self.config.dynamic_shared_bytes,
            Preset::TotalSharedBytes => self.total_shared - self.function.reserved_shared_bytes,
            Preset::AggregateSharedBytes => {
                self.total_shared - self.function.reserved_shared_bytes + RESERVED_SHARED_BYTES
            }
            Preset::ReservedShared(offset) => offset,
            Preset::WorkspaceHigh => (self.workspace >> 32) as u32,
            Preset::WorkspaceLow => self.workspace as u32,
            Preset::Variable(index) => return self.variables[index],
            Preset::Shared(index) => {
                let place = self.function.code.shared.iter().find(|(variable, _)| *variable == index);
                place.map_or(0, |&(_, offset)| offset)
            }
            Preset::DynamicShared => self.dynamic_shared_offset,
            Preset::LocalFrame => return local_base as u64,
            Preset::Function(index) => return self.module.function_address(index),
        })
    }
}
