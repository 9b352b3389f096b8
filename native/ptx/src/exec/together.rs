//! Blocks whose threads run in groups.

use std::ops::Range;

use super::block::{BARRIERS, Block};
use super::group::GroupState;
use super::thread::State;
use super::{Kernel, waits, warp};
use crate::engine::{GroupMemory, GroupRoutine, Stop};
use crate::error::{Fault, FaultKind};
use crate::memory::Global;
use crate::program::{BarrierKind, Op, Preset};

/// Turns that each group gets in a pass, unless they take long.
const ROUNDS: u32 = 64;
/// Instructions that are long.
const PASS: u64 = 50_000;

impl Block {
    /// Runs the ready groups of a warp. Returns how many of its threads are in groups now, or gone.
    pub(super) fn run_groups(
        &mut self,
        kernel: &Kernel<'_>,
        routine: &dyn GroupRoutine,
        global: &mut Global<'_>,
        warp: Range<usize>,
        spent: &mut u64,
        ran: &mut bool,
    ) -> Result<usize, Fault> {
        let (width, id) = (self.width, self.id);
        let mut together = 0;
        for number in warp.start / width..warp.end / width {
            let lanes = number * width..(number + 1) * width;
            if self.groups[number].state == GroupState::Apart {
                if self.groups[number].try_join(routine, kernel, &mut self.threads[lanes.clone()], id) {
                    self.apart -= 1;
                } else {
                    let exited = self.threads[lanes].iter().filter(|thread| thread.state == State::Exited);
                    together += exited.count();
                    continue;
                }
            }
            if self.groups[number].state == GroupState::Ready {
                *ran = true;
                let (group, threads) = (&mut self.groups[number], &mut self.threads[lanes.clone()]);
                let params = kernel.config.params;
                let mut memory = GroupMemory { shared: &mut self.shared, params, global: &mut *global };
                match group.run(routine, kernel, (threads, id), &mut memory, spent) {
                    Ok(Stop::Slice) => {}
                    Ok(Stop::Split) => self.part(kernel, routine, number),
                    Ok(Stop::Instruction) => self.group_meets(kernel, routine, number),
                    Err(trouble) => {
                        let (lane, trouble) = *trouble;
                        return Err(self.fault(kernel, lanes.start + lane, *trouble));
                    }
                }
            }
            if self.groups[number].state != GroupState::Apart {
                together += width;
            }
        }
        Ok(together)
    }

    /// A pass over a block all of whose threads are in groups: warps do not matter then.
    pub(super) fn pass_together(
        &mut self,
        kernel: &Kernel<'_>,
        routine: &dyn GroupRoutine,
        global: &mut Global<'_>,
    ) -> Result<u64, Fault> {
        // Lent out for the whole pass.
        let mut shared = std::mem::take(&mut self.shared);
        let mut memory = GroupMemory { shared: &mut shared, params: kernel.config.params, global };
        let result = self.rounds(kernel, routine, &mut memory);
        self.shared = shared;
        result
    }

    fn rounds(
        &mut self,
        kernel: &Kernel<'_>,
        routine: &dyn GroupRoutine,
        memory: &mut GroupMemory<'_, '_>,
    ) -> Result<u64, Fault> {
        let (width, id) = (self.width, self.id);
        let mut spent = 0;
        let mut progress = false;
        for _ in 0..ROUNDS {
            let mut ran = false;
            for number in 0..self.groups.len() {
                if self.groups[number].state != GroupState::Ready {
                    continue;
                }
                ran = true;
                let group = &mut self.groups[number];
                let threads = &mut self.threads[number * width..(number + 1) * width];
                match group.run(routine, kernel, (threads, id), memory, &mut spent) {
                    Ok(Stop::Instruction) => self.group_meets(kernel, routine, number),
                    Ok(Stop::Slice) => {}
                    Ok(Stop::Split) => self.part(kernel, routine, number),
                    Err(trouble) => {
                        let (lane, trouble) = *trouble;
                        return Err(self.fault(kernel, number * width + lane, *trouble));
                    }
                }
            }
            progress |= ran;
            if !ran || self.apart > 0 || spent > PASS {
                break;
            }
        }
        if !progress && self.live > 0 {
            let stuck = self.show_waiting_groups(kernel).unwrap_or(0);
            let waiting = waits::describe(kernel, &self.threads);
            return Err(self.fault(kernel, stuck, FaultKind::Deadlock { waiting }));
        }
        Ok(spent)
    }

