//! `farpool-worker`: executes the CUDA calls of one client process.
//!
//! `serve` is what the acceptor starts for each connection; `inventory` prints what GPUs there are.

mod account;
mod admission;
mod assignment;
mod bulk;
mod callbacks;
mod control;
mod counters;
mod end;
mod footprint;
mod frees;
mod gauge;
mod generated;
mod graphs;
mod handles;
mod inbox;
mod inventory;
mod lanes;
mod launches;
mod manual;
mod memory;
mod outbox;
mod output;
mod parked;
mod pools;
mod progress;
mod sandbox;
mod send_queue;
mod serve;
mod snapshot;
mod staging;
mod streams;
mod waits;
mod wake;
mod window;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

const USAGE: &str = "usage: farpool-worker serve\n       farpool-worker inventory --driver PATH\n";

/// sysexits.h: the command line is wrong.
const EX_USAGE: u8 = 64;
/// sysexits.h: there is no usable GPU.
const EX_UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve"] => match serve::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error:#}");
                ExitCode::FAILURE
            }
        },
        ["inventory", "--driver", path] => match inventory::collect(&PathBuf::from(path)) {
            Ok(inventory) => {
                println!("{inventory}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("farpool-worker: {error:#}");
                ExitCode::from(EX_UNAVAILABLE)
            }
        },
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(EX_USAGE)
        }
    }
}
