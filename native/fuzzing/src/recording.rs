//! What a program has sent on one connection, taken apart.

use std::path::{Path, PathBuf};

/// Bytes of a preface, of a lane's frame head, and of a record's header.
const PREFACE: usize = 96;
const FRAME_HEAD: usize = 8;
const HEADER: usize = 24;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The call's id.
    pub call: u16,
    /// Its flags.
    pub flags: u16,
    /// Index of its context.
    pub context: u32,
    /// Its number.
    pub sequence: u64,
    /// What follows the header.
    pub payload: Vec<u8>,
}

/// All that a connection has sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// The file's name.
    pub name: String,
    /// The 96 bytes for the acceptor.
    pub preface: Vec<u8>,
    /// The frame with the first words for the worker.
    pub opening: Vec<u8>,
    /// The records; none on a bulk lane.
    pub records: Vec<Record>,
    /// What is behind them: the beginning of a record that was cut, or all of a bulk lane.
    pub rest: Vec<u8>,
}

impl Record {
    /// Appends it; the length is what the payload has.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&self.call.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.context.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.payload);
    }

    fn split(bytes: &[u8]) -> Option<(Record, &[u8])> {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let number = |at: usize, count: usize| {
            header[at..at + count].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let (payload, rest) = rest.split_at_checked(usize::try_from(number(0, 4)).ok()?)?;
        let record = Record {
            call: u16::try_from(number(4, 2)).ok()?,
            flags: u16::try_from(number(6, 2)).ok()?,
            context: u32::try_from(number(8, 4)).ok()?,
            sequence: number(16, 8),
            payload: payload.to_vec(),
        };
        Some((record, rest))
    }
}

impl Recording {
    /// Takes apart what was recorded from a Unix socket.
    pub fn take_apart(name: String, bytes: &[u8]) -> Option<Recording> {
        let (preface, rest) = bytes.split_at_checked(PREFACE)?;
        let length = rest.get(4..FRAME_HEAD)?.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let (opening, mut rest) = rest.split_at_checked(FRAME_HEAD + length)?;
        let mut records = Vec::new();
        let is_bulk_lane = preface[12] & 1 != 0;
        while let Some((record, behind)) = Record::split(rest).filter(|_| !is_bulk_lane) {
            records.push(record);
            rest = behind;
        }
        let (preface, opening, rest) = (preface.to_vec(), opening.to_vec(), rest.to_vec());
        Some(Recording { name, preface, opening, records, rest })
    }

    /// Whether it is a bulk lane's.
    pub fn is_bulk_lane(&self) -> bool {
        self.preface.get(12).is_some_and(|flags| flags & 1 != 0)
    }
}

/// All recordings in `folder`, by name.
///
/// Errors: it cannot be read, is empty, or holds what is no recording.
pub fn corpus(folder: &Path) -> Result<Vec<Recording>, String> {
    let unreadable = |error| format!("the corpus {} cannot be read: {error}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.retain(|path: &PathBuf| path.extension().is_some_and(|extension| extension == "bin"));
    paths.sort();
    let mut recordings = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).map_err(unreadable)?;
        let recording = Recording::take_apart(name, &bytes);
        recordings.push(recording.ok_or_else(|| format!("{} is no recording", path.display()))?);
    }
    if recordings.is_empty() {
        return Err(format!("the corpus {} has no *.bin", folder.display()));
    }
    Ok(recordings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_whole_up_to_where_it_was_cut() {
        let all = corpus(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).expect("the corpus");
        assert!(all.iter().any(Recording::is_bulk_lane) && all.iter().any(|one| !one.is_bulk_lane()));
        for recording in all {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(&recording.name);
            let mut bytes = [recording.preface.clone(), recording.opening.clone()].concat();
            recording.records.iter().for_each(|record| record.encode(&mut bytes));
            bytes.extend_from_slice(&recording.rest);
            assert_eq!(bytes, std::fs::read(path).expect("the seed"), "{}", recording.name);
            let numbers: Vec<u64> = recording.records.iter().map(|record| record.sequence).collect();
            let expected: Vec<u64> = (1..).take(numbers.len()).collect();
            assert_eq!(numbers, expected, "{}", recording.name);
        }
    }
}