    /// Makes the threads of groups that are together fit to be reported. Answers the first that waits at a barrier.
    pub(super) fn show_waiting_groups(&mut self, kernel: &Kernel<'_>) -> Option<usize> {
        let (width, block) = (self.width, self.id);
        let mut first = None;
        for (number, group) in self.groups.iter_mut().enumerate() {
            let threads = &mut self.threads[number * width..(number + 1) * width];
            match group.state {
                GroupState::Apart => {}
                // Its threads show it themselves.
                GroupState::AtCollective => drop(first.get_or_insert(number * width)),
                GroupState::Gone => group.show_exit(threads),
                GroupState::Ready | GroupState::AtBarrier(_) => {
                    for thread in threads {
                        group.report(kernel, thread, block);
                        if let GroupState::AtBarrier(id) = group.state {
                            thread.state = State::AtBarrier(id);
                            first.get_or_insert(number * width);
                        }
                    }
                }
            }
        }
        first
    }

    /// Lets the threads of a group go on one by one. They look at the states of the others in their warp.
    fn part(&mut self, kernel: &Kernel<'_>, routine: &dyn GroupRoutine, number: usize) {
        let (width, id) = (self.width, self.id);
        self.groups[number].part(
            routine,
            kernel,
            &mut self.threads[number * width..(number + 1) * width],
            id,
        );
        self.apart += 1;
        self.show_exits(number);
    }

    /// Groups that are gone show it to single threads of their warp.
    fn show_exits(&mut self, number: usize) {
        let (width, per_warp) = (self.width, 32 / self.width);
        let first = number / per_warp * per_warp;
        for number in first..(first + per_warp).min(self.groups.len()) {
            self.groups[number].show_exit(&mut self.threads[number * width..(number + 1) * width]);
        }
    }

    /// A group is at an instruction of the interpreter: exits and plain barriers concern all its threads alike, for
    /// all others they go on one by one.
    fn group_meets(&mut self, kernel: &Kernel<'_>, routine: &dyn GroupRoutine, number: usize) {
        let (width, block) = (self.width, self.id);
        let group = &mut self.groups[number];
        if let Some((pc, id)) = self.plain_barrier
            && group.pc == pc
        {
            group.state = GroupState::AtBarrier(id);
            let id = usize::from(id);
            self.barriers[id].arrive(number * width, width);
            self.complete_barrier(kernel, id);
            return;
        }
        let threads = &mut self.threads[number * width..(number + 1) * width];
        let inst = &kernel.function.code.insts[group.pc];
        match inst.op {
            Op::Exit => {
                group.state = GroupState::Gone;
                self.live -= width as u32;
                if self.apart > 0 || self.exchanging > 0 {
                    self.show_exits(number);
                }
                self.after_exit(kernel, number * width);
            }
            Op::Barrier(kind @ (BarrierKind::Sync | BarrierKind::Arrive)) => {
                let id =
                    group.uniform(routine, kernel, threads, block, inst.args.a).map(|id| id as u32 as usize);
                let counted = inst.args.imm != 0;
                let expected = if counted {
                    group.uniform(routine, kernel, threads, block, inst.args.b)
                } else {
                    Some(0)
                };
                let (Some(id @ 0..BARRIERS), Some(expected)) = (id, expected) else {
                    self.part(kernel, routine, number);
                    return;
                };
                self.meets = true;
                let constant = Preset::Constant(id as u64);
                if kind == BarrierKind::Sync
                    && !counted
                    && kernel.function.code.presets.contains(&(inst.args.a, constant))
                {
                    self.plain_barrier = Some((group.pc, id as u8));
                }
                let barrier = &mut self.barriers[id];
                barrier.arrive(number * width, width);
                if counted {
                    let whole = (self.threads.len() as u32).next_multiple_of(32);
                    barrier.expected = Some((expected as u32).clamp(1, whole));
                }
                if kind == BarrierKind::Arrive {
                    group.pc += 1;
                } else {
                    group.state = GroupState::AtBarrier(id as u8);
                }
                self.complete_barrier(kernel, id);
            }
            Op::Collective(_) => {
                let members = (u32::MAX >> (32 - width)) << (number * width % 32);
                if !group.bring(routine, kernel, threads, block, members) {
                    self.part(kernel, routine, number);
                    return;
                }
                self.meets = true;
                self.exchanging += 1;
                self.show_exits(number);
                let first = number * width / 32 * 32;
                let end = (first + 32).min(self.threads.len());
                if warp::try_complete(kernel, &mut self.threads[first..end], number * width - first) {
                    self.take_back(kernel, first, end);
                }
            }
            _ => self.part(kernel, routine, number),
        }
    }

    /// After an exchange of a warp is complete: its groups go on.
    pub(super) fn take_back(&mut self, kernel: &Kernel<'_>, first: usize, end: usize) {
        let Some(routine) = kernel.groups().filter(|_| self.exchanging > 0) else { return };
        let (width, id) = (self.width, self.id);
        for number in first / width..end / width {
            let threads = &mut self.threads[number * width..(number + 1) * width];
            if self.groups[number].take_back(routine, kernel, threads, id) {
                self.exchanging -= 1;
            }
        }
    }
}
