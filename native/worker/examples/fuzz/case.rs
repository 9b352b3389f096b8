//! What one worker is sent: a program's records, damaged.

use std::fmt;

use fuzzing::{Random, Record, Recording, damage, damage_payload};

/// Bytes of one case: workers are to be many rather than long-lived.
const MOST_BYTES: usize = 6 << 20;

/// Flags of a record: wants a reply; the data come on the bulk lane.
const WANTS_REPLY: u16 = 1;
const BULK: u16 = 32;

/// Recordings, and the numbers in their payloads.
pub struct Seeds {
    recordings: Vec<(Recording, Vec<u64>)>,
    calls: Vec<u16>,
}

/// What is sent, and how.
pub struct Case {
    /// The seed's name, and what was done to it.
    name: String,
    done: Vec<String>,
    /// The first frame of a lane.
    pub opening: Vec<u8>,
    /// What is sent on the control lane behind it.
    pub control: Vec<u8>,
    /// What is sent on the bulk lane, if there is one.
    pub bulk: Option<Vec<u8>>,
    /// How many records are among `control`.
    pub records: u64,
    /// Whether the answers are read.
    pub reads: bool,
    /// Whether kernels are executed.
    pub executes: bool,
    /// Milliseconds between the last byte and the end of the client.
    pub lingers_ms: u64,
    /// Bytes of memory that the worker may use.
    pub most_memory: u64,
}

impl Seeds {
    /// Those whose records are known.
    pub fn of(recordings: Vec<Recording>) -> Seeds {
        let mut calls = Vec::new();
        let mut all = Vec::new();
        for recording in recordings.into_iter().filter(|recording| !recording.is_bulk_lane()) {
            let mut numbers = Vec::new();
            for record in &recording.records {
                calls.push(record.call);
                for from in [0, 4] {
                    let fields = record.payload.get(from..).unwrap_or_default().chunks_exact(8).take(12);
                    numbers.extend(fields.filter_map(|it| it.try_into().ok().map(u64::from_le_bytes)));
                }
            }
            numbers.sort_unstable();
            numbers.dedup();
            all.push((recording, numbers));
        }
        calls.sort_unstable();
        calls.dedup();
        Seeds { recordings: all, calls }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { name, done, control, records, reads, executes, lingers_ms, bulk, .. } = self;
        writeln!(formatter, "{name}: {}", done.join(", "))?;
        let (sent, bulk) = (control.len(), bulk.as_ref().map(Vec::len));
        write!(
            formatter,
            "{records} records in {sent} bytes, bulk lane {bulk:?}, reads {reads}, executes {executes}, lingers {lingers_ms} ms"
        )
    }
}

impl Case {
    /// Records that were written by hand.
    pub fn of_attack(name: &str, control: Vec<u8>, records: u64) -> Case {
        // An opening: its head, its format, and neither flags, nor an offset, a round trip or a grant.
        let mut opening = vec![0; 28];
        (opening[0], opening[4], opening[8]) = (6, 20, 1);
        Case {
            name: name.to_owned(),
            done: Vec::new(),
            opening,
            control,
            bulk: None,
            records,
            reads: true,
            executes: true,
            lingers_ms: 300,
            most_memory: 256 << 20,
        }
    }

    /// Another one.
    pub fn new(seeds: &Seeds, random: &mut Random) -> Case {
        let (recording, numbers) = random.pick(&seeds.recordings);
        let mut records = recording.records.clone();
        let mut done = Vec::new();
        for _ in 0..=random.below(6) {
            done.push(change(&mut records, numbers, seeds, random));
        }
        cut(&mut records);
        if !random.once_in(40) {
            (1..).zip(&mut records).for_each(|(number, record)| record.sequence = number);
        }
        let bulk = random.once_in(3).then(|| bulk_lane(&mut records, random));
        let mut control = Vec::new();
        records.iter().for_each(|record| record.encode(&mut control));
        if random.once_in(12) {
            done.push("bytes".into());
            damage(&mut control, random);
        }
        let mut opening = recording.opening.clone();
        if random.once_in(60) {
            done.push("opening".into());
            damage(&mut opening, random);
        }
        Case {
            name: recording.name.clone(),
            done,
            opening,
            control,
            bulk,
            records: records.len() as u64,
            reads: !random.once_in(10),
            executes: random.once_in(6),
            lingers_ms: [0, 10, 30, 100, 300][random.below(5)],
            // What it may lend to a client's data, and as much again.
            most_memory: 1 << 30,
        }
    }
}

/// Leaves out what is beyond the bytes of a case.
fn cut(records: &mut Vec<Record>) {
    let mut bytes = 0;
    let fits = |record: &Record| {
        bytes += 24 + record.payload.len();
        bytes <= MOST_BYTES
    };
    let count = records.iter().map(fits).take_while(|fits| *fits).count();
    records.truncate(count);
}

