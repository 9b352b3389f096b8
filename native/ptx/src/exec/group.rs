//! Groups: neighbouring threads of a warp that compiled code runs together while they go the same way.

use super::Kernel;
use super::thread::{State, Thread};
use crate::engine::{GroupMemory, GroupRoutine, LaneTrouble, Stop};

/// Instructions that a group runs before the next one's turn, summed over its threads.
const SLICE: i64 = 32 << 10;

/// The threads of a group, as compiled code needs them.
pub struct Lanes<'a> {
    threads: &'a mut [Thread],
    kernel: &'a Kernel<'a>,
    block: [u32; 3],
}

impl Lanes<'_> {
    /// Registers and local memory of one of them.
    #[inline]
    pub fn parts(&mut self, lane: usize) -> (&mut [u64], &mut [u8]) {
        let thread = &mut self.threads[lane];
        if thread.belong_to(self.kernel, self.block) {
            thread.state = State::Grouped;
        }
        thread.parts()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupState {
    /// Its threads are on their own.
    Apart,
    Ready,
    AtBarrier(u8),
    /// Its threads are at an exchange among threads of the warp, with the operands; all else is packed.
    AtCollective,
    /// Its threads have exited, together.
    Gone,
}

/// A group. While it is together its threads are in [`State::Grouped`], and become threads of the present block only when
/// somebody looks: touching each of them once per block would cost more than many a kernel.
pub(crate) struct Group {
    pub state: GroupState,
    pub pc: usize,
    packed: Vec<u64>,
    /// Whether its threads may be in other states.
    pub touched: bool,
}

impl Group {
    pub fn new(routine: &dyn GroupRoutine) -> Self {
        Self { state: GroupState::Apart, pc: 0, packed: vec![0; routine.words()], touched: true }
    }

    /// Begins a block.
    pub fn start(
        &mut self,
        routine: &dyn GroupRoutine,
        kernel: &Kernel<'_>,
        threads: &mut [Thread],
        block: [u32; 3],
    ) {
        if std::mem::take(&mut self.touched) {
            for thread in &mut *threads {
                thread.start(kernel, block);
                thread.state = State::Grouped;
            }
        }
        self.pc = 0;
        self.state = GroupState::Ready;
        if !routine.enters(0)
            || !routine.pack(0, &mut Lanes { threads: &mut *threads, kernel, block }, &mut self.packed)
        {
            self.separate(kernel, threads, block);
        }
    }

    /// Joins threads that stand at the same place, where the routine can take over.
    pub fn try_join(
        &mut self,
        routine: &dyn GroupRoutine,
        kernel: &Kernel<'_>,
        threads: &mut [Thread],
        block: [u32; 3],
    ) -> bool {
        let pc = threads[0].pc;
        let ready = |thread: &Thread| thread.state == State::Ready && thread.pc == pc && thread.in_kernel();
        if !threads.iter().all(ready) || !routine.enters(pc) {
            return false;
        }
        if !routine.pack(pc, &mut Lanes { threads: &mut *threads, kernel, block }, &mut self.packed) {
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
    pub fn part(
        &mut self,
        routine: &dyn GroupRoutine,
        kernel: &Kernel<'_>,
        threads: &mut [Thread],
        block: [u32; 3],
    ) {
        routine.unpack(self.pc, &mut Lanes { threads: &mut *threads, kernel, block }, &self.packed);
        self.separate(kernel, threads, block);
    }

    /// Brings the threads to the exchange where the group is; false when they must go there one by one.
    pub fn bring(
        &mut self,
        routine: &dyn GroupRoutine,
        kernel: &Kernel<'_>,
        threads: &mut [Thread],
        block: [u32; 3],
        members: u32,
    ) -> bool {
        let mut lanes = Lanes { threads: &mut *threads, kernel, block };
        if !routine.show_operands(self.pc, members, &mut lanes, &self.packed) {
            return false;
        }
        self.touched = true;
        self.state = GroupState::AtCollective;
        for thread in threads {
            thread.belong_to(kernel, block);
            thread.pc = self.pc;
            thread.state = State::AtCollective;
        }
        true
    }

    /// Takes the threads back when their exchange is complete: it is so for all of them or for none.
    pub fn take_back(
        &mut self,
        routine: &dyn GroupRoutine,
        kernel: &Kernel<'_>,
        threads: &mut [Thread],
        block: [u32; 3],
    ) -> bool {
        if self.state != GroupState::AtCollective || threads[0].state != State::Ready {
            return false;
        }
        routine.take_results(self.pc, &mut Lanes { threads: &mut *threads, kernel, block }, &mut self.packed);
        threads.iter_mut().for_each(|thread| thread.state = State::Grouped);
        self.pc += 1;
        self.state = GroupState::Ready;
        true
    }

    fn separate(&mut self, kernel: &Kernel<'_>, threads: &mut [Thread], block: [u32; 3]) {
        for thread in threads {
            thread.belong_to(kernel, block);
            thread.pc = self.pc;
            thread.state = State::Ready;
        }
        self.touched = true;
        self.state = GroupState::Apart;
    }

    /// Makes the exit of its threads known to those who look at threads.
    pub fn show_exit(&mut self, threads: &mut [Thread]) {
        if self.state == GroupState::Gone {
            self.touched = true;
            threads.iter_mut().for_each(|thread| thread.state = State::Exited);
        }
    }

    /// The value of a slot that all threads have in common.
    pub fn uniform(
        &self,
        routine: &dyn GroupRoutine,
        kernel: &Kernel<'_>,
        threads: &mut [Thread],
        block: [u32; 3],
        slot: u32,
    ) -> Option<u64> {
        routine.uniform(slot, &mut Lanes { threads, kernel, block }, &self.packed)
    }

    /// Runs the group, and adds the instructions run.
    #[inline]
    pub fn run(
        &mut self,
        routine: &dyn GroupRoutine,
        kernel: &Kernel<'_>,
        (threads, block): (&mut [Thread], [u32; 3]),
        memory: &mut GroupMemory<'_, '_>,
        spent: &mut u64,
    ) -> Result<Stop, LaneTrouble> {
        let mut budget = SLICE;
        let mut lanes = Lanes { threads: &mut *threads, kernel, block };
        let result = routine.run(&mut self.pc, &mut lanes, &mut self.packed, memory, &mut budget);
        *spent += (SLICE - budget).max(0) as u64;
        if let Err(trouble) = &result {
            self.report(kernel, &mut threads[trouble.0], block);
        }
        result
    }

    /// Makes a thread say where its group is.
    pub fn report(&mut self, kernel: &Kernel<'_>, thread: &mut Thread, block: [u32; 3]) {
        self.touched = true;
        thread.belong_to(kernel, block);
        thread.pc = self.pc;
    }
}
