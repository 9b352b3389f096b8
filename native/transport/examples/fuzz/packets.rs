//! Packets, first words, what is kept to be sent again, and TLS records.

use fuzzing::{Random, Recording, damage};
use rustls::ConnectionTrafficSecrets;
use rustls::crypto::cipher::{AeadKey, Iv};

use crate::bytes_of;
use crate::opening::{Opening, Refusal};
use crate::packet::{Found, HEAD_BYTES, Head, Kind, MOST_DATA, MOST_WORDS, PacketError, Parser, put_words};
use crate::record::{MOST_PLAINTEXT, Opened, Opener, RECORD_EXTRA_BYTES, Sealer};
use crate::replay::Replay;

/// Bytes of the largest TLS record.
const MOST_RECORD: usize = MOST_PLAINTEXT + 256 + 5;

/// One case of one kind.
pub fn one(recordings: &[Recording], random: &mut Random) -> Result<(), String> {
    match random.below(8) {
        0 => words(recordings, random),
        1 | 2 => sealed(recordings, random),
        3 | 4 => replay(random),
        5 => heads(random),
        _ => packets(recordings, random),
    }
}

/// Damaged packets come out the same in whatever pieces they arrive, and no packet is longer than one may be.
fn packets(recordings: &[Recording], random: &mut Random) -> Result<(), String> {
    let mut bytes = Vec::new();
    for _ in 0..=random.below(6) {
        let kinds =
            [Kind::Data, Kind::Acknowledge, Kind::Ping, Kind::Pong, Kind::Close, Kind::Open, Kind::Opened];
        let all = bytes_of(random.pick(recordings));
        let from = random.below(all.len());
        let piece = &all[from..(from + random.below(300)).min(all.len())];
        match *random.pick(&kinds) {
            kind @ (Kind::Data | Kind::Open) => put_words(&mut bytes, kind, piece),
            kind @ (Kind::Acknowledge | Kind::Opened) => {
                put_words(&mut bytes, kind, &random.edge().to_le_bytes());
            }
            kind => put_words(&mut bytes, kind, &[]),
        }
    }
    for _ in 0..random.below(4) {
        damage(&mut bytes, random);
    }
    let whole = parse(&bytes, |_| bytes.len())?;
    let pieces = parse(&bytes, |random| 1 + random.below(20))?;
    if whole != pieces {
        return Err(format!("in pieces it is {pieces:?}, expected {whole:?} for {bytes:02x?}"));
    }
    return Ok(());

    fn parse(bytes: &[u8], piece: impl Fn(&mut Random) -> usize) -> Result<Parsed, String> {
        let mut random = Random::new(bytes.len() as u64);
        let (mut parser, mut parsed, mut rest) = (Parser::default(), Parsed::default(), bytes);
        while !rest.is_empty() && parsed.error.is_none() {
            let (now, later) = rest.split_at(piece(&mut random).clamp(1, rest.len()));
            rest = later;
            let taken = parser.push::<PacketError>(now, |found| {
                match found {
                    Found::Data(bytes) => parsed.data.extend_from_slice(bytes),
                    Found::Words(kind, words) => parsed.words.push((kind, words.to_vec())),
                }
                Ok(())
            });
            parsed.error = taken.err();
            if parser.data_left() > MOST_DATA {
                return Err(format!("a packet has {} bytes left", parser.data_left()));
            }
        }
        if parsed.words.iter().any(|(_, words)| words.len() > MOST_WORDS) {
            return Err("words are longer than words may be".into());
        }
        Ok(parsed)
    }
}

#[derive(Debug, Default, PartialEq)]
struct Parsed {
    data: Vec<u8>,
    words: Vec<(Kind, Vec<u8>)>,
    error: Option<PacketError>,
}

fn heads(random: &mut Random) -> Result<(), String> {
    let mut bytes = Vec::new();
    put_words(&mut bytes, Kind::Data, &[]);
    bytes[0] = random.byte() % 10;
    let length = random.edge().to_le_bytes();
    bytes[4..8].copy_from_slice(&length[..4]);
    damage(&mut bytes, random);
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else { return Ok(()) };
    match Head::decode(*head) {
        Ok(read) if read.encode() == *head => Ok(()),
        Ok(read) => Err(format!("{head:02x?} is read as {read:?}, which is written otherwise")),
        Err(error) if error.to_string().len() < 1_000 => Ok(()),
        Err(_) => Err("a sentence is too long".into()),
    }
}

fn words(recordings: &[Recording], random: &mut Random) -> Result<(), String> {
    let mut words = random.pick(recordings).opening.get(HEAD_BYTES..).unwrap_or_default().to_vec();
    for _ in 0..=random.below(3) {
        damage(&mut words, random);
    }
    if let Ok(opening) = Opening::decode(&words)
        && opening.encode() != words
    {
        return Err(format!("{words:02x?} is read as {opening:?}, which is written otherwise"));
    }
    if let Ok(refusal) = Refusal::decode(&words) {
        let again = Refusal::decode(&refusal.encode());
        if again.as_ref() != Ok(&refusal) && words.len() < MOST_WORDS {
            return Err(format!("{refusal:?} is read back as {again:?}"));
        }
    }
    Ok(())
}

/// Bytes of which [`Replay`] gives at most so many at once.
const CHUNK: usize = 256 << 10;

