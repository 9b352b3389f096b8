//! What the threads of a warp compute together.

use crate::matrix::Role;
use crate::program::{Args, Collective};

use super::Kernel;
use super::thread::{State, Thread};
use crate::program::Op;

fn operation(kernel: &Kernel<'_>, thread: &Thread) -> Option<(Collective, Args)> {
    let inst = thread.function(kernel).code.insts.get(thread.pc)?;
    if let Op::Collective(kind) = inst.op { Some((kind, inst.args)) } else { None }
}

/// The members that `lane`'s operation waits for, itself included.
fn members(kernel: &Kernel<'_>, warp: &[Thread], lane: usize) -> Option<u32> {
    let (_, args) = operation(kernel, &warp[lane])?;
    Some(warp[lane].slot(args.f) as u32 | 1 << lane)
}

/// Completes the operation that `lane` is at if all its members have arrived. Exited members count as arrived.
pub(super) fn try_complete(kernel: &Kernel<'_>, warp: &mut [Thread], lane: usize) -> bool {
    let Some(mask) = members(kernel, warp, lane) else { return false };
    let mut group = 0u32;
    for (other, thread) in warp.iter().enumerate() {
        if mask >> other & 1 == 0 || thread.state == State::Exited {
            continue;
        }
        if thread.state != State::AtCollective || members(kernel, warp, other) != Some(mask) {
            return false;
        }
        group |= 1 << other;
    }
    let lane = group.trailing_zeros() as usize;
    match operation(kernel, &warp[lane]) {
        Some((Collective::Multiply, args)) => multiply(kernel, warp, group, args.imm),
        _ => complete(kernel, warp, group),
    }
    true
}

/// All lanes are at the same product, or what they get is not defined.
fn multiply(kernel: &Kernel<'_>, warp: &mut [Thread], group: u32, index: i64) {
    let first = group.trailing_zeros() as usize;
    let matrix = &warp[first].function(kernel).code.matrices[index as usize];
    let together = |lane: usize| {
        group >> lane & 1 != 0
            && warp[lane].pc == warp[first].pc
            && std::ptr::eq(warp[lane].function(kernel), warp[first].function(kernel))
    };
    let present: u32 =
        (0..warp.len().min(32)).filter(|&lane| together(lane)).fold(0, |all, lane| all | 1 << lane);
    let registers = matrix.product.compute(|role, register, lane| {
        if present >> lane & 1 == 0 {
            return 0;
        }
        warp[lane].slot(match role {
            Role::A => matrix.a[register],
            Role::B => matrix.b[register],
            Role::Accumulator => matrix.c[register],
        })
    });
    for (lane, thread) in warp.iter_mut().enumerate() {
        if group >> lane & 1 == 0 {
            continue;
        }
        if present >> lane & 1 != 0 {
            for (&slot, values) in matrix.d.iter().zip(&registers) {
                thread.set_slot(slot, values[lane]);
            }
        }
        thread.pc += 1;
        thread.state = State::Ready;
    }
}

