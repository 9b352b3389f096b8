//! Damages good grants and looks whether one is taken that nobody signed:
//! `cargo run --release -p grant --example fuzz -- --minutes N [--corpus DIR] [--seed N]`.
//!
//! Half of the cases are damaged texts: taken may be only what is, byte for byte, in the corpus. The other half are
//! damaged claims under good signatures, which reach what lies behind the signatures: what is taken must say what was
//! expected, whatever else it says. A panic ends the run.

#[path = "../tests/grants/support.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod support;

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grant::Verified;
use serde_json::Value;
use support::{Vectors, encode, sign, sign_bytes, text};

struct Options {
    minutes: f64,
    corpus: PathBuf,
    seed: u64,
}

fn options() -> Result<Options, String> {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut options = Options { minutes: 1.0, corpus, seed: 1 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{word} takes a number, not {value:?}"));
        match word.as_str() {
            "--minutes" => options.minutes = number()?,
            "--seed" => {
                options.seed = value.parse().map_err(|_| format!("--seed takes a number, not {value:?}"))?
            }
            "--corpus" => options.corpus = value.into(),
            _ => return Err(format!("{word} is not an option: --minutes N, --corpus DIR, --seed N")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match run() {
        Ok(sentence) => {
            println!("{sentence}");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("fuzz: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, String> {
    let options = options()?;
    let seeds = read_corpus(&options.corpus)?;
    let vectors = Vectors::read();
    let signed: HashSet<&str> = seeds.iter().map(String::as_str).collect();
    for seed in &seeds {
        vectors.verify(seed).map_err(|error| format!("a grant of the corpus is refused: {error}\n{seed}"))?;
    }
    let mut random = Random(options.seed);
    let until = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let (mut cases, mut taken, mut refusals) = (0_u64, 0_u64, HashSet::new());
    while Instant::now() < until {
        for _ in 0..256 {
            let seed = &seeds[random.below(seeds.len())];
            let is_text = random.below(2) == 0;
            let grant =
                if is_text { damaged_text(seed, &mut random) } else { damaged_claims(&vectors, &mut random) };
            match vectors.verify(&grant) {
                Ok(_) if is_text && !signed.contains(grant.as_str()) => {
                    return Err(format!("case {cases}: taken, and nobody signed it:\n{grant}"));
                }
                Ok(verified) => {
                    taken += 1;
                    check(&vectors, &grant, &verified)
                        .map_err(|why| format!("case {cases}: {why}:\n{grant}"))?;
                }
                Err(error) => {
                    // The sentence is for a log: it must not grow with what was given.
                    if error.to_string().len() > 1_000 {
                        return Err(format!("case {cases}: a sentence of {} bytes", error.to_string().len()));
                    }
                    refusals.insert(error.code());
                }
            }
            cases += 1;
        }
    }
    let mut refusals: Vec<_> = refusals.into_iter().collect();
    refusals.sort_unstable();
    Ok(format!("{cases} grants, {taken} taken, each of them signed; refusals seen: {}", refusals.join(", ")))
}

fn read_corpus(folder: &PathBuf) -> Result<Vec<String>, String> {
    let unreadable = |error| format!("the corpus {} cannot be read: {error}", folder.display());
    let mut seeds = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        seeds.push(std::fs::read_to_string(entry.map_err(unreadable)?.path()).map_err(unreadable)?);
    }
    if seeds.is_empty() { Err(format!("the corpus {} is empty", folder.display())) } else { Ok(seeds) }
}

/// Whether what was taken says what was expected.
fn check(vectors: &Vectors, grant: &str, verified: &Verified) -> Result<(), &'static str> {
    let claims = claims_of(grant).ok_or("taken, but its claims cannot be read")?;
    let session = claims["session"].as_str().and_then(claims_of).ok_or("taken without a session grant")?;
    let now = vectors.all["now"].as_u64().ok_or("no time")?;
    let holds = [
        session["sub"] == vectors.all["sessionId"],
        session["aud"] == vectors.all["serverId"],
        session["cnf"]["jkt"] == vectors.all["clientKey"],
        session["nbf"].as_u64().is_some_and(|from| from <= now),
        session["exp"].as_u64().is_some_and(|until| now < until),
        claims["exp"].as_u64().is_some_and(|until| now < until && until <= now + 660),
        claims["cid"] == vectors.all["connectionId"],
        claims["uid"].as_u64() == Some(u64::from(verified.uid)),
        claims["pid"].as_u64() == Some(u64::from(verified.pid)),
        verified.client_key_thumbprint == text(&vectors.all["clientKey"]),
    ];
    if holds.iter().all(|holds| *holds) { Ok(()) } else { Err("taken, but it is for something else") }
}

fn claims_of(grant: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(grant.split('.').nth(1)?).ok()?).ok()
}

/// Bytes, parts, or bytes of a part changed.
fn damaged_text(seed: &str, random: &mut Random) -> String {
    let mut parts: Vec<Vec<u8>> = seed.split('.').map(|part| part.as_bytes().to_vec()).collect();
    for _ in 0..=random.below(2) {
        let at = random.below(parts.len());
        match random.below(4) {
            0 => damage(&mut parts[at], random),
            1 => {
                let mut bytes = URL_SAFE_NO_PAD.decode(&parts[at]).unwrap_or_default();
                damage(&mut bytes, random);
                parts[at] = encode(&bytes).into_bytes();
            }
            2 => {
                let other = random.below(parts.len());
                parts[at] = parts[other].clone();
            }
            _ if random.below(2) == 0 => parts.insert(at, Vec::new()),
            _ => parts[at].clear(),
        }
    }
    String::from_utf8_lossy(&parts.join(&b'.')).into_owned()
}

/// A good signature, or two, over damaged claims.
fn damaged_claims(vectors: &Vectors, random: &mut Random) -> String {
    if random.below(2) == 0 {
        let (mut header, mut payload) = vectors.session();
        change(if random.below(4) == 0 { &mut header } else { &mut payload }, random);
        let session = sign(&vectors.manager, &header, &payload);
        return vectors.with_process(|_, process| process["session"] = Value::String(session));
    }
    let (mut header, mut payload) = vectors.process();
    if random.below(2) == 0 {
        change(if random.below(4) == 0 { &mut header } else { &mut payload }, random);
        return sign(&vectors.client, &header, &payload);
    }
    let mut bytes = payload.to_string().into_bytes();
    damage(&mut bytes, random);
    sign_bytes(&vectors.client, header.to_string().as_bytes(), &bytes)
}

/// Another value in one field.
fn change(document: &mut Value, random: &mut Random) {
    let Some(fields) = document.as_object_mut() else { return };
    let at = random.below(fields.len());
    let Some((_, value)) = fields.iter_mut().nth(at) else { return };
    *value = match (random.below(8), &*value) {
        (0, _) => Value::Null,
        (1, _) => Value::from(random.bits()),
        (2, _) => Value::Array(vec![value.clone()]),
        (3, Value::Number(number)) => {
            Value::from(number.as_u64().unwrap_or(0).wrapping_add(random.bits() % 2_000).wrapping_sub(1_000))
        }
        (_, Value::String(text)) => {
            let mut bytes = text.clone().into_bytes();
            damage(&mut bytes, random);
            Value::String(String::from_utf8_lossy(&bytes).into_owned())
        }
        (_, Value::Object(_)) => {
            change(value, random);
            value.clone()
        }
        _ => Value::from(-1),
    };
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        bytes.push(random.byte());
    }
    let at = random.below(bytes.len());
    match random.below(6) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.byte(),
        2 => bytes.insert(at, random.byte()),
        3 => drop(bytes.remove(at)),
        4 => bytes.truncate(at),
        _ => {
            let end = at + random.below(bytes.len() - at + 1).min(64);
            bytes.extend_from_within(at..end);
        }
    }
}

/// SplitMix64: the same seed, the same cases.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(1);
        usize::try_from(self.bits() % bound).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.bits().to_le_bytes()[0]
    }
}
