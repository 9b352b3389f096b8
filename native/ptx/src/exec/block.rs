//! A block: its threads take turns, warp by warp, and meet at barriers.

use super::group::{Group, GroupState};
use super::thread::{State, Thread};
use super::{FRESH_BYTE, Identity, Kernel, waits, warp};
use crate::error::{Fault, FaultKind};
use crate::memory::{Global, Trouble};
use crate::program::{BarrierKind, Op};
use crate::races::Watch;

pub(super) const BARRIERS: usize = 16;
/// Warps of the largest block.
const WARPS: usize = 32;
/// Turns that the lanes of one warp get before the next warp: they hand values to each other often.
const WARP_ROUNDS: u32 = 16;
/// Rounds that a thread waits at `activemask` for others to come.
const ACTIVE_MASK_PATIENCE: u32 = 2;
/// Passes in which a thread does nothing but look at a barrier in shared memory. If all do, it is a deadlock.
const POLL_PATIENCE: u32 = 2_000;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Barrier {
    pub(super) arrived: u32,
    pub(super) expected: Option<u32>,
    ones: u32,
    reducing: u32,
    /// Lanes that have arrived, by warp.
    lanes: [u32; WARPS],
}

impl Barrier {
    /// Notes that `count` threads from `first` on, all of one warp, have arrived.
    pub(super) fn arrive(&mut self, first: usize, count: usize) {
        self.arrived += count as u32;
        let mask = if count >= 32 { u32::MAX } else { (1 << count) - 1 };
        self.lanes[first / 32 % WARPS] |= mask << (first % 32);
    }

    /// Lanes that exited or never were, of warps of which some lane has arrived: a warp counts as a whole.
    fn absent(&self, threads: usize, exited: impl Fn(usize) -> bool) -> u32 {
        let warps = self.lanes.iter().enumerate().filter(|&(warp, &lanes)| lanes != 0 && warp * 32 < threads);
        let absent = warps.map(|(warp, &lanes)| {
            let first = warp * 32;
            let there = 32.min(threads - first);
            let gone = |lane: &usize| lanes >> lane & 1 == 0 && exited(first + lane);
            32 - there + (0..there).filter(gone).count()
        });
        absent.sum::<usize>() as u32
    }
}

pub(crate) struct Block {
    pub(super) threads: Vec<Thread>,
    /// Groups of compiled code; the threads after the last whole one are always on their own.
    pub(super) groups: Vec<Group>,
    /// Threads of a group.
    pub(super) width: usize,
    /// Groups whose threads are on their own, and threads without a group.
    pub(super) apart: usize,
    /// Groups at an exchange.
    pub(super) exchanging: usize,
    /// A barrier for all threads that a group of this block met last: its place and number.
    pub(super) plain_barrier: Option<(usize, u8)>,
    /// Threads of larger launches before.
    spare: Vec<Thread>,
    pub(super) shared: Vec<u8>,
    watch: Option<Watch>,
    pub(super) barriers: [Barrier; BARRIERS],
    pub(super) live: u32,
    pub(super) id: [u32; 3],
    /// Threads have met, or waited at `activemask`, since the block began: exits concern others.
    pub(super) meets: bool,
    masks: bool,
    /// Some thread has looked at a barrier in shared memory in vain.
    polls: bool,
}