fn complete(kernel: &Kernel<'_>, warp: &mut [Thread], group: u32) {
    let lanes = || (0..warp.len().min(32)).filter(move |lane| group >> lane & 1 != 0);
    let lanes: Vec<usize> = lanes().collect();
    let mut values = [0u64; 32];
    for &lane in &lanes {
        if let Some((_, args)) = operation(kernel, &warp[lane]) {
            values[lane] = warp[lane].slot(args.a);
        }
    }
    let fold = |start: u32, join: fn(u32, u32) -> u32| {
        lanes.iter().fold(start, |all, &lane| join(all, values[lane] as u32))
    };
    let votes = lanes.iter().filter(|&&lane| values[lane] & 1 != 0).fold(0u32, |all, &lane| all | 1 << lane);
    for &lane in &lanes {
        let Some((kind, args)) = operation(kernel, &warp[lane]) else { continue };
        let equal = |width: u64| {
            lanes
                .iter()
                .filter(|&&other| values[other] & width == values[lane] & width)
                .fold(0u32, |all, &other| all | 1 << other)
        };
        let all_match = |width: u64| if equal(width) == group { (group, 1) } else { (0, 0) };
        let (result, second) = match kind {
            Collective::Barrier | Collective::Multiply => (None, 0),
            Collective::ShuffleUp
            | Collective::ShuffleDown
            | Collective::ShuffleButterfly
            | Collective::ShuffleIndex => {
                let (source, inside) = shuffle_source(
                    kind,
                    lane as u32,
                    warp[lane].slot(args.b) as u32,
                    warp[lane].slot(args.c) as u32,
                );
                let source = if group >> source & 1 != 0 { source as usize } else { lane };
                (Some(values[source] as u32), u64::from(inside))
            }
            Collective::VoteAll => (Some(u32::from(votes == group)), 0),
            Collective::VoteAny => (Some(u32::from(votes != 0)), 0),
            Collective::VoteUniform => (Some(u32::from(votes == group || votes == 0)), 0),
            Collective::VoteBallot => (Some(votes), 0),
            Collective::MatchAny32 => (Some(equal(0xffff_ffff)), 0),
            Collective::MatchAny64 => (Some(equal(u64::MAX)), 0),
            Collective::MatchAll32 => {
                let (mask, flag) = all_match(0xffff_ffff);
                (Some(mask), flag)
            }
            Collective::MatchAll64 => {
                let (mask, flag) = all_match(u64::MAX);
                (Some(mask), flag)
            }
            Collective::ReduceAdd => (Some(fold(0, u32::wrapping_add)), 0),
            Collective::ReduceMin => (Some(fold(u32::MAX, u32::min)), 0),
            Collective::ReduceMax => (Some(fold(0, u32::max)), 0),
            Collective::ReduceMinSigned => {
                (Some(fold(i32::MAX as u32, |a, b| (a as i32).min(b as i32) as u32)), 0)
            }
            Collective::ReduceMaxSigned => {
                (Some(fold(i32::MIN as u32, |a, b| (a as i32).max(b as i32) as u32)), 0)
            }
            Collective::ReduceAnd => (Some(fold(u32::MAX, |a, b| a & b)), 0),
            Collective::ReduceOr => (Some(fold(0, |a, b| a | b)), 0),
            Collective::ReduceXor => (Some(fold(0, |a, b| a ^ b)), 0),
        };
        let thread = &mut warp[lane];
        if let Some(result) = result {
            // The second destination first: `d` wins should both be the same register.
            thread.set_slot(args.e, second);
            thread.set_slot(args.d, u64::from(result));
        }
    }
    for lane in lanes {
        warp[lane].pc += 1;
        warp[lane].state = State::Ready;
    }
}

/// Source lane and whether it is inside the segment, as PTX defines `shfl`.
fn shuffle_source(kind: Collective, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (b, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let max = lane & segment | clamp & !segment;
    let (source, inside) = match kind {
        Collective::ShuffleUp => (lane.wrapping_sub(b), lane as i32 - b as i32 >= max as i32),
        Collective::ShuffleDown => (lane + b, lane + b <= max),
        Collective::ShuffleButterfly => (lane ^ b, lane ^ b <= max),
        _ => {
            let source = lane & segment | b & !segment;
            (source, source <= max)
        }
    };
    if inside { (source & 31, true) } else { (lane, false) }
}

/// Lets the threads at `activemask` go on, those at the same instruction together.
pub(super) fn release_active_masks(kernel: &Kernel<'_>, warp: &mut [Thread]) {
    let place = |thread: &Thread| {
        let function: *const _ = thread.function(kernel);
        (function.addr(), thread.pc)
    };
    for lane in 0..warp.len() {
        if !matches!(warp[lane].state, State::AtActiveMask(_)) {
            continue;
        }
        let here = place(&warp[lane]);
        let together =
            |thread: &Thread| matches!(thread.state, State::AtActiveMask(_)) && place(thread) == here;
        let mask = warp
            .iter()
            .enumerate()
            .filter(|(_, thread)| together(thread))
            .fold(0u64, |all, (lane, _)| all | 1 << lane);
        let d = warp[lane].function(kernel).code.insts[here.1].args.d;
        for thread in &mut *warp {
            if matches!(thread.state, State::AtActiveMask(_)) && place(thread) == here {
                thread.set_slot(d, mask);
                thread.pc += 1;
                thread.state = State::Ready;
            }
        }
    }
}
