//! Who waits where, in words, for the report of a deadlock.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Kernel;
use super::thread::{State, Thread};
use crate::memory::describe_address;
use crate::program::{Collective, Op};

/// Warps that are described one by one.
const SHOWN: usize = 8;

/// For instance `warp 0 (32 lanes): barrier 1 at line 12; warp 1 (3 lanes): shfl at line 9`.
pub(super) fn describe(kernel: &Kernel<'_>, threads: &[Thread]) -> String {
    let mut text = String::new();
    let mut warps = 0;
    for (number, warp) in threads.chunks(32).enumerate() {
        let mut places: BTreeMap<String, u32> = BTreeMap::new();
        for place in warp.iter().filter_map(|thread| place(kernel, thread)) {
            *places.entry(place).or_default() += 1;
        }
        if places.is_empty() {
            continue;
        }
        warps += 1;
        if warps > SHOWN {
            continue;
        }
        for (place, lanes) in places {
            let separator = if text.is_empty() { "" } else { "; " };
            let lanes = if lanes == 1 { "1 lane".to_owned() } else { format!("{lanes} lanes") };
            let _ = write!(text, "{separator}warp {number} ({lanes}): {place}");
        }
    }
    if warps > SHOWN {
        let _ = write!(text, "; and {} more warps", warps - SHOWN);
    }
    text
}

fn place(kernel: &Kernel<'_>, thread: &Thread) -> Option<String> {
    let inst = thread.function(kernel).code.insts.get(thread.pc)?;
    Some(match thread.state {
        State::Exited => return None,
        State::AtBarrier(id) => format!("barrier {id} at line {}", inst.line),
        State::Ready if thread.polling => {
            let (address, line) = thread.polled;
            format!("mbarrier at {}, line {line}", describe_address(address))
        }
        _ => {
            let name = match inst.op {
                Op::Collective(Collective::Barrier) => "bar.warp.sync",
                Op::Collective(
                    Collective::ShuffleUp
                    | Collective::ShuffleDown
                    | Collective::ShuffleButterfly
                    | Collective::ShuffleIndex,
                ) => "shfl",
                Op::Collective(
                    Collective::VoteAll
                    | Collective::VoteAny
                    | Collective::VoteUniform
                    | Collective::VoteBallot,
                ) => "vote",
                Op::Collective(
                    Collective::MatchAny32
                    | Collective::MatchAny64
                    | Collective::MatchAll32
                    | Collective::MatchAll64,
                ) => "match",
                Op::Collective(Collective::Multiply) => "mma",
                Op::Collective(_) => "redux",
                _ => "instruction",
            };
            let mask = thread.slot(inst.args.f) as u32;
            format!("{name} of lanes {mask:#010x} at line {}", inst.line)
        }
    })
}