/// One change; says which.
fn change(records: &mut Vec<Record>, numbers: &[u64], seeds: &Seeds, random: &mut Random) -> String {
    if records.is_empty() {
        return "nothing".into();
    }
    // The first is the hello, without which there is nothing more.
    let at = if random.once_in(50) { 0 } else { 1 + random.below(records.len() - 1) };
    let at = at.min(records.len() - 1);
    let to = 1 + random.below(records.len());
    let to = to.min(records.len());
    let call = records[at].call;
    match random.below(20) {
        14.. => {
            let times = 1 + random.below(3);
            (0..times).for_each(|_| exchange(&mut records[at].payload, numbers, random));
            format!("fields of {call} at {at}")
        }
        0 => {
            let times = 1 + random.below(3);
            (0..times).for_each(|_| damage_payload(&mut records[at].payload, numbers, random));
            format!("payload of {call} at {at}")
        }
        1..=5 => {
            records.remove(at);
            format!("without {call} at {at}")
        }
        6 => {
            let record = records[at].clone();
            records.insert(to, record);
            format!("{call} of {at} again at {to}")
        }
        7 => {
            let to = to.min(records.len() - 1);
            records.swap(at, to);
            format!("{at} and {to} exchanged")
        }
        8 => {
            let (other, _) = random.pick(&seeds.recordings);
            let from = random.below(other.records.len());
            let count = (1 + random.below(20)).min(other.records.len() - from);
            let context = records[at].context;
            let mut piece = other.records[from..from + count].to_vec();
            if random.once_in(2) {
                piece.iter_mut().for_each(|record| record.context = context);
            }
            records.splice(to..to, piece);
            format!("{count} of {} at {to}", other.name)
        }
        9 => {
            let flags = if random.once_in(5) { 1 << random.below(6) } else { *random.pick(&[1, 16, 17]) };
            records[at].flags ^= flags;
            format!("flags {:#x} of {call} at {at}", records[at].flags)
        }
        10 => {
            let context = if random.once_in(2) { random.edge() } else { random.bits() % 4 };
            records[at].context = u32::try_from(context & u64::from(u32::MAX)).unwrap_or(0);
            format!("context {} of {call} at {at}", records[at].context)
        }
        11 => {
            let record = records[at].clone();
            let times = (1 << random.below(12)).min(MOST_BYTES / (24 + record.payload.len()));
            records.splice(to..to, std::iter::repeat_n(record, times));
            format!("{call} of {at} {times} times at {to}")
        }
        12 => {
            records[at].call = if random.once_in(8) {
                random.bits().to_le_bytes()[0].into()
            } else {
                *random.pick(&seeds.calls)
            };
            format!("{call} at {at} as {}", records[at].call)
        }
        _ => {
            let fields = 1 + random.below(14);
            let number = |random: &mut Random| match numbers {
                [] => random.edge(),
                _ if random.once_in(3) => random.edge(),
                _ => *random.pick(numbers),
            };
            let payload = (0..fields).flat_map(|_| number(random).to_le_bytes()).collect();
            let made = *random.pick(&seeds.calls);
            let (flags, context) = (random.bits().to_le_bytes()[0] & 17, records[at].context);
            let flags = u16::from(flags) | if random.once_in(2) { WANTS_REPLY } else { 0 };
            records.insert(to, Record { call: made, flags, context, sequence: 0, payload });
            format!("{made} made up at {to}")
        }
    }
}

/// Another number of the same kind in one field: another handle of the kind, or a number like those that stand in fields.
/// Numbers of another kind end a connection, so that nothing behind them is tried.
fn exchange(payload: &mut [u8], numbers: &[u64], random: &mut Random) {
    let fields = payload.len().min(192) / 4;
    if fields == 0 {
        return;
    }
    let at = random.below(fields) * 4;
    let Some(field) = payload.get(at..at + 8).and_then(|field| field.try_into().ok()).map(u64::from_le_bytes)
    else {
        let number = random.edge().to_le_bytes();
        payload[at..at + 4].copy_from_slice(&number[..4]);
        return;
    };
    let kind = field >> 40;
    let alike: Vec<u64> = numbers.iter().copied().filter(|number| number >> 40 == kind).collect();
    let number = match random.below(6) {
        0 if (1..=12).contains(&kind) => field.wrapping_add(16),
        0 => field.wrapping_add(1),
        1 => field.wrapping_sub(1),
        2 if !(1..=12).contains(&kind) => random.edge(),
        _ if alike.is_empty() => random.edge(),
        _ => *random.pick(&alike),
    };
    // Numbers of four bytes stand beside each other.
    let width = if random.once_in(3) { 4 } else { 8 };
    payload[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
}

/// Has some copies' data travel on the bulk lane; answers what is sent there.
fn bulk_lane(records: &mut [Record], random: &mut Random) -> Vec<u8> {
    /// The calls whose data may: copies to the device, and what host functions are answered with.
    const TAKES_LANE: [u16; 4] = [19, 2314, 2331, 2333];
    let mut lane = Vec::new();
    for record in records {
        let takes = TAKES_LANE.contains(&record.call) || random.once_in(200);
        if record.flags & BULK == 0 && (!takes || random.once_in(3)) {
            continue;
        }
        record.flags |= BULK;
        let data = record.payload.split_off(front_of(&record.payload));
        if random.once_in(20) {
            record.payload.extend_from_slice(&random.edge().to_le_bytes());
        }
        if random.once_in(20) {
            continue;
        }
        let sequence = if random.once_in(20) { random.edge() } else { record.sequence };
        let length = if random.once_in(30) { random.edge() } else { data.len() as u64 };
        lane.extend_from_slice(&sequence.to_le_bytes());
        lane.extend_from_slice(&length.to_le_bytes());
        lane.extend_from_slice(&data);
    }
    if random.once_in(4) {
        damage(&mut lane, random);
    }
    lane
}

/// Bytes up to where a payload's data begin: behind the number that says how many follow to the end.
fn front_of(payload: &[u8]) -> usize {
    let is_length = |at: &usize| {
        let field = payload.get(at - 8..*at).and_then(|field| field.try_into().ok()).map(u64::from_le_bytes);
        field == Some((payload.len() - at) as u64)
    };
    (8..=payload.len().min(256)).find(is_length).unwrap_or(payload.len())
}
