//! The broker's answer: lines, of which those behind a `gpu` say more of that GPU.

use cuda_abi::pci::pci_numbers;
use nvml::{Ecc, Gpu, Machine, Process};

/// Highest CUDA version that our libcuda implements; a newer server's is answered as this.
const SHIM_CUDA_VERSION: i32 = 13000;

/// Why an answer tells nothing of GPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The broker says no.
    #[error("{sentence}")]
    Refused {
        /// Name of the `CUresult` that a program of CUDA's would get.
        result: String,
        /// The sentence for the user.
        sentence: String,
    },
    /// The answer is not one.
    #[error("answered `{line}`, expected {expected}")]
    Malformed {
        /// The line that is wrong.
        line: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl AnswerError {
    /// For people, with the place that was asked.
    pub fn sentence(&self, path: &str) -> String {
        match self {
            Self::Refused { sentence, .. } => sentence.clone(),
            Self::Malformed { .. } => format!("the session's broker at `{path}` {self}"),
        }
    }

    /// Whether asking again is of no use.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { result, .. } if result != "CUDA_ERROR_SYSTEM_NOT_READY")
    }
}

/// Reads an answer. Lines that it does not know it leaves alone: a newer broker may say more.
pub fn parse(text: &str) -> Result<Machine, AnswerError> {
    let mut lines = text.lines().take_while(|line| !line.is_empty());
    refuse(lines.next().unwrap_or(""))?;
    let mut machine = Machine { cuda_version: SHIM_CUDA_VERSION, ..Machine::default() };
    for line in lines {
        let malformed = |expected| AnswerError::Malformed { line: line.to_owned(), expected };
        let Some((word, rest)) = line.split_once(' ') else { continue };
        match word {
            "release" => machine.release = Some(rest.to_owned()),
            "cuda" => {
                let version = cuda_version(rest).ok_or_else(|| malformed("a version like 13.0"))?;
                machine.cuda_version = version.min(SHIM_CUDA_VERSION);
            }
            "gpu" => machine.gpus.push(Gpu { uuid: rest.to_owned(), ..Gpu::default() }),
            _ => {
                if let Some(gpu) = machine.gpus.last_mut() {
                    describe(gpu, word, rest).map_err(malformed)?;
                }
            }
        }
    }
    if machine.gpus.is_empty() {
        // A session always has one: this is a broker that does not know the question.
        return Err(AnswerError::Malformed { line: "ok".to_owned(), expected: "a GPU after it" });
    }
    match machine.gpus.iter().find(|gpu| gpu.name.is_empty() || gpu.memory_total == 0) {
        Some(gpu) => {
            Err(AnswerError::Malformed { line: gpu.uuid.clone(), expected: "a name and memory behind a GPU" })
        }
        None => Ok(machine),
    }
}

fn refuse(first: &str) -> Result<(), AnswerError> {
    let mut words = first.splitn(4, ' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("ok"), None, _, _) => Ok(()),
        (Some("error"), Some(_), Some(result), Some(sentence)) => {
            Err(AnswerError::Refused { result: result.to_owned(), sentence: sentence.to_owned() })
        }
        _ => Err(AnswerError::Malformed {
            line: first.to_owned(),
            expected: "`ok` or `error CODE NAME sentence`",
        }),
    }
}

fn describe(gpu: &mut Gpu, word: &str, rest: &str) -> Result<(), &'static str> {
    let number = "a whole number";
    match word {
        "name" => rest.clone_into(&mut gpu.name),
        "pci" => {
            let (domain, bus, device) = pci_numbers(rest).ok_or("an address like 0000:01:00.0")?;
            gpu.pci = (domain.cast_unsigned(), bus.cast_unsigned(), device.cast_unsigned());
        }
        "capability" => gpu.capability = pair(rest, '.').ok_or("a compute capability like 8.0")?,
        "multiprocessors" => gpu.multiprocessors = rest.parse().map_err(|_| number)?,
        "memory" => (gpu.memory_total, gpu.memory_used) = pair(rest, ' ').ok_or("bytes in all and in use")?,
        "busy" => gpu.busy = Some(rest.parse().map_err(|_| number)?),
        "temperature" => gpu.temperature = Some(rest.parse().map_err(|_| number)?),
        "ecc" => {
            let (corrected, uncorrected) = pair(rest, ' ').ok_or("corrected and uncorrected errors")?;
            gpu.ecc = Some(Ecc { corrected, uncorrected });
        }
        "throttling" => gpu.throttling = Some(rest.parse().map_err(|_| number)?),
        "mig" => gpu.mig = Some(rest == "enabled"),
        "process" => gpu.processes.push(process(rest).ok_or("a process's number, bytes, use and program")?),
        _ => {}
    }
    Ok(())
}

