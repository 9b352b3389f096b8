//! Finding races in shared memory: accesses to a byte by threads of different warps, at least one a plain write, with
//! nothing in between that can order them.
//!
//! Time is counted in *epochs* of a block. Whatever may hand data from one warp to another begins a new one: a complete
//! barrier, the end of an `mbarrier`'s phase, a fence, and stores and atomics that others may be waiting for. Accesses
//! in different epochs are taken to be ordered, even where that holds for other warps only: some races are missed, and
//! none is reported that is none.

use std::fmt;

use crate::exec::Kernel;
use crate::program::{Code, Inst, Op};

/// Races that are told one by one, of a launch.
const SHOWN: usize = 4;

/// How a thread accesses memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words say it")]
pub enum AccessKind {
    Read,
    Write,
    Atomic,
}

impl fmt::Display for AccessKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Atomic => "atomic",
        })
    }
}

/// One side of a race.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RacingAccess {
    /// What it does.
    pub kind: AccessKind,
    /// Coordinates of the thread in its block.
    pub thread: [u32; 3],
    /// PTX line of the instruction.
    pub line: u32,
}

/// Two accesses of shared memory between which a barrier is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Race {
    /// Name of the kernel.
    pub kernel: String,
    /// Block coordinates.
    pub block: [u32; 3],
    /// Offset of the first byte concerned in the block's shared memory.
    pub offset: usize,
    /// That place as the kernel calls it, for instance `tile + 4`.
    pub place: String,
    /// The access that happened to come first.
    pub first: RacingAccess,
    /// The other one.
    pub second: RacingAccess,
}

impl fmt::Display for Race {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, block, offset, place, first, second } = self;
        write!(
            formatter,
            "race in kernel {kernel}: {} after {} at shared {offset:#x} ({place}) in block {block:?}: a barrier is missing \
             between the {} by thread {:?} at PTX line {} and the {} by thread {:?} at PTX line {}",
            second.kind,
            first.kind,
            first.kind,
            first.thread,
            first.line,
            second.kind,
            second.thread,
            second.line
        )
    }
}

/// The races of a launch.
#[derive(Debug, Default)]
pub struct Races {
    /// Some of them, each of two PTX lines of its own.
    pub shown: Vec<Race>,
    /// How many accesses there were that raced with an earlier one.
    pub accesses: u64,
}

/// An access, as a byte remembers it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    line: u32,
    /// Index of the thread in its block.
    thread: u16,
    kind: AccessKind,
}

impl Seen {
    fn is_apart(self, other: Self) -> bool {
        self.thread / 32 != other.thread / 32
    }
}

/// What happened to one byte in an epoch.
#[derive(Debug, Clone, Copy, Default)]
struct Byte {
    epoch: u64,
    writer: Option<Seen>,
    /// Reads and atomics race with writes only. If several warps made some, two of them are here: then every writer
    /// meets one that is not of its own warp.
    others: [Option<Seen>; 2],
}

impl Byte {
    /// Remembers an access; returns one that it races with.
    fn meet(&mut self, now: Seen) -> Option<Seen> {
        let apart = |seen: &Seen| seen.is_apart(now);
        let writer = self.writer.filter(apart);
        if now.kind == AccessKind::Write {
            self.writer = Some(now);
            return writer.or_else(|| self.others.into_iter().flatten().find(apart));
        }
        let [first, second] = &mut self.others;
        *if first.as_ref().is_some_and(apart) { second } else { first } = Some(now);
        writer
    }
}

/// A race, as it was met.
#[derive(Debug, Clone, Copy)]
struct Found {
    block: [u32; 3],
    offset: usize,
    first: Seen,
    second: Seen,
}

/// Watches the shared memory of one block after the other.
#[derive(Debug)]
pub struct Watch {
    bytes: Vec<Byte>,
    epoch: u64,
    block: [u32; 3],
    /// The access that comes next.
    thread: u16,
    line: u32,
    /// It is one that may wait for others, or be waited for.
    exempt: bool,
    found: Vec<Found>,
    accesses: u64,
}

impl Watch {
    pub(crate) fn new(shared_bytes: usize) -> Self {
        Self {
            bytes: vec![Byte::default(); shared_bytes],
            epoch: 0,
            block: [0; 3],
            thread: 0,
            line: 0,
            exempt: false,
            found: Vec::new(),
            accesses: 0,
        }
    }

