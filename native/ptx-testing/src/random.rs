//! Random numbers, and random changes of text.

/// A small generator with a fixed seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Less than `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound.max(1) as u64) as usize
    }

    /// One of them.
    pub fn of<'t, T: ?Sized>(&mut self, items: &[&'t T]) -> &'t T {
        items[self.below(items.len())]
    }
}

/// The text with some digits replaced: other registers, numbers, widths and lines.
fn digits_changed(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let places: Vec<usize> = (40..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
    for _ in 0..=random.below(3) {
        if let Some(&at) = places.get(random.below(places.len())) {
            bytes[at] = b'0' + random.below(10) as u8;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The text with some words replaced by others of it, deleted, doubled or damaged.
pub fn mutated(text: &str, random: &mut Random) -> String {
    if random.below(2) == 0 {
        return digits_changed(text, random);
    }
    let mut words: Vec<&str> = text.split_inclusive([' ', '\n', '\t', ',', ';', '.']).collect();
    for _ in 0..=random.below(2) {
        let (at, other) = (random.below(words.len()), random.below(words.len()));
        match random.below(6) {
            0 => drop(words.remove(at)),
            1 => words.insert(at, words[other]),
            2 => words.swap(at, other),
            3 => {
                words[at] = ["0", "-1", "0xffffffffffffffff", "%r1 ", "[%rd1]", "0f7f800000", "{", "}"]
                    [random.below(8)]
            }
            4 => {
                words[at] =
                    [".u8", ".s64", ".f16x2", ".v4", ".ftz", ".wide", ".sync", ".shared"][random.below(8)]
            }
            _ => words[at] = words[other],
        }
        if words.is_empty() {
            break;
        }
    }
    words.concat()
}
