//! Sentences for the person in front of the program: each once per process, never on stdout, and on stderr only when
//! that is a terminal or `FARPOOL_LOG` asks for it.

use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

static SAID: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// Says `sentence` once per process.
pub fn once(sentence: &str) {
    {
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.get_or_insert_with(HashSet::new).insert(sentence.to_owned()) {
            return;
        }
    }
    if !written(sentence) && std::io::stderr().is_terminal() {
        to_stderr(sentence);
    }
}

/// Writes `sentence` where `FARPOOL_LOG` says, and nowhere else.
pub fn log(sentence: &str) {
    written(sentence);
}

/// Whether `FARPOOL_LOG` named a place. Lost messages must not harm the program: failing writes are left alone.
fn written(sentence: &str) -> bool {
    match place::variable(c"FARPOOL_LOG") {
        Some(target) if target == "stderr" => to_stderr(sentence),
        Some(path) => {
            let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
            if let Ok(mut file) = file {
                let _ = file.write_all(line(sentence).as_bytes());
            }
        }
        None => return false,
    }
    true
}

fn to_stderr(sentence: &str) {
    let _ = std::io::stderr().write_all(line(sentence).as_bytes());
}

fn line(sentence: &str) -> String {
    format!("farpool: {sentence}\n")
}
