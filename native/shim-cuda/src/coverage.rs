//! Which calls a program made, for the coverage page: with `FARPOOL_COVERAGE=FOLDER` their names are written to
//! `FOLDER/<pid>.txt` when the process exits.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

static ENABLED: AtomicBool = AtomicBool::new(false);
static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Starts recording if the environment asks for it.
pub fn start() {
    if place::variable(c"FARPOOL_COVERAGE").is_some() {
        ENABLED.store(true, Ordering::Relaxed);
    }
}

/// Stops recording: in a child, whose copy of the names may be locked for ever. Async-signal-safe.
pub fn stop() {
    ENABLED.store(false, Ordering::Relaxed);
}

/// Notes a call.
pub fn note(name: &'static str) {
    if ENABLED.load(Ordering::Relaxed) {
        NAMES.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
    }
}

/// Writes the names.
pub fn finish() {
    if !ENABLED.load(Ordering::Relaxed) {
        return;
    }
    let Some(folder) = place::variable(c"FARPOOL_COVERAGE") else { return };
    let mut text = String::new();
    for name in NAMES.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}");
    }
    let file = std::path::Path::new(&folder).join(format!("{}.txt", std::process::id()));
    if let Err(error) = std::fs::write(&file, text) {
        crate::report::once(&format!("{} cannot be written: {error}", file.display()));
    }
}
