//! Sentences for the person in front of the program.
//!
//! The shim is a guest: it never writes to the program's stdout, and to its stderr only when that is a
//! terminal or `FARPOOL_LOG` asks for it. Each sentence appears once per process.

use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

static SAID: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// Says `sentence` once per process: on stderr if that is a terminal, and in the file that `FARPOOL_LOG`
/// names if it is set (`FARPOOL_LOG=stderr` forces stderr).
pub fn once(sentence: &str) {
    {
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.get_or_insert_with(HashSet::new).insert(sentence.to_owned()) {
            return;
        }
    }
    let line = format!("farpool: {sentence}\n");
    // Lost messages must not harm the program: failing writes are left alone.
    match place::variable(c"FARPOOL_LOG") {
        Some(target) if target == "stderr" => {
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        Some(path) => {
            let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
            if let Ok(mut file) = file {
                let _ = file.write_all(line.as_bytes());
            }
        }
        None if std::io::stderr().is_terminal() => {
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        None => {}
    }
}
