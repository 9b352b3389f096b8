//! Control flow and liveness of decoded code.

use ptx::engine::{ALWAYS, Code, Collective, Inst, Meaning, Op, Slot, Target};

/// A set of slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slots(Vec<u64>);

impl Slots {
    pub fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }
    pub fn insert(&mut self, slot: Slot) {
        self.0[slot as usize / 64] |= 1 << (slot % 64);
    }
    pub fn remove(&mut self, slot: Slot) {
        self.0[slot as usize / 64] &= !(1 << (slot % 64));
    }
    pub fn contains(&self, slot: Slot) -> bool {
        self.0[slot as usize / 64] >> (slot % 64) & 1 != 0
    }
    /// Whether something was new.
    fn unite(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            changed |= *other & !*word != 0;
            *word |= other;
        }
        changed
    }
    fn intersect(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
    }
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.0.iter().enumerate().flat_map(|(index, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                (rest != 0).then(|| {
                    rest &= rest - 1;
                    index as Slot * 64 + bit
                })
            })
        })
    }
}

/// Slots that an instruction reads and writes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Effect {
    pub reads: Vec<Slot>,
    pub writes: Vec<Slot>,
    /// May read any slot, and write those named: what later versions of the interpreter may bring.
    pub everything: bool,
}

/// Where the flow of control goes after an instruction of the compiled code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// To the next instruction.
    Next,
    /// A branch, perhaps guarded.
    Branch(usize),
    /// The interpreter executes it.
    Interpreted,
}

pub(crate) fn step(inst: &Inst) -> Step {
    match inst.op {
        Op::Alu(_) | Op::Memory(_) | Op::WaitingLoad(_) | Op::Atomic(_) | Op::Fence => Step::Next,
        Op::Branch => Step::Branch(usize::try_from(inst.args.imm).unwrap_or(0)),
        _ => Step::Interpreted,
    }
}

pub(crate) fn effect(code: &Code, inst: &Inst) -> Effect {
    let x = &inst.args;
    let mut effect = Effect::default();
    let Effect { reads, writes, everything } = &mut effect;
    match (inst.op, inst.meaning) {
        (_, Meaning::Load { count, .. }) => {
            reads.push(x.a);
            writes.extend(&[x.d, x.b, x.c, x.e][..count as usize]);
        }
        (_, Meaning::Store { count, .. }) => {
            reads.push(x.a);
            reads.extend(&[x.d, x.b, x.c, x.e][..count as usize]);
        }
        (Op::Alu(_), Meaning::Other) => {
            reads.extend([x.a, x.b, x.c, x.e, x.f]);
            writes.extend([x.d, x.f]);
        }
        (Op::Alu(_), meaning) => {
            reads.extend(&[x.a, x.b, x.c, x.e][..operands(meaning)]);
            writes.push(x.d);
        }
        (Op::Atomic(_), _) => {
            reads.extend([x.a, x.b, x.c]);
            writes.push(x.d);
        }
        (Op::Memory(_) | Op::WaitingLoad(_), _) => {
            reads.extend([x.a, x.b, x.c, x.d, x.e, x.f]);
            writes.extend([x.a, x.b, x.c, x.d, x.e, x.f]);
        }
        (Op::Branch | Op::Fence | Op::Exit | Op::Return | Op::Trap | Op::Yield, _) => {}
        (Op::BranchIndexed, _) => reads.push(x.a),
        (Op::Call, _) => {
            let site = usize::try_from(x.imm).ok().and_then(|site| code.calls.get(site));
            match site.map(|site| site.target) {
                Some(Target::Indirect(slot)) => reads.push(slot),
                Some(_) => {}
                None => *everything = true,
            }
        }
        (Op::Barrier(_), _) => {
            reads.extend([x.a, x.b, x.c]);
            writes.push(x.d);
        }
        (Op::Collective(Collective::Multiply), _) => {
            reads.push(x.f);
            match usize::try_from(x.imm).ok().and_then(|product| code.matrices.get(product)) {
                Some(matrix) => {
                    reads.extend([&matrix.a[..], &matrix.b, &matrix.c].concat());
                    writes.extend(&matrix.d);
                }
                None => *everything = true,
            }
        }
        (Op::Collective(kind), _) => {
            reads.extend([x.a, x.b, x.c, x.f]);
            writes.extend([x.d, x.e]);
            *everything = !known(kind);
        }
        (Op::ActiveMask | Op::Clock(_), _) => writes.push(x.d),
        _ => {
            writes.extend([x.a, x.b, x.c, x.d, x.e, x.f]);
            *everything = true;
        }
    }
    reads.retain(|&slot| slot != 0);
    writes.retain(|&slot| slot != 0);
    if inst.guard != ALWAYS {
        reads.push(inst.guard >> 1);
        // Where the guard does not hold the old value stays.
        reads.extend_from_slice(writes);
    }
    effect
}

/// Collectives that touch no slots but those they name.
fn known(kind: Collective) -> bool {
    use Collective as C;
    matches!(
        kind,
        C::Barrier
            | C::ShuffleUp
            | C::ShuffleDown
            | C::ShuffleButterfly
            | C::ShuffleIndex
            | C::VoteAll
            | C::VoteAny
            | C::VoteUniform
            | C::VoteBallot
            | C::MatchAny32
            | C::MatchAny64
            | C::MatchAll32
            | C::MatchAll64
            | C::ReduceAdd
            | C::ReduceMinSigned
            | C::ReduceMaxSigned
            | C::ReduceMin
            | C::ReduceMax
            | C::ReduceAnd
            | C::ReduceOr
            | C::ReduceXor
    )
}

