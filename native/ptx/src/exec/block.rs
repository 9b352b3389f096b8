//! A block: its threads take turns, warp by warp, and meet at barriers.

use std::ops::Range;

use super::group::{Group, GroupState};
use super::thread::{State, Thread};
use super::{FRESH_BYTE, Identity, Kernel, warp};
use crate::engine::{GroupMemory, GroupRoutine, Stop};
use crate::error::{Fault, FaultKind};
use crate::memory::{Global, Trouble};
use crate::program::{BarrierKind, Op};

const BARRIERS: usize = 16;
/// Turns that the lanes of one warp get before the next warp: they hand values to each other often.
const WARP_ROUNDS: u32 = 16;
/// Rounds that a thread waits at `activemask` for others to come.
const ACTIVE_MASK_PATIENCE: u32 = 2;

#[derive(Debug, Clone, Copy, Default)]
struct Barrier {
    arrived: u32,
    expected: Option<u32>,
    ones: u32,
    reducing: u32,
}

pub(crate) struct Block {
    threads: Vec<Thread>,
    /// Groups of compiled code; the threads after the last whole one are always on their own.
    groups: Vec<Group>,
    /// Threads of a group.
    width: usize,
    /// Threads of larger launches before.
    spare: Vec<Thread>,
    shared: Vec<u8>,
    barriers: [Barrier; BARRIERS],
    live: u32,
    id: [u32; 3],
    /// Threads have met, or waited at `activemask`, since the block began: exits concern others.
    meets: bool,
    masks: bool,
}

impl Block {
    /// A block of no launch yet.
    pub fn new() -> Self {
        Self {
            threads: Vec::new(),
            groups: Vec::new(),
            width: 1,
            spare: Vec::new(),
            shared: Vec::new(),
            barriers: [Barrier::default(); BARRIERS],
            live: 0,
            id: [0; 3],
            meets: false,
            masks: false,
        }
    }

    /// Makes it a block of a launch.
    pub fn prepare(&mut self, kernel: &Kernel<'_>, processor: u32) {
        let count = kernel.threads_per_block();
        while self.threads.len() > count as usize {
            self.spare.extend(self.threads.pop());
        }
        while self.threads.len() < count as usize {
            self.threads.push(self.spare.pop().unwrap_or_else(Thread::new));
        }
        let [x, y, z] = kernel.config.block;
        let mut index = 0;
        for z in 0..z {
            for y in 0..y {
                for x in 0..x {
                    let who = Identity { thread: [x, y, z], block: [0; 3], index, processor };
                    self.threads[index as usize].prepare(kernel, who);
                    index += 1;
                }
            }
        }
        self.groups.clear();
        if let Some(routine) = kernel.groups() {
            self.width = routine.lanes();
            self.groups.extend((0..self.threads.len() / self.width).map(|_| Group::new(routine)));
        }
        self.shared.clear();
        self.shared.resize(kernel.total_shared as usize, FRESH_BYTE);
    }

    /// Bytes that it keeps.
    pub fn size(&self) -> usize {
        self.shared.capacity() + self.threads.iter().chain(&self.spare).map(Thread::size).sum::<usize>()
    }

    /// Becomes block `id` of the grid.
    pub fn start(&mut self, kernel: &Kernel<'_>, id: [u32; 3]) {
        self.id = id;
        self.barriers = [Barrier::default(); BARRIERS];
        (self.meets, self.masks) = (false, false);
        self.live = self.threads.len() as u32;
        let grouped = self.groups.len() * self.width;
        if let Some(routine) = kernel.groups() {
            for (group, threads) in self.groups.iter_mut().zip(self.threads.chunks_mut(self.width)) {
                group.start(routine, kernel, threads, id);
            }
        }
        for thread in &mut self.threads[grouped..] {
            thread.start(kernel, id);
        }
    }

    pub fn finished(&self) -> bool {
        self.live == 0
    }

    /// Every thread gets a turn, or several. Returns the instructions run.
    pub fn pass(&mut self, kernel: &Kernel<'_>, global: &mut Global<'_>) -> Result<u64, Fault> {
        let mut spent = 0;
        let mut progress = false;
        for first in (0..self.threads.len()).step_by(32) {
            let end = (first + 32).min(self.threads.len());
            for _ in 0..WARP_ROUNDS {
                let mut ran = false;
                let together = match kernel.groups() {
                    Some(routine) => {
                        self.run_groups(kernel, routine, global, first..end, &mut spent, &mut ran)?
                    }
                    None => 0,
                };
                for index in if together == end - first { end..end } else { first..end } {
                    if self.threads[index].state != State::Ready {
                        continue;
                    }
                    ran = true;
                    let (count, result) = self.threads[index].run(kernel, &mut self.shared, global);
                    spent += count;
                    let result = result.and_then(|()| self.after_turn(kernel, index, first, end));
                    if let Err(trouble) = result {
                        return Err(self.fault(kernel, index, *trouble));
                    }
                }
                progress |= ran;
                progress |= self.masks && self.release_active(kernel, first, end);
                let ready = |thread: &Thread| thread.state == State::Ready;
                if together == end - first || !self.threads[first..end].iter().any(ready) {
                    break;
                }
            }
        }
        if !progress && self.live > 0 {
            let stuck = self.threads.iter().position(|thread| thread.state != State::Exited).unwrap_or(0);
            if let Some(group) =
                self.groups.get(stuck / self.width).filter(|group| group.state != GroupState::Apart)
            {
                self.threads[stuck].pc = group.pc;
            }
            return Err(self.fault(kernel, stuck, FaultKind::Deadlock));
        }
        Ok(spent)
    }