impl Block {
    /// A block of no launch yet.
    pub fn new() -> Self {
        Self {
            threads: Vec::new(),
            groups: Vec::new(),
            width: 1,
            apart: 0,
            exchanging: 0,
            plain_barrier: None,
            spare: Vec::new(),
            shared: Vec::new(),
            watch: None,
            barriers: [Barrier::default(); BARRIERS],
            live: 0,
            id: [0; 3],
            meets: false,
            masks: false,
            polls: false,
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
        self.watch = kernel.watched.then(|| Watch::new(kernel.total_shared as usize));
    }

    /// Takes what has watched its shared memory, once it is a block of this launch no more.
    pub fn take_watch(&mut self) -> Option<Watch> {
        self.watch.take()
    }

    /// Bytes that it keeps.
    pub fn size(&self) -> usize {
        self.shared.capacity() + self.threads.iter().chain(&self.spare).map(Thread::size).sum::<usize>()
    }

    /// Becomes block `id` of the grid.
    pub fn start(&mut self, kernel: &Kernel<'_>, id: [u32; 3]) {
        self.id = id;
        self.barriers = [Barrier::default(); BARRIERS];
        (self.meets, self.masks, self.polls) = (false, false, false);
        self.plain_barrier = None;
        if let Some(watch) = &mut self.watch {
            watch.begin(id);
        }
        self.exchanging = 0;
        self.live = self.threads.len() as u32;
        let grouped = self.groups.len() * self.width;
        self.apart = self.threads.len() - grouped;
        if let Some(routine) = kernel.groups() {
            for (group, threads) in self.groups.iter_mut().zip(self.threads.chunks_mut(self.width)) {
                group.start(routine, kernel, threads, id);
                self.apart += usize::from(group.state == GroupState::Apart);
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
        if let Some(routine) = kernel.groups()
            && self.apart == 0
        {
            return self.pass_together(kernel, routine, global);
        }
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
                    let mut watch = self.watch.as_mut();
                    if let Some(watch) = &mut watch {
                        watch.turn(index);
                    }
                    let (count, result) = self.threads[index].run(kernel, &mut self.shared, watch, global);
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
        if self.live > 0 && (!progress || self.polls && self.only_polls()) {
            let stuck = self.threads.iter().position(|thread| thread.state != State::Exited).unwrap_or(0);
            let stuck = self.show_waiting_groups(kernel).unwrap_or(stuck);
            let waiting = waits::describe(kernel, &self.threads);
            return Err(self.fault(kernel, stuck, FaultKind::Deadlock { waiting }));
        }
        Ok(spent)
    }

    /// Whether every thread waits, or has long done nothing but look at barriers in shared memory: then nobody will
    /// arrive there.
    fn only_polls(&mut self) -> bool {
        let mut all = true;
        for thread in &mut self.threads {
            match thread.state {
                State::Ready if thread.polling => {
                    thread.idle = thread.idle.saturating_add(1);
                    all &= thread.idle >= POLL_PATIENCE;
                }
                State::Exited | State::AtBarrier(_) | State::AtCollective => {}
                _ => all = false,
            }
        }
        all
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
            State::Ready => self.polls |= self.threads[index].polling,
            State::AtBarrier(_) | State::Grouped => {}
            State::AtActiveMask(_) => self.masks = true,
            State::AtCollective => {
                self.meets = true;
                if warp::try_complete(kernel, &mut self.threads[first..end], index - first) {
                    self.take_back(kernel, first, end);
                }
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
    pub(super) fn after_exit(&mut self, kernel: &Kernel<'_>, index: usize) {
        if !self.meets {
            return;
        }
        let first = index / 32 * 32;
        let end = (first + 32).min(self.threads.len());
        let alone = self.apart == 0 && self.exchanging == 0 && !self.groups.is_empty();
        for lane in 0..if alone { 0 } else { end - first } {
            if self.threads[first + lane].state == State::AtCollective {
                warp::try_complete(kernel, &mut self.threads[first..end], lane);
            }
        }
        self.take_back(kernel, first, end);
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
        barrier.arrive(index, 1);
        if inst.args.imm != 0 {
            let whole = threads.next_multiple_of(32);
            barrier.expected = Some((thread.slot(inst.args.b) as u32).clamp(1, whole));
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

    /// Whether a thread has exited. The threads of a group that is together do not say so themselves.
    fn has_exited(&self, index: usize) -> bool {
        match self.groups.get(index / self.width.max(1)).map(|group| group.state) {
            None | Some(GroupState::Apart) => self.threads[index].state == State::Exited,
            Some(state) => state == GroupState::Gone,
        }
    }

    pub(super) fn complete_barrier(&mut self, kernel: &Kernel<'_>, id: usize) {
        let barrier = self.barriers[id];
        let complete = match barrier.expected {
            Some(expected) => {
                let absent = barrier.absent(self.threads.len(), |index| self.has_exited(index));
                barrier.arrived + absent >= expected
            }
            None => barrier.arrived >= self.live,
        };
        if !complete {
            return;
        }
        if let Some(watch) = &mut self.watch {
            watch.advance();
        }
        for group in &mut self.groups {
            if group.state == GroupState::AtBarrier(id as u8) {
                group.state = GroupState::Ready;
                group.pc += 1;
            }
        }
        self.barriers[id] = Barrier::default();
        if self.apart == 0 && !self.groups.is_empty() {
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
