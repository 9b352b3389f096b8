//! Groups: neighbouring threads of a warp that compiled code runs together while they go the same way.

use super::Kernel;
use super::thread::{State, Thread};
use crate::engine::{GroupMemory, GroupRoutine, Stop};
use crate::memory::{Global, Trouble};

/// Instructions that a group runs before the next one's turn, summed over its threads.
const SLICE: i64 = 32 << 10;

/// The threads of a group, as compiled code needs them.
pub struct Lanes<'a> {
    threads: &'a mut [Thread],
}

impl Lanes<'_> {
    /// Registers and local memory of one of them.
    pub fn parts(&mut self, lane: usize) -> (&mut [u64], &mut [u8]) {
        self.threads[lane].parts()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupState {
    /// Its threads are on their own.
    Apart,
    Ready,
    AtBarrier(u8),
}

/// A group. While it is together its threads are in [`State::Grouped`].
pub(crate) struct Group {
    pub state: GroupState,
    pub pc: usize,
    packed: Vec<u64>,
}

impl Group {
    pub fn new(routine: &dyn GroupRoutine) -> Self {
        Self { state: GroupState::Apart, pc: 0, packed: vec![0; routine.words()] }
    }

    /// Joins threads that stand at the same place, where the routine can take over.
    pub fn try_join(&mut self, routine: &dyn GroupRoutine, threads: &mut [Thread]) -> bool {
        let pc = threads[0].pc;
        let ready = |thread: &Thread| thread.state == State::Ready && thread.pc == pc && thread.in_kernel();
        if !threads.iter().all(ready) || !routine.enters(pc) {
            return false;
        }
        if !routine.pack(pc, &mut Lanes { threads }, &mut self.packed) {
            return false;
        }
        for thread in threads {
            thread.state = State::Grouped;
        }
        self.pc = pc;
        self.state = GroupState::Ready;
        true
    }

    /// Lets the threads go on one by one.
    pub fn part(&mut self, routine: &dyn GroupRoutine, threads: &mut [Thread]) {
        routine.unpack(self.pc, &mut Lanes { threads }, &self.packed);
        for thread in threads {
            thread.pc = self.pc;
            thread.state = State::Ready;
        }
        self.state = GroupState::Apart;
    }

    /// The value of a slot that all threads have in common.
    pub fn uniform(&self, routine: &dyn GroupRoutine, threads: &mut [Thread], slot: u32) -> Option<u64> {
        routine.uniform(slot, &mut Lanes { threads }, &self.packed)
    }

    /// Runs the group. Returns the instructions run, and a fault with its lane.
    pub fn run(
        &mut self,
        routine: &dyn GroupRoutine,
        kernel: &Kernel<'_>,
        threads: &mut [Thread],
        shared: &mut [u8],
        global: &mut Global<'_>,
    ) -> (u64, Result<Stop, (usize, Trouble)>) {
        let mut budget = SLICE;
        let memory = GroupMemory { shared, params: kernel.config.params, global };
        let result = routine.run(
            &mut self.pc,
            &mut Lanes { threads: &mut *threads },
            &mut self.packed,
            memory,
            &mut budget,
        );
        if let Err((lane, _)) = &result {
            threads[*lane].pc = self.pc;
        }
        ((SLICE - budget).max(0) as u64, result)
    }
}
