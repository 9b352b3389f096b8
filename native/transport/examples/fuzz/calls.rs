//! The session's sums beside simple models: who waits for which reply, which request is next, which error is told.

use std::collections::BTreeMap;

use fuzzing::Random;
use session::{Completion, DeferredError, DeferredErrors, PendingCalls, ReplyHead, RequestOrder};
use wire::record::flags;
use wire::{CallId, Header, Reader, Writer};

/// One case of one kind.
pub fn one(random: &mut Random) -> Result<(), String> {
    match random.below(4) {
        0 => order(random),
        1 => deferred(random),
        2 => heads(random),
        _ => pending(random),
    }
}

fn header(random: &mut Random, call: u16, sequence: u64) -> Header {
    let flags = match random.below(4) {
        0 => random.bits().to_le_bytes()[0].into(),
        1 => 0,
        _ => flags::IS_REPLY,
    };
    Header { length: 4, call: CallId(call), flags, context: 0, sequence }
}

/// A call that is waited for, in the model.
struct Waiting {
    call: u16,
    destination: Option<u64>,
    reply: Option<u64>,
    detached_in: Option<u32>,
}

fn pending(random: &mut Random) -> Result<(), String> {
    let mut calls: PendingCalls<u64, u64> = PendingCalls::default();
    let mut model: BTreeMap<u64, Waiting> = BTreeMap::new();
    for step in 0..random.below(60) {
        let (sequence, call) = (random.bits() % 6, u16::from(random.byte() % 3));
        let wrong = |what: &str| Err(format!("step {step}: {what} of call {call}, record {sequence}"));
        match random.below(8) {
            0 => {
                let destination = random.once_in(2).then(|| random.bits());
                calls.expect(sequence, CallId(call), destination);
                model.insert(sequence, Waiting { call, destination, reply: None, detached_in: None });
            }
            1 => {
                let (context, destination) = (u32::from(random.byte()), random.bits());
                calls.expect_detached(sequence, CallId(call), context, destination);
                let (destination, detached_in) = (Some(destination), Some(context));
                model.insert(sequence, Waiting { call, destination, reply: None, detached_in });
            }
            2 | 3 => {
                let header = header(random, call, sequence);
                let known = model.get_mut(&sequence);
                let known = known.filter(|waiting| waiting.call == call && waiting.reply.is_none());
                let known = known.filter(|_| header.flags & flags::IS_REPLY != 0);
                if calls.check(&header).is_ok() != known.is_some() {
                    return wrong("the check");
                }
                if calls.accept(&header).ok() != known.map(|waiting| waiting.destination.take()) {
                    return wrong("the acceptance");
                }
            }
            4 => {
                let known = model.get_mut(&sequence).filter(|waiting| waiting.reply.is_none());
                if calls.accept_data(sequence).ok() != known.map(|waiting| waiting.destination.take()) {
                    return wrong("the data");
                }
            }
            5 => {
                let reply = random.bits();
                let back = calls.complete(sequence, reply).map(|it| (it.call.0, it.context, it.reply));
                let detached =
                    model.get(&sequence).and_then(|it| it.detached_in.map(|context| (it.call, context)));
                if detached.is_some() {
                    model.remove(&sequence);
                } else if let Some(waiting) = model.get_mut(&sequence) {
                    waiting.reply = Some(reply);
                }
                if back != detached.map(|(call, context)| (call, context, reply)) {
                    return wrong("the completion");
                }
            }
            6 => {
                let expected = model.get(&sequence).and_then(|waiting| waiting.reply);
                if expected.is_some() {
                    model.remove(&sequence);
                }
                let taken = match calls.take(sequence) {
                    Completion::Ready(reply) => Some(reply),
                    Completion::Waiting => None,
                };
                if taken != expected {
                    return wrong("the taking");
                }
            }
            _ => {
                calls.forget(sequence);
                model.remove(&sequence);
            }
        }
        let is_detached = model.get(&sequence).is_some_and(|waiting| waiting.detached_in.is_some());
        if calls.is_detached(sequence) != is_detached {
            return wrong("whether nobody waits");
        }
    }
    Ok(())
}

fn order(random: &mut Random) -> Result<(), String> {
    let mut order = RequestOrder::default();
    let mut next = 1_u64;
    for _ in 0..random.below(30) {
        let call = if next == 1 && !random.once_in(4) { CallId::HELLO.0 } else { u16::from(random.byte()) };
        let sequence = if random.once_in(4) { random.edge() } else { next };
        let mut header = header(random, call, sequence);
        if !random.once_in(4) {
            header.flags &= flags::WANTS_REPLY | flags::DETACHED | flags::BULK;
        }
        let is_request = header.flags & (flags::IS_REPLY | flags::DEFERRED_ERROR | flags::NOTICE) == 0;
        let is_first = header.call == CallId::HELLO;
        let fits = is_request && sequence == next && (next == 1) == is_first;
        if order.admit(&header).is_ok() != fits {
            return Err(format!("{header:?} at {next}: expected {fits}"));
        }
        next += u64::from(fits);
    }
    Ok(())
}

fn deferred(random: &mut Random) -> Result<(), String> {
    let mut errors = DeferredErrors::default();
    let mut model: Vec<DeferredError> = Vec::new();
    for _ in 0..random.below(50) {
        let context = u32::from(random.byte() % 5);
        match random.below(4) {
            0 | 1 => {
                let code = i32::from(random.byte());
                let error = DeferredError { call: CallId(u16::from(random.byte())), context, code };
                errors.note(error);
                if model.iter().all(|other| other.context != context) {
                    model.push(error);
                }
            }
            2 => {
                errors.context_gone(context);
                model.retain(|error| error.context != context);
            }
            _ => {
                let asked = u32::from(random.byte() % 5);
                let of = |index: u32| model.iter().position(|error| error.context == index);
                let place = of(asked).or_else(|| of(0)).unwrap_or(0);
                let expected = (!model.is_empty()).then(|| model.remove(place));
                let told = errors.take(asked);
                if told != expected {
                    return Err(format!("{told:?} was told, expected {expected:?}"));
                }
            }
        }
    }
    Ok(())
}

fn heads(random: &mut Random) -> Result<(), String> {
    let bytes: Vec<u8> = (0..random.below(20)).map(|_| random.byte()).collect();
    let header_flags = u16::from(random.byte());
    let mut reader = Reader::new(&bytes);
    let head = ReplyHead::decode(header_flags, &mut reader);
    if reader.has_failed() {
        return Ok(());
    }
    let mut again = Vec::new();
    head.encode(&mut Writer::new(&mut again));
    let read = bytes.len() - reader.remaining();
    if again != bytes[..read] || read != ReplyHead::encoded_bytes(header_flags) {
        return Err(format!("{bytes:02x?} is read as {head:?}, which is written otherwise"));
    }
    Ok(())
}
