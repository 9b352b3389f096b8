//! Damages records and reads them with everything that reads bytes of the other end:
//! `cargo run --release -p wire --example fuzz -- --minutes N [--corpus DIR] [--seed N]`.
//!
//! A panic ends the run, and so does memory beyond a bound that grows with the input, and bytes that are accepted, written
//! again, and then refused or read as something else.

#[macro_use]
mod call;
mod calls;
mod meter;

use std::process::ExitCode;
use std::time::Instant;

use fuzzing::{Options, Random, Record, damage, damage_payload};
use wire::bulk::{FRAME_BYTES, Frame};
use wire::preface::{PREFACE_BYTES, Preface};
use wire::record::HEADER_BYTES;
use wire::{Header, Writer};

use call::{Call, OTHERS, Outcome};
use calls::CALLS;

fn main() -> ExitCode {
    fuzzing::end(run())
}

/// What the seeds consist of.
struct Seeds {
    prefaces: Vec<Vec<u8>>,
    records: Vec<Record>,
    /// What stands in payloads where numbers do.
    numbers: Vec<u64>,
}

fn seeds(options: &Options) -> Result<Seeds, String> {
    let mut seeds = Seeds { prefaces: Vec::new(), records: Vec::new(), numbers: Vec::new() };
    for recording in fuzzing::corpus(&options.corpus)? {
        seeds.prefaces.push(recording.preface);
        for record in recording.records {
            let fields = record.payload.chunks_exact(8).take(16);
            seeds.numbers.extend(fields.filter_map(|field| field.try_into().ok().map(u64::from_le_bytes)));
            seeds.records.push(record);
        }
    }
    seeds.numbers.sort_unstable();
    seeds.numbers.dedup();
    Ok(seeds)
}

fn run() -> Result<String, String> {
    let options = Options::read(&[])?;
    let seeds = seeds(&options)?;
    for preface in &seeds.prefaces {
        check_preface(preface)?.ok_or("a preface of the corpus is refused")?;
    }
    for record in &seeds.records {
        let is_known = |call: &&Call| call.id == record.call;
        let call = CALLS.iter().chain(OTHERS).find(is_known).ok_or("a record of the corpus has no call")?;
        // On the bulk lane a record's data are elsewhere.
        if record.flags & wire::record::flags::BULK == 0 && (call.request)(&record.payload)?.is_none() {
            return Err(format!("a record of call {} in the corpus is refused", record.call));
        }
    }
    let mut random = Random::new(options.seed);
    let until = options.deadline();
    let (mut cases, mut accepted) = (0_u64, 0_u64);
    while Instant::now() < until {
        for _ in 0..256 {
            let case = random.clone();
            let outcome =
                one(&seeds, &mut random).map_err(|why| format!("case {cases} ({case:?}): {why}"))?;
            accepted += u64::from(outcome.is_some());
            cases += 1;
        }
    }
    Ok(format!(
        "{cases} damaged records from {} in {} connections, {accepted} of them accepted and stable",
        seeds.records.len(),
        seeds.prefaces.len()
    ))
}

fn one(seeds: &Seeds, random: &mut Random) -> Outcome {
    match random.below(16) {
        0 => {
            let mut preface = random.pick(&seeds.prefaces).clone();
            damage(&mut preface, random);
            check_preface(&preface)
        }
        1 => check_header(random.pick(&seeds.records), random),
        2 => check_frame(random),
        _ => {
            let record = random.pick(&seeds.records);
            let mut payload = record.payload.clone();
            for _ in 0..=random.below(3) {
                damage_payload(&mut payload, &seeds.numbers, random);
            }
            check_payload(record.call, &payload, random)
        }
    }
}

/// Reads `payload` as what it is, of call `id`, and as what it is not.
fn check_payload(id: u16, payload: &[u8], random: &mut Random) -> Outcome {
    let all = CALLS.len() + OTHERS.len();
    let call = match CALLS.iter().chain(OTHERS).find(|call| call.id == id) {
        Some(call) if !random.once_in(3) => call,
        _ => CALLS.iter().chain(OTHERS).nth(random.below(all)).ok_or("a call")?,
    };
    let request = (call.request)(payload).map_err(|why| format!("request of call {}: {why}", call.id))?;
    let reply = (call.reply)(payload).map_err(|why| format!("reply to call {}: {why}", call.id))?;
    Ok(request.or(reply))
}

fn check_preface(bytes: &[u8]) -> Outcome {
    let Some(bytes) = bytes.first_chunk::<PREFACE_BYTES>() else { return Ok(None) };
    match Preface::decode(bytes) {
        Ok(preface) if preface.encode() == *bytes => Ok(Some(())),
        Ok(_) => Err("a preface is written otherwise than it was read".into()),
        Err(error) => check_sentence(&error),
    }
}

fn check_header(record: &Record, random: &mut Random) -> Outcome {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes.truncate(HEADER_BYTES);
    damage(&mut bytes, random);
    let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    match Header::decode(bytes) {
        Ok(header) => {
            let mut again = Vec::new();
            header.encode(&mut Writer::new(&mut again));
            if again == bytes { Ok(Some(())) } else { Err("a header is written otherwise than read".into()) }
        }
        Err(error) => check_sentence(&error),
    }
}

fn check_frame(random: &mut Random) -> Outcome {
    let mut bytes = Frame { sequence: random.edge(), length: random.edge() }.encode().to_vec();
    damage(&mut bytes, random);
    let Some(bytes) = bytes.first_chunk::<FRAME_BYTES>() else { return Ok(None) };
    match Frame::decode(bytes) {
        Ok(frame) if frame.encode() == *bytes => Ok(Some(())),
        Ok(_) => Err("a frame is written otherwise than it was read".into()),
        Err(error) => check_sentence(&error),
    }
}

/// A sentence is for a log: it must not grow with what was given.
fn check_sentence(error: &impl std::fmt::Display) -> Outcome {
    let length = error.to_string().len();
    if length > 1_000 { Err(format!("a sentence of {length} bytes")) } else { Ok(None) }
}