fn process(text: &str) -> Option<Process> {
    let mut words = text.splitn(4, ' ');
    let (pid, memory, busy, program) = (words.next()?, words.next()?, words.next()?, words.next()?);
    Some(Process {
        pid: pid.parse().ok()?,
        memory_used: memory.parse().ok()?,
        busy: if busy == "-" { None } else { Some(busy.parse().ok()?) },
        program: program.to_owned(),
    })
}

fn pair<T: std::str::FromStr>(text: &str, between: char) -> Option<(T, T)> {
    let (first, second) = text.split_once(between)?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

/// `13.0` → 13000
fn cuda_version(text: &str) -> Option<i32> {
    let (major, minor) = pair::<i32>(text, '.')?;
    major.checked_mul(1000)?.checked_add(minor.checked_mul(10)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "ok\nsession s-1\ncuda 12.4\nrelease 580.95.05\nfuture thing\n\
        gpu GPU-1\nname NVIDIA H200\npci 0000:c1:00.0\ncapability 9.0\nmultiprocessors 132\nmemory 1000 300\n\
        busy 61\ntemperature 43\necc 1 0\nthrottling 32\nmig disabled\nprocess 77 200 61 python3 -m train\n\
        process 78 100 - idle\nfuture thing\ngpu GPU-2\nname NVIDIA H200\nmemory 500 0\n\nrest";

    #[test]
    fn an_answer_is_read_and_unknown_lines_are_left_alone() {
        let machine = parse(WHOLE).expect("an answer");
        assert_eq!((machine.release.as_deref(), machine.cuda_version), (Some("580.95.05"), 12040));
        let expected = Gpu {
            uuid: "GPU-1".into(),
            name: "NVIDIA H200".into(),
            pci: (0, 0xc1, 0),
            capability: (9, 0),
            multiprocessors: 132,
            memory_total: 1000,
            memory_used: 300,
            busy: Some(61),
            temperature: Some(43),
            ecc: Some(Ecc { corrected: 1, uncorrected: 0 }),
            throttling: Some(32),
            mig: Some(false),
            processes: vec![
                Process { pid: 77, memory_used: 200, busy: Some(61), program: "python3 -m train".into() },
                Process { pid: 78, memory_used: 100, busy: None, program: "idle".into() },
            ],
        };
        assert_eq!(machine.gpus[0], expected);
        let second = &machine.gpus[1];
        assert_eq!((second.temperature, second.busy, second.memory_total), (None, None, 500));
    }

    #[test]
    fn a_newer_servers_cuda_is_answered_as_ours() {
        assert_eq!(
            parse("ok\ncuda 14.2\ngpu GPU-1\nname x\nmemory 1 0\n\n").map(|machine| machine.cuda_version),
            Ok(13000)
        );
    }

    #[test]
    fn a_refusal_keeps_its_sentence_and_says_whether_it_is_final() {
        let error = parse("error 69 CUDA_ERROR_DEVICE_UNAVAILABLE session s-1 has ended\n").expect_err("no");
        assert_eq!((error.sentence("/b"), error.is_final()), ("session s-1 has ended".into(), true));
        let error = parse("error 69 CUDA_ERROR_SYSTEM_NOT_READY the manager is away\n").expect_err("no");
        assert!(!error.is_final());
    }

    #[test]
    fn half_an_answer_is_malformed() {
        for text in [
            "",
            "maybe",
            "error 1",
            "ok\nsession s-1\nconnection 07\n\n",
            "ok\ngpu GPU-1\n\n",
            "ok\ngpu GPU-1\nname x\nmemory 1\n",
            "ok\ngpu g\npci what\n",
        ] {
            assert!(matches!(parse(text), Err(AnswerError::Malformed { .. })), "{text}");
        }
    }
}