/// What is kept is, after anything that the other end may say, still what was sent, from where it says it stands.
fn replay(random: &mut Random) -> Result<(), String> {
    let byte_at = |place: u64| (place % 251).to_le_bytes()[0];
    let (mut replay, mut end, mut start, mut written) = (Replay::default(), 0_u64, 0_u64, 0_u64);
    for _ in 0..random.below(40) {
        match random.below(8) {
            6 => {
                let count = 1 + random.below(400);
                if count <= replay.room() && replay.borrows(count) {
                    let skip = random.below(5);
                    let loan = (0..skip as u64).chain(end..end + count as u64).map(byte_at);
                    replay.push_loan(Box::new(loan.collect::<Vec<u8>>()), skip);
                    end += count as u64;
                }
            }
            7 => drop(replay.repay()),
            0 | 1 => {
                // Some lie in several pieces of memory.
                let most = if random.once_in(20) { 3 * CHUNK } else { 400 };
                let count = random.below(most).min(replay.room());
                let bytes: Vec<u8> = (end..end + count as u64).map(byte_at).collect();
                replay.push(&bytes);
                end += count as u64;
            }
            2 => {
                let most = if random.once_in(8) { 2 * CHUNK } else { 300 };
                let (first, second) = replay.unwritten(1 + random.below(most));
                let count = first.len() + second.len();
                replay.advance(count);
                written += count as u64;
            }
            3 | 4 => {
                let offset = if random.once_in(4) { random.edge() } else { start + random.below(500) as u64 };
                let is_taken = replay.acknowledge(offset).is_ok();
                if is_taken != (offset <= written) {
                    return Err(format!("acknowledged {offset} of {start} to {written}: taken {is_taken}"));
                }
                if is_taken {
                    start = start.max(offset);
                }
            }
            _ => {
                let offset = if random.once_in(4) { random.edge() } else { start + random.below(500) as u64 };
                let is_taken = replay.rewind(offset).is_ok();
                if is_taken != (start..=end).contains(&offset) {
                    return Err(format!("resumed at {offset} of {start} to {end}: taken {is_taken}"));
                }
                if is_taken {
                    (start, written) = (offset, offset);
                }
            }
        }
        let (first, second) = replay.unwritten(usize::MAX);
        let kept: Vec<u8> = [first, second].concat();
        // Some of what is to be sent, all of it where it lies in two pieces.
        let expected: Vec<u8> = (written..end).take(kept.len()).map(byte_at).collect();
        let places = (replay.start(), replay.backlog());
        if kept != expected || (kept.is_empty() && written < end) || places != (start, end - written) {
            return Err(format!("kept is {places:?}, expected {start} to {end}, {written} of it written"));
        }
    }
    Ok(())
}

/// What is opened are exactly the sealed bytes up to where the first one was damaged.
fn sealed(recordings: &[Recording], random: &mut Random) -> Result<(), String> {
    let is_aes = random.once_in(2);
    let secrets = || {
        let (key, iv) = (AeadKey::from([7; 32]), Iv::from([9; 12]));
        let secrets = if is_aes {
            ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        } else {
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }
        };
        (0, secrets)
    };
    let unusable = |error| format!("no keys: {error}");
    let mut sealer = Sealer::new(secrets()).map_err(unusable)?;
    let mut opener = Opener::new(secrets()).map_err(unusable)?;
    let (mut wire, mut sent) = (Vec::new(), Vec::new());
    for _ in 0..random.below(5) {
        let all = bytes_of(random.pick(recordings));
        let piece = &all[..random.below(all.len().min(MOST_PLAINTEXT) + 1)];
        let at = random.below(piece.len() + 1);
        let start = wire.len();
        wire.resize(start + piece.len() + RECORD_EXTRA_BYTES, 0);
        let parts = [&piece[..at], &piece[at..]];
        let parts: &[&[u8]] = if random.once_in(2) { &[piece] } else { &parts };
        sealer.seal(parts, &mut wire[start..]).map_err(|error| error.to_string())?;
        sent.extend_from_slice(piece);
    }
    let honest = wire.clone();
    for _ in 0..random.below(3) {
        damage(&mut wire, random);
    }
    if random.once_in(8) {
        let changes = [20, 3, 3, 0, 1, 1];
        wire.splice(0..0, changes.iter().copied().cycle().take(6 * (1 + random.below(20))));
    }
    let same = honest.iter().zip(&wire).take_while(|(one, other)| one == other).count();
    let (mut opened, mut at, whole) = (Vec::new(), 0, wire.len());
    loop {
        let mut place = vec![0; random.below(MOST_RECORD)];
        match opener.open(&mut wire[at..], &mut place) {
            Ok(Opened::Placed(count, length)) => {
                let bytes = place.get(..count).filter(|_| count < length && length <= MOST_RECORD);
                let bytes =
                    bytes.ok_or_else(|| format!("{count} bytes are said to be placed of {length}"))?;
                opened.extend_from_slice(bytes);
                at += length;
            }
            Ok(Opened::Data(bytes, length)) => {
                if length > MOST_RECORD || bytes.len() > length || length == 0 {
                    return Err(format!("a record of {length} bytes has {}", bytes.len()));
                }
                opened.extend_from_slice(bytes);
                at += length;
            }
            Ok(Opened::Partial) if whole - at > MOST_RECORD => {
                return Err(format!("{} bytes are not a whole record", whole - at));
            }
            Ok(Opened::Partial | Opened::End) | Err(_) => break,
        }
    }
    if !sent.starts_with(&opened) {
        return Err(format!("{} bytes were opened that nobody sealed", opened.len()));
    }
    if same == honest.len() && wire.len() == honest.len() && opened != sent {
        return Err(format!("{} of {} bytes were opened of what nobody damaged", opened.len(), sent.len()));
    }
    Ok(())
}