    /// Runs the ready groups of a warp. Returns how many of its threads are in groups now, or gone.
    fn run_groups(
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
            if self.groups[number].state == GroupState::Apart
                && !self.groups[number].try_join(routine, kernel, &mut self.threads[lanes.clone()], id)
            {
                continue;
            }
            if self.groups[number].state == GroupState::Ready {
                *ran = true;
                let (group, threads) = (&mut self.groups[number], &mut self.threads[lanes.clone()]);
                let params = kernel.config.params;
                let mut memory = GroupMemory { shared: &mut self.shared, params, global: &mut *global };
                match group.run(routine, kernel, (threads, id), &mut memory, spent) {
                    Ok(Stop::Slice) => {}
                    Ok(Stop::Split) => {
                        group.part(routine, kernel, threads, id);
                        self.show_exits(warp.clone());
                    }
                    Ok(Stop::Instruction) => self
                        .group_meets(kernel, routine, number, lanes.clone())
                        .map_err(|trouble| self.fault(kernel, lanes.start, *trouble))?,
                    Err(trouble) => {
                        let (lane, trouble) = *trouble;
                        return Err(self.fault(kernel, lanes.start + lane, *trouble));
                    }
                }
            }
            if self.groups[number].state != GroupState::Apart {
                together += width;
            } else if self.threads[lanes.start].state == State::Exited {
                together += self.threads[lanes].iter().filter(|thread| thread.state == State::Exited).count();
            }
        }
        Ok(together)
    }

    /// Threads of a warp on their own look at the states of the others.
    fn show_exits(&mut self, warp: Range<usize>) {
        for number in warp.start / self.width..warp.end / self.width {
            let lanes = number * self.width..(number + 1) * self.width;
            self.groups[number].show_exit(&mut self.threads[lanes]);
        }
    }

    /// A group is at an instruction of the interpreter: exits and plain barriers concern all its threads alike, for
    /// all others they go on one by one.
    fn group_meets(
        &mut self,
        kernel: &Kernel<'_>,
        routine: &dyn GroupRoutine,
        number: usize,
        lanes: Range<usize>,
    ) -> Result<(), Trouble> {
        let (block, warp) =
            (self.id, lanes.start / 32 * 32..(lanes.start / 32 * 32 + 32).min(self.threads.len()));
        let group = &mut self.groups[number];
        let threads = &mut self.threads[lanes];
        let count = threads.len() as u32;
        let inst = &kernel.function.code.insts[group.pc];
        match inst.op {
            Op::Exit => {
                group.state = GroupState::Gone;
                self.live -= count;
                let numbers = warp.start / self.width..(warp.end / self.width).min(self.groups.len());
                let apart = self.groups[numbers].iter().any(|group| group.state == GroupState::Apart);
                if apart || warp.end / self.width * self.width != warp.end {
                    self.show_exits(warp);
                }
                self.after_exit(kernel, number * self.width);
                Ok(())
            }
            Op::Barrier(kind @ (BarrierKind::Sync | BarrierKind::Arrive)) => {
                let id =
                    group.uniform(routine, kernel, threads, block, inst.args.a).map(|id| id as u32 as usize);
                let expected = if inst.args.imm == 0 {
                    Some(0)
                } else {
                    group.uniform(routine, kernel, threads, block, inst.args.b).map(|count| count as u32)
                };
                let (Some(id @ 0..BARRIERS), Some(expected)) = (id, expected) else {
                    group.part(routine, kernel, threads, block);
                    self.show_exits(warp);
                    return Ok(());
                };
                self.meets = true;
                let barrier = &mut self.barriers[id];
                barrier.arrived += count;
                if inst.args.imm != 0 {
                    barrier.expected = Some(expected.clamp(1, self.threads.len() as u32));
                }
                if kind == BarrierKind::Arrive {
                    group.pc += 1;
                } else {
                    group.state = GroupState::AtBarrier(id as u8);
                }
                self.complete_barrier(kernel, id);
                Ok(())
            }
            _ => {
                group.part(routine, kernel, threads, block);
                self.show_exits(warp);
                Ok(())
            }
        }
    }

    fn release_active(&mut self, kernel: &Kernel<'_>, first: usize, end: usize) -> bool {
        let warp = &mut self.threads[first..end];
        let mut release = false;
        let ready = warp.iter().any(|thread| thread.state == State::Ready);
        for thread in &mut *warp {
            if let State::AtActiveMask(rounds) = &mut thread.state {
                *rounds += 1;
                release |= !ready || *rounds > ACTIVE_MASK_PATIENCE;
            }
        }
        if release {
            warp::release_active_masks(kernel, warp);
        }
        release
    }

    fn after_turn(
        &mut self,
        kernel: &Kernel<'_>,
        index: usize,
        first: usize,
        end: usize,
    ) -> Result<(), Trouble> {
        match self.threads[index].state {
            State::Ready | State::AtBarrier(_) | State::Grouped => {}
            State::AtActiveMask(_) => self.masks = true,
            State::AtCollective => {
                self.meets = true;
                warp::try_complete(kernel, &mut self.threads[first..end], index - first);
            }
            State::Arriving => {
                self.meets = true;
                self.arrive(kernel, index)?;
            }
            State::Exited => {
                self.live -= 1;
                self.after_exit(kernel, index);
            }
        }
        Ok(())
    }

    /// Those who wait for thread `index`, which has exited, may have nobody left to wait for.
    fn after_exit(&mut self, kernel: &Kernel<'_>, index: usize) {
        if !self.meets {
            return;
        }
        let first = index / 32 * 32;
        let end = (first + 32).min(self.threads.len());
        let groups = first / self.width..(end / self.width).min(self.groups.len());
        let whole = groups.len() * self.width == end - first;
        let apart = !whole || self.groups[groups].iter().any(|group| group.state == GroupState::Apart);
        for lane in 0..if apart { end - first } else { 0 } {
            if self.threads[first + lane].state == State::AtCollective {
                warp::try_complete(kernel, &mut self.threads[first..end], lane);
            }
        }
        for id in 0..BARRIERS {
            if self.barriers[id].arrived > 0 {
                self.complete_barrier(kernel, id);
            }
        }
    }

    fn arrive(&mut self, kernel: &Kernel<'_>, index: usize) -> Result<(), Trouble> {
        let threads = self.threads.len() as u32;
        let thread = &mut self.threads[index];
        let inst = &thread.function(kernel).code.insts[thread.pc];
        let Op::Barrier(kind) = inst.op else { return Err(Box::new(FaultKind::IllegalInstruction)) };
        let id = thread.slot(inst.args.a) as u32;
        if id as usize >= BARRIERS {
            return Err(Box::new(FaultKind::IllegalInstruction));
        }
        let barrier = &mut self.barriers[id as usize];
        barrier.arrived += 1;
        if inst.args.imm != 0 {
            // A last, partial warp counts as whole in the program's arithmetic.
            barrier.expected = Some((thread.slot(inst.args.b) as u32).clamp(1, threads));
        }
        if !matches!(kind, BarrierKind::Sync | BarrierKind::Arrive) {
            barrier.reducing += 1;
            barrier.ones += u32::from(thread.slot(inst.args.c) & 1 != 0);
        }
        if kind == BarrierKind::Arrive {
            thread.pc += 1;
            thread.state = State::Ready;
        } else {
            thread.state = State::AtBarrier(id as u8);
        }
        self.complete_barrier(kernel, id as usize);
        Ok(())
    }

    fn complete_barrier(&mut self, kernel: &Kernel<'_>, id: usize) {
        let barrier = self.barriers[id];
        if barrier.arrived < barrier.expected.unwrap_or(self.live) {
            return;
        }
        let mut alone = self.threads.len();
        for group in &mut self.groups {
            if group.state == GroupState::AtBarrier(id as u8) {
                group.state = GroupState::Ready;
                group.pc += 1;
            }
            alone -= if group.state == GroupState::Apart { 0 } else { self.width };
        }
        self.barriers[id] = Barrier::default();
        if alone == 0 {
            return;
        }
        for thread in &mut self.threads {
            if thread.state != State::AtBarrier(id as u8) {
                continue;
            }
            let inst = &thread.function(kernel).code.insts[thread.pc];
            let result = match inst.op {
                Op::Barrier(BarrierKind::Popc) => Some(barrier.ones),
                Op::Barrier(BarrierKind::And) => Some(u32::from(barrier.ones == barrier.reducing)),
                Op::Barrier(BarrierKind::Or) => Some(u32::from(barrier.ones > 0)),
                _ => None,
            };
            if let Some(result) = result {
                thread.set_slot(inst.args.d, u64::from(result));
            }
            thread.pc += 1;
            thread.state = State::Ready;
        }
    }

    pub fn fault(&self, kernel: &Kernel<'_>, index: usize, kind: FaultKind) -> Fault {
        let thread = &self.threads[index];
        let function = thread.function(kernel);
        Fault {
            kind,
            block: self.id,
            thread: thread.who.thread,
            function: function.name.clone(),
            line: function.code.insts.get(thread.pc).map_or(0, |inst| inst.line),
        }
    }
}