/// Operands that an instruction of that meaning reads, in the order a, b, c, e.
fn operands(meaning: Meaning) -> usize {
    match meaning {
        Meaning::Offset | Meaning::Move(_) | Meaning::Extract(_) | Meaning::Not(_) | Meaning::Convert(..) => {
            1
        }
        Meaning::Pack(_, count) => count as usize,
        Meaning::Arithmetic(operation, ..) => {
            if operation.is_unary() {
                1
            } else {
                2
            }
        }
        Meaning::Logic(..) | Meaning::MulWide(_) | Meaning::Compare(..) => 2,
        _ => 3,
    }
}

#[derive(Debug)]
pub(crate) struct Block {
    pub start: usize,
    /// One past the last instruction.
    pub end: usize,
    pub next: Vec<usize>,
    /// Slots whose value matters at the start.
    pub live: Slots,
    /// Reached by a branch from behind it.
    pub loops: bool,
}

/// Control flow of a function.
#[derive(Debug)]
pub(crate) struct Flow {
    pub blocks: Vec<Block>,
    /// Block that starts at an instruction.
    pub block_at: Vec<Option<usize>>,
    pub effects: Vec<Effect>,
    /// Blocks where compiled code can begin.
    pub entries: Vec<usize>,
    /// Slots that live in the code, not in the thread's memory: all but presets that nobody writes.
    tracked: Slots,
}

impl Flow {
    pub fn new(code: &Code, presets: &[bool]) -> Self {
        let insts = &code.insts;
        let effects: Vec<Effect> = insts.iter().map(|inst| effect(code, inst)).collect();
        let mut starts = vec![false; insts.len() + 1];
        let mut enters = vec![false; insts.len() + 1];
        let mut loops = vec![false; insts.len() + 1];
        starts[0] = true;
        enters[0] = true;
        for (pc, inst) in insts.iter().enumerate() {
            match step(inst) {
                Step::Next => {}
                Step::Branch(target) => {
                    starts[pc + 1] = true;
                    starts[target] = true;
                    loops[target] |= target <= pc;
                }
                Step::Interpreted => {
                    starts[pc + 1] = true;
                    enters[pc + 1] = true;
                }
            }
        }
        for &target in code.tables.iter().flatten() {
            starts[target] = true;
            enters[target] = true;
        }
        let mut tracked = Slots::new(code.frame as usize);
        (1..code.frame).filter(|&slot| !presets[slot as usize]).for_each(|slot| tracked.insert(slot));
        let mut block_at = vec![None; insts.len() + 1];
        let mut blocks: Vec<Block> = Vec::new();
        for pc in 0..insts.len() {
            if starts[pc] {
                block_at[pc] = Some(blocks.len());
                let live = Slots::new(code.frame as usize);
                blocks.push(Block { start: pc, end: pc + 1, next: Vec::new(), live, loops: loops[pc] });
            } else if let Some(block) = blocks.last_mut() {
                block.end = pc + 1;
            }
        }
        for block in &mut blocks {
            let last = &insts[block.end - 1];
            let falls = block_at.get(block.end).copied().flatten();
            match step(last) {
                Step::Next => block.next.extend(falls),
                Step::Branch(target) => {
                    block.next.extend(block_at[target]);
                    if last.guard != ALWAYS {
                        block.next.extend(falls);
                    }
                }
                Step::Interpreted => {
                    let ends = matches!(last.op, Op::Exit | Op::Return | Op::Trap);
                    if !ends || last.guard != ALWAYS {
                        block.next.extend(falls);
                    }
                    if matches!(last.op, Op::BranchIndexed) {
                        block
                            .next
                            .extend(code.tables.iter().flatten().filter_map(|&target| block_at[target]));
                    }
                }
            }
        }
        let entries =
            (0..blocks.len()).filter(|&index| enters[blocks[index].start] || blocks[index].loops).collect();
        let mut flow = Self { blocks, block_at, effects, entries, tracked };
        flow.spread_liveness();
        flow
    }

    fn spread_liveness(&mut self) {
        loop {
            let mut changed = false;
            for index in (0..self.blocks.len()).rev() {
                let mut live = self.live_out(index);
                for pc in (self.blocks[index].start..self.blocks[index].end).rev() {
                    self.step_back(pc, &mut live);
                }
                changed |= self.blocks[index].live.unite(&live);
            }
            if !changed {
                break;
            }
        }
    }

    /// Slots that matter after a block's last instruction.
    pub fn live_out(&self, index: usize) -> Slots {
        let mut live = Slots(vec![0; self.tracked.0.len()]);
        for &next in &self.blocks[index].next {
            live.unite(&self.blocks[next].live);
        }
        live
    }

    /// From the slots that matter after an instruction to those that matter before it.
    pub fn step_back(&self, pc: usize, live: &mut Slots) {
        let effect = &self.effects[pc];
        if effect.everything {
            live.unite(&self.tracked);
            return;
        }
        effect.writes.iter().for_each(|&slot| live.remove(slot));
        effect.reads.iter().for_each(|&slot| live.insert(slot));
        live.intersect(&self.tracked);
    }

    /// Slots that matter before each instruction of a block.
    pub fn live_within(&self, index: usize) -> Vec<Slots> {
        let block = &self.blocks[index];
        let mut live = self.live_out(index);
        let mut all: Vec<Slots> = (block.start..block.end)
            .rev()
            .map(|pc| {
                self.step_back(pc, &mut live);
                live.clone()
            })
            .collect();
        all.reverse();
        all
    }
}
