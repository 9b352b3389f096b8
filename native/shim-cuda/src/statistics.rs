//! What this process has called and what it has waited for, for tests and benches: with `FARPOOL_STATISTICS=FOLDER`
//! it is written to `FOLDER/<pid>.json` when the process exits.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use wire::CallId;

use crate::client::Client;

static ENABLED: AtomicBool = AtomicBool::new(false);
static CALLS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Starts counting if the environment asks for it.
pub fn start() {
    if place::variable(c"FARPOOL_STATISTICS").is_some() {
        ENABLED.store(true, Ordering::Relaxed);
    }
}

/// Counts a call.
pub fn note(name: &'static str) {
    if ENABLED.load(Ordering::Relaxed) {
        *CALLS.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
    }
}

/// Writes the counts: `{"calls": {NAME: COUNT}, "waits": {NAME: COUNT}}`.
pub fn finish(clients: &[Client]) {
    if !ENABLED.load(Ordering::Relaxed) {
        return;
    }
    let Some(folder) = place::variable(c"FARPOOL_STATISTICS") else { return };
    let calls = CALLS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut waits = BTreeMap::<CallId, u64>::new();
    for client in clients {
        let counted = client.connection().counters.waits.lock().unwrap_or_else(PoisonError::into_inner);
        counted.iter().for_each(|(call, count)| *waits.entry(*call).or_default() += count);
    }
    let text = format!(
        "{{\"calls\": {}, \"waits\": {}}}\n",
        object(calls.iter().map(|(name, count)| (name.to_string(), *count))),
        object(waits.iter().map(|(call, count)| (call.to_string(), *count))),
    );
    let file = std::path::Path::new(&folder).join(format!("{}.json", std::process::id()));
    if let Err(error) = std::fs::write(&file, text) {
        crate::report::once(&format!("{} cannot be written: {error}", file.display()));
    }
}

/// A JSON object of counts; names are identifiers.
fn object(counts: impl Iterator<Item = (String, u64)>) -> String {
    let mut text = String::from("{");
    for (index, (name, count)) in counts.enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}\"{name}\": {count}");
    }
    text.push('}');
    text
}