    /// Another block begins.
    pub(crate) fn begin(&mut self, block: [u32; 3]) {
        self.block = block;
        self.advance();
    }

    /// What was accessed so far is ordered before what comes.
    pub(crate) fn advance(&mut self) {
        self.epoch += 1;
    }

    /// Thread `index` has its turn.
    pub(crate) fn turn(&mut self, index: usize) {
        self.thread = index as u16;
    }

    /// An instruction that accesses memory comes.
    #[cold]
    pub(crate) fn expect(&mut self, code: &Code, pc: usize) {
        let Inst { op, line, .. } = code.insts[pc];
        let hands_over = code.handovers.binary_search(&pc).is_ok();
        if hands_over {
            self.advance();
        }
        self.line = line;
        self.exempt = matches!((op, hands_over), (Op::WaitingLoad(_), _) | (Op::Memory(_), true));
    }

    /// The access itself.
    #[cold]
    pub(crate) fn access(&mut self, offset: usize, size: usize, kind: AccessKind) {
        if self.exempt {
            return;
        }
        let second = Seen { line: self.line, thread: self.thread, kind };
        let mut race = None;
        for (index, byte) in self.bytes[offset..offset + size].iter_mut().enumerate() {
            if byte.epoch != self.epoch {
                *byte = Byte { epoch: self.epoch, ..Byte::default() };
            }
            let first = byte.meet(second);
            race = race.or_else(|| first.map(|first| (offset + index, first)));
        }
        if let Some((offset, first)) = race {
            self.accesses += 1;
            let known = |found: &Found| (found.first.line, found.second.line) == (first.line, second.line);
            if self.found.len() < SHOWN && !self.found.iter().any(known) {
                self.found.push(Found { block: self.block, offset, first, second });
            }
        }
    }

    /// Tells what was found.
    pub(crate) fn tell(self, kernel: &Kernel<'_>, races: &mut Races) {
        races.accesses += self.accesses;
        for found in self.found {
            let [x, y, _] = kernel.config.block;
            let access = |Seen { line, thread, kind }| {
                let index = u32::from(thread);
                RacingAccess { kind, thread: [index % x, index / x % y, index / x / y], line }
            };
            let race = Race {
                kernel: kernel.function.name.clone(),
                block: found.block,
                offset: found.offset,
                place: place(kernel, found.offset as u32),
                first: access(found.first),
                second: access(found.second),
            };
            let same =
                |other: &Race| (other.first.line, other.second.line) == (race.first.line, race.second.line);
            if races.shown.len() < SHOWN && !races.shown.iter().any(same) {
                races.shown.push(race);
            }
        }
    }
}

/// An offset in shared memory, by the variable that lies there.
fn place(kernel: &Kernel<'_>, offset: u32) -> String {
    let with = |name: &str, beyond: u32| {
        if beyond == 0 { name.to_owned() } else { format!("{name} + {beyond}") }
    };
    for &(index, start) in &kernel.function.code.shared {
        let variable = &kernel.module.shared[index];
        if offset.checked_sub(start).is_some_and(|beyond| beyond < variable.size) {
            return with(source_name(&variable.name), offset - start);
        }
    }
    if offset < kernel.function.reserved_shared_bytes {
        return with("reserved shared memory", offset);
    }
    with("dynamic shared memory", offset.saturating_sub(kernel.dynamic_shared_offset))
}

/// The name that a function's variable has in C++: `tile` for `_ZZ6reducePKiPiE4tile`.
fn source_name(name: &str) -> &str {
    let Some(mangled) = name.strip_prefix("_ZZ") else { return name };
    let ends = mangled.match_indices('E').map(|(at, _)| &mangled[at + 1..]);
    let mut named = ends.filter_map(|end| {
        let last = end.trim_start_matches(|character: char| character.is_ascii_digit());
        (end[..end.len() - last.len()].parse() == Ok(last.len())).then_some(last)
    });
    named.next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::source_name;

    #[test]
    fn names_are_those_of_the_source() {
        assert_eq!(source_name("_ZZ6reducePKiPiE4tile"), "tile");
        assert_eq!(source_name("_ZZN1E6reduceEPiE6E4tile"), "E4tile");
        assert_eq!(source_name("tile"), "tile");
        assert_eq!(source_name("_ZZ6reducePKiPiE4tile_0"), "_ZZ6reducePKiPiE4tile_0");
    }
}
